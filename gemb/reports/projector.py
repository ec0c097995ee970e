"""Writes vectors as files for TensorBoard's projector."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemb.files import atomic_file
from gemb.reports.wording import shortened


def write_tables(
    folder: Path, named: Sequence[tuple[str, np.ndarray, Sequence[str], Sequence[str]]]
) -> None:
    """Writes tables and projector_config.pbtxt: `tensorboard --logdir=FOLDER`, tab Projector.

    Args:
        folder: the folder to write; it is created if it is missing.
        named: (name, vectors [points, dim], texts, groups) of each table.

    Raises:
        UserError: if the disk is full or the folder cannot be written.
    """
    config = []
    for name, vectors, texts, groups in named:
        stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
        about = (map(shortened, pair) for pair in zip(texts, groups, strict=True))
        tables = {
            "tensors": ("\t".join(f"{x:.6g}" for x in row) for row in vectors),
            "metadata": ("text\tgroup", *map("\t".join, about)),
        }
        for what, lines in tables.items():
            with atomic_file(folder / f"{stem}.{what}.tsv") as temporary:
                temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        config.append(
            f'embeddings {{\n  tensor_name: "{stem}"\n  tensor_path: "{stem}.tensors.tsv"\n'
            f'  metadata_path: "{stem}.metadata.tsv"\n}}\n'
        )
    with atomic_file(folder / "projector_config.pbtxt") as temporary:
        temporary.write_text("".join(config), encoding="utf-8")
