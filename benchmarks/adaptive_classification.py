"""Classification that stops at the first width that is sure: accuracy against the width it took.

    python benchmarks/adaptive_classification.py --folder=banking77

The folder holds train.tsv, test.tsv and, perhaps, val.tsv (or .tsv.gz) with columns text and label.
Vectors are all-MiniLM-L6-v2's, turned onto the principal axes of the training texts, which nests
them; a head for each width (MRL) or one for all (MRL-E); thresholds on the largest probability are
learned on val, or on a sixth of the training texts where there is none.
"""

import argparse
from pathlib import Path

import numpy as np
from workers import show

from gemb import search
from gemb.analysis import adaptive
from gemb.data.sources.reading import files
from gemb.inference.embedder import Embedder

WIDTHS = (12, 24, 48, 96, 192, 384)


def read(folder: Path, name: str) -> tuple[list[str], list[str]]:
    """Texts and labels of a part; empty where there is no such file."""
    for path in folder.glob(f"{name}.tsv*"):
        records = files(path)
        rows = [records[row] for row in range(len(records))]
        return [row["text"] for row in rows], [row["label"] for row in rows]
    return [], []


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--tolerance", type=float, default=0.005, help="accuracy to give up on val")
    options = parser.parse_args()
    embedder = Embedder.load(options.model)
    parts = {name: read(options.folder, name) for name in ("train", "val", "test")}
    known = {label for _, labels in parts.values() for label in labels}
    number = {label: i for i, label in enumerate(sorted(known))}
    made = {
        name: (embedder.encode(texts, progress=name), np.array([number[label] for label in labels]))
        for name, (texts, labels) in parts.items()
        if texts
    }
    if "val" not in made:
        vectors, labels = made["train"]
        order = np.random.default_rng(0).permutation(len(labels))
        held, rest = np.split(order, [len(labels) // 6])
        made["val"], made["train"] = ((vectors[p], labels[p]) for p in (held, rest))
    axes = search.principal_axes(made["train"][0])
    turned = {name: (vectors @ axes, labels) for name, (vectors, labels) in made.items()}
    turned["validation"] = turned.pop("val")
    for tied in (False, True):
        found = adaptive.evaluate_adaptive(turned, WIDTHS, tied=tied, tolerance=options.tolerance)
        rounded = {name: round(value, 4) for name, value in found.items()}
        show(task=options.folder.name, heads="MRL-E" if tied else "MRL", **rounded)


if __name__ == "__main__":
    main()
