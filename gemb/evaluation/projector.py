"""Vectors of tasks for TensorBoard's projector."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gemb.evaluation.encoding import Encoder
from gemb.evaluation.projection import encode_points, shortened, task_points
from gemb.evaluation.tasks import Task
from gemb.files import atomic_file

_LIMIT = 10_000  # points of a task: what the projector still turns smoothly


def write_projector(folder: Path, tasks: Sequence[Task], encoders: Mapping[str, Encoder]) -> None:
    """Writes tables and projector_config.pbtxt: `tensorboard --logdir=FOLDER`, tab Projector.

    Args:
        folder: where; made where it is missing.
        tasks: those of kinds that a map tells something of are written.
        encoders: name -> model.

    Raises:
        UserError: the disk is full or the place cannot be written.
    """
    named = []
    for task in tasks:
        points = task_points(task, _LIMIT)
        for name, encoder in encoders.items() if points else ():
            vectors = encode_points(encoder, task, points, f"projector, {task.name}")
            named.append((f"{task.name}-{name}", vectors, points.texts, points.groups))
    write_tables(folder, named)


def write_tables(
    folder: Path, named: Sequence[tuple[str, np.ndarray, Sequence[str], Sequence[str]]]
) -> None:
    """Writes (name, vectors [points, dim], texts, groups) of each, and the config of all."""
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
