"""Classifiers of texts: nested heads over a model's vectors, with thresholds for an early exit.

A classifier is a folder, and belongs to one model:

classifier.json       format, version, labels, thresholds, and the model by place and fingerprint
heads.safetensors     "WIDTH/weights", "WIDTH/bias", and "axes" where vectors are turned first

The encoder computes whole vectors in any case: what an early exit saves is the coordinates that are
stored, sent and read by heads, see `computed_width`.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb import checks, metrics
from gemb.analysis.adaptive import Head, fit_heads, learn_thresholds, probabilities
from gemb.checks import UserError
from gemb.files import atomic_folder, read_manifest, save_tensors
from gemb.metrics.significance import mean_interval, paired_bootstrap
from gemb.search import principal_axes

FORMAT, VERSION, MANIFEST, HEADS = "gemb classifier", 1, "classifier.json", "heads.safetensors"
MADE_BY = "gemb classify train --model=MODEL --input=FILE --output=FOLDER"
_FIELDS = {"model": str, "encoder": str, "labels": list, "thresholds": dict, "tied": bool}
_NARROWEST, _HELD_OUT, _RESAMPLES = 8, 5, 1_000


class Decision(NamedTuple):
    """What a classifier decides of texts.

    Attributes:
        classes: [texts] int64, numbers of labels.
        widths: [texts] int64, the width at which each text left.
        probabilities: [texts, labels] float32 of that width's head.
    """

    classes: np.ndarray
    widths: np.ndarray
    probabilities: np.ndarray


@dataclasses.dataclass(frozen=True)
class Classifier:
    """Heads and thresholds by width.

    Attributes:
        labels: the classes, in the order of their numbers.
        heads: width -> head, narrowest first.
        thresholds: width -> least probability to leave there.
        model: fingerprint of the model whose vectors it reads.
        encoder: where that model was.
        axes: [dim, dim] float32, by which vectors are multiplied first, so that leading coordinates
            hold most of what differs; None for a model that was trained with nested widths.
        tied: whether heads share the rows of one matrix.
    """

    labels: tuple[str, ...]
    heads: dict[int, Head]
    thresholds: dict[int, float]
    model: str
    encoder: str
    axes: np.ndarray | None = None
    tied: bool = False

    @property
    def widths(self) -> list[int]:
        """Narrowest first."""
        return sorted(self.heads)

    def decide(self, vectors: np.ndarray) -> Decision:
        """Classifies vectors: a wider head is computed only for texts that stay.

        Args:
            vectors: [texts, dim] float32, whole vectors of the model.
        """
        turned = self.turned(vectors)
        rows = np.arange(len(turned))
        used = np.full(len(turned), self.widths[-1])
        found = np.zeros((len(turned), len(self.labels)), np.float32)
        for width in self.widths:
            [table] = probabilities({width: self.heads[width]}, turned[rows]).values()
            found[rows], used[rows] = table, width
            rows = rows[table.max(axis=1) < self.thresholds[width]]
            if not len(rows):
                break
        return Decision(found.argmax(axis=1), used, found)

    def turned(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors as the heads read them."""
        vectors = np.asarray(vectors, np.float32)
        return vectors if self.axes is None else vectors @ self.axes

    def check_model(self, fingerprint: str) -> None:
        """Refuses another model.

        Raises:
            UserError: naming both fingerprints.
        """
        if fingerprint != self.model:
            raise UserError(
                f"the classifier is of the model with fingerprint {self.model} ({self.encoder}), "
                f"but this model has {fingerprint}; train the classifier again"
            )

    def save(self, folder: str | Path) -> None:
        """Writes the folder, whole or not at all.

        Raises:
            UserError: it cannot be written.
        """
        tensors = {} if self.axes is None else {"axes": self.axes}
        for width, head in self.heads.items():
            tensors |= {f"{width}/weights": head.weights, f"{width}/bias": head.bias}
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model,
            "encoder": self.encoder,
            "labels": list(self.labels),
            "thresholds": {str(width): self.thresholds[width] for width in self.widths},
            "tied": self.tied,
        }
        with atomic_folder(folder) as made:
            save_tensors(made / HEADS, tensors)
            text = json.dumps(manifest, indent=1, ensure_ascii=False)
            (made / MANIFEST).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> "Classifier":
        """Reads a folder that `save` wrote.

        Raises:
            UserError: for another folder, or a damaged one.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        root = Path(folder).expanduser()
        about = read_manifest(root / MANIFEST, FORMAT, VERSION, _FIELDS, MADE_BY)
        try:
            tensors = load_file(root / HEADS)
            labels = tuple(map(str, about["labels"]))
            thresholds = {int(width): float(v) for width, v in about["thresholds"].items()}
            heads = {w: Head(tensors[f"{w}/weights"], tensors[f"{w}/bias"]) for w in thresholds}
            for width, head in heads.items():
                shapes = head.weights.shape, head.bias.shape
                if shapes != ((width, len(labels)), (len(labels),)):
                    raise ValueError(f"the head of width {width} has shapes {shapes}")
                if not all(np.isfinite(each).all() for each in head):
                    raise ValueError(f"the head of width {width} has numbers that are not finite")
            if not heads:
                raise ValueError("no heads")
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise UserError(f"{root}: damaged ({error}); make it with `{MADE_BY}`") from None
        return cls(
            labels, heads, thresholds, about["model"], about["encoder"], tensors.get("axes"),
            about["tied"],
        )  # fmt: skip


def nested_widths(dim: int) -> list[int]:
    """Halves of a dim, down to 8, narrowest first.

    Example:
        >>> nested_widths(384)
        [12, 24, 48, 96, 192, 384]
    """
    return [dim >> n for n in range(20) if dim >> n >= min(dim, _NARROWEST)][::-1]


def held_out(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """[texts] bool: a random fifth of each class, whose first text always stays.

    Args:
        labels: [texts] integer classes.
        seed: of the draw.
    """
    rng, chosen = np.random.default_rng(seed), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        chosen[rows[: len(rows) // _HELD_OUT]] = True
    return chosen


def train_classifier(
    vectors: np.ndarray,
    labels: Sequence[str],
    *,
    model: str,
    encoder: str,
    widths: Sequence[int] = (),
    validation: tuple[np.ndarray, Sequence[str]] | None = None,
    nested: bool = False,
    tied: bool = False,
    tolerance: float = 0.0025,
    seed: int = 0,
) -> Classifier:
    """Fits heads, and thresholds on other texts.

    Args:
        vectors: [texts, dim] float32 of the model.
        labels: one of each text.
        model: fingerprint of the model.
        encoder: its place.
        widths: of the heads; the widest is the whole vector; default `nested_widths`.
        validation: vectors and labels on which thresholds are learned; default a fifth of the
            texts, which the heads then do not see.
        nested: whether the model was trained with nested widths; otherwise vectors are turned onto
            their principal axes first.
        tied: see `gemb.analysis.adaptive.fit_heads`.
        tolerance: see `gemb.analysis.adaptive.learn_thresholds`.
        seed: of the held out texts.

    Raises:
        UserError: fewer than two labels, a label of validation that training has not, or too few
            texts to hold some out.
        ValueError: widths outside 1 to dim.
    """
    names = sorted(set(labels))
    if len(names) < 2:
        raise UserError(f"expected two labels or more, got {len(names)}")
    number = {name: row for row, name in enumerate(names)}
    classes = np.array([number[name] for name in labels])
    dim = vectors.shape[1]
    widths = sorted({*checks.check_widths("widths", widths or nested_widths(dim), dim), dim})
    axes = None if nested else np.asarray(principal_axes(vectors), np.float32)
    if validation is None:
        held = held_out(classes, seed)
        if not held.any():
            raise UserError(
                f"no label has {_HELD_OUT} texts, so none can be held out for thresholds; give "
                "more texts, or a file of others for validation"
            )
        validation = vectors[held], [labels[row] for row in np.flatnonzero(held)]
        vectors, classes = vectors[~held], classes[~held]
    unknown = sorted(set(validation[1]) - set(names))
    if unknown:
        raise UserError(f"validation: no text of training has the label {unknown[0]!r}")
    made = Classifier(tuple(names), {}, {}, model, encoder, axes, tied)
    heads = fit_heads(made.turned(vectors), classes, widths, tied=tied)
    by_width = probabilities(heads, made.turned(validation[0]))
    truth = np.array([number[name] for name in validation[1]])
    thresholds = learn_thresholds(by_width, truth, tolerance=tolerance)
    return dataclasses.replace(made, heads=heads, thresholds=thresholds)


def evaluate_classifier(
    classifier: Classifier, vectors: np.ndarray, labels: Sequence[str], *, seed: int = 0
) -> dict:
    """Figures on texts that training did not see.

    Args:
        classifier: from `train_classifier`.
        vectors: [texts, dim] float32 of its model.
        labels: one of each text; a label that the classifier does not know is never right.
        seed: of the resamples.

    Returns:
        "texts", "unknown_labels" (texts whose label the classifier does not know), "accuracy" and
        "macro_f1" with early exit, each {"value", "low", "high"} with a 95 % interval over
        resamples of the texts; "full" the same of the widest head; "loss", accuracy of the widest
        head minus that with early exit, likewise; "early" the share that leaves before the widest
        head; "mean_width" at the exit, "computed_width" that heads read in all, and "widths": for
        each head "width", "threshold", "accuracy" and "macro_f1" on all texts, the "share" that
        leaves there and its accuracy "accuracy_there"; None where none does.
    """
    checks.check(len(labels) == len(vectors), "labels: expected one of each vector")
    checks.check(len(labels) > 0, "labels: expected at least one text")
    number = {name: row for row, name in enumerate(classifier.labels)}
    others = sorted(set(labels) - set(number))
    number |= {name: len(classifier.labels) + row for row, name in enumerate(others)}
    truth = np.array([number[name] for name in labels])
    decided, widths = classifier.decide(vectors), classifier.widths
    turned = classifier.turned(vectors)
    alone = {
        width: table.argmax(axis=1)
        for width, table in probabilities(classifier.heads, turned).items()
    }
    right, full = decided.classes == truth, alone[widths[-1]] == truth
    loss = paired_bootstrap(right, full, samples=_RESAMPLES, seed=seed)
    rows = []
    for width in widths:
        there = decided.widths == width
        rows.append(
            {
                "width": width,
                "threshold": classifier.thresholds[width],
                "accuracy": _accuracy(alone[width] == truth, seed),
                "macro_f1": metrics.macro_f1(truth, alone[width]),
                "share": float(there.mean()),
                "accuracy_there": float(right[there].mean()) if there.any() else None,
            }
        )
    tried = np.cumsum(widths)[np.searchsorted(widths, decided.widths)]
    return {
        "texts": len(truth),
        "unknown_labels": int(np.sum(truth >= len(classifier.labels))),
        "accuracy": _accuracy(right, seed),
        "macro_f1": _macro_f1(truth, decided.classes, seed),
        "full": {
            "accuracy": _accuracy(full, seed),
            "macro_f1": _macro_f1(truth, alone[widths[-1]], seed),
        },
        "loss": {"value": loss.difference, "low": loss.low, "high": loss.high},
        "early": float(np.mean(decided.widths < widths[-1])),
        "mean_width": float(decided.widths.mean()),
        "computed_width": float(decided.widths.mean() if classifier.tied else tried.mean()),
        "widths": rows,
    }


def _accuracy(right: np.ndarray, seed: int) -> dict[str, float]:
    low, high = mean_interval(right.astype(np.float64), samples=_RESAMPLES, seed=seed)
    return {"value": float(right.mean()), "low": low, "high": high}


def _macro_f1(truth: np.ndarray, predicted: np.ndarray, seed: int) -> dict[str, float]:
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(_RESAMPLES):
        rows = rng.integers(0, len(truth), len(truth))
        drawn.append(metrics.macro_f1(truth[rows], predicted[rows]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    value = metrics.macro_f1(truth, predicted)
    return {"value": value, "low": float(low), "high": float(high)}
