"""Classification: how far simple classifiers get on frozen vectors.

A logistic probe on all training texts, the same on eight texts a class (as MTEB does it), five
nearest neighbours, and the nearest class centre. scikit-learn fits them.
"""

import warnings
from collections.abc import Mapping

import numpy as np

from gemb import checks, metrics
from gemb.checks import UserError, needs, require
from gemb.evaluation.tasks import tables
from gemb.evaluation.tasks.task_type import Data, Measured, Source, TaskType, every_row

_NEIGHBOURS, _SHOTS, _DRAWS = 5, 8, 10
_ITERATIONS = 100  # of the solver; as MTEB
# The inverse of the penalty. Features of unit-length vectors are small: with scikit-learn's own 1,
# which MTEB keeps, a probe on thousands of texts is held back by two points.
_INVERSE_PENALTY, _FEW_INVERSE_PENALTY = 10.0, 1.0


def evaluate_classification(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Fits classifiers on training vectors and judges them on test vectors.

    Args:
        train: [texts, dim] float32 of unit length.
        train_labels: [texts] integer classes, two at least.
        test: [others, dim] float32 of unit length.
        test_labels: [others] integer classes, all among those of training.
        seed: of the draws of few texts a class.

    Returns:
        "accuracy" and "macro_f1" of a logistic probe (L2, C = 10) on all of `train`, and its
        "calibration_error" over ten bins of its largest probability (`gemb.metrics.reliability`);
        "accuracy_8_shot", the mean accuracy of one with C = 1 over ten draws of eight texts a class
        (fewer where a class has fewer), as MTEB measures it; "knn_accuracy" of the five nearest by
        cosine; "centroid_accuracy" of the nearest class mean by cosine.

    Raises:
        ValueError: shapes that do not fit, one class only, or a test class without training texts.

    Example:
        >>> rows = np.repeat(np.eye(2, dtype=np.float32), 8, axis=0)
        >>> labels = np.repeat([0, 1], 8)
        >>> evaluate_classification(rows, labels, rows[::4], labels[::4])["accuracy"]
        1.0

    Reference: Muennighoff et al., MTEB: Massive Text Embedding Benchmark, 2022, arXiv 2210.07316,
        section 3.2 for the probe on few texts.
    """
    return _evaluate(train, train_labels, test, test_labels, seed).figures


def _evaluate(train, train_labels, test, test_labels, seed: int = 0) -> Measured:
    _check(train, train_labels, test, test_labels)
    predicted, confidence = _probe(train, train_labels, test, _INVERSE_PENALTY)
    few = [
        _probe(train[rows], train_labels[rows], test, _FEW_INVERSE_PENALTY)[0]
        for rows in _few(train_labels, np.random.default_rng(seed))
    ]
    right = {
        "accuracy": predicted == test_labels,
        "accuracy_8_shot": np.mean([one == test_labels for one in few], axis=0),
        "knn_accuracy": _nearest(train, train_labels, test) == test_labels,
        "centroid_accuracy": _centroid(train, train_labels, test) == test_labels,
    }
    items = {name: values.astype(np.float32) for name, values in right.items()}
    figures = {name: float(np.mean(values)) for name, values in right.items()}
    sure = metrics.reliability(confidence, predicted == test_labels)
    figures["macro_f1"] = metrics.macro_f1(test_labels, predicted)
    figures["calibration_error"] = sure.error
    curve = {name: getattr(sure, name).tolist() for name in ("confidence", "accuracy", "counts")}
    return Measured(figures, items, {"reliability": curve})


def _probe(train, labels, test, inverse_penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Classes and their probabilities."""
    with needs("classification", extra="eval"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # One that has not converged by then is taken as it is, as MTEB does.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=inverse_penalty, max_iter=_ITERATIONS)
        table = model.fit(train, labels).predict_proba(test)
    return model.classes_[table.argmax(axis=1)], np.minimum(table.max(axis=1), 1.0)


def _nearest(train, labels, test) -> np.ndarray:
    with needs("classification", extra="eval"):
        from sklearn.neighbors import KNeighborsClassifier

    neighbours = min(_NEIGHBOURS, len(train))
    model = KNeighborsClassifier(neighbours, metric="cosine", algorithm="brute")
    return model.fit(train, labels).predict(test)


def _centroid(train, labels, test) -> np.ndarray:
    classes, rows = np.unique(labels, return_inverse=True)
    centres = np.zeros((len(classes), train.shape[1]))
    np.add.at(centres, rows, train)
    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    centres = np.divide(centres, lengths, out=centres, where=lengths > 0)
    return classes[np.argmax(test @ centres.T, axis=1)]


def _few(labels: np.ndarray, rng: np.random.Generator):
    """Rows of at most eight texts a class, ten times."""
    members = [np.flatnonzero(labels == one) for one in np.unique(labels)]
    for _ in range(_DRAWS):
        yield np.concatenate([rng.permutation(rows)[:_SHOTS] for rows in members])


def _check(train, train_labels, test, test_labels) -> None:
    checks.check_rank("train", train, 2)
    checks.check_shape("train_labels", train_labels, (len(train),))
    checks.check_shape("test", test, (None, train.shape[1]))
    checks.check_shape("test_labels", test_labels, (len(test),))
    known = np.unique(train_labels)
    checks.check(len(known) > 1, f"train_labels: expected two classes or more, got {len(known)}")
    checks.check(len(test) > 0, "test: expected at least one text, got none")
    missing = np.setdiff1d(test_labels, known)
    checks.check(len(missing) == 0, f"test_labels: no training text of the classes {missing}")


def _read(source: Source) -> Data:
    require("sklearn", "classification", extra="eval")  # before texts are encoded for it
    data = {}
    for split in ("train", "test"):
        table = tables.read_table(source.files[split], source.columns)
        data[f"{split}_texts"] = tables.texts(table, "text")
        data[f"{split}_labels"] = list(map(str, table.columns["label"]))
    known = set(data["train_labels"])
    for label, where in zip(data["test_labels"], table.where, strict=True):
        if label not in known:
            raise UserError(f"{where}: no training text has the label {label!r}")
    if len(known) < 2:
        raise UserError(f"{source.files['train']}: only one label, {known.pop()!r}: no task")
    return data


def _measure(vectors: Mapping[str, np.ndarray], data: Data) -> Measured:
    number = {label: i for i, label in enumerate(sorted(set(data["train_labels"])))}
    train, test = (
        np.array([number[label] for label in data[f"{split}_labels"]])
        for split in ("train", "test")
    )
    return _evaluate(vectors["train"], train, vectors["test"], test)


TASK_TYPE = TaskType(
    mains=("accuracy", "accuracy_8_shot", "knn_accuracy", "centroid_accuracy"),
    files=("train", "test"),
    columns={"text": "text", "label": "label"},
    read=_read,
    texts=lambda data: {split: (data[f"{split}_texts"], "document") for split in ("train", "test")},
    measure=_measure,
    sample=lambda data, limit: every_row(data, limit, ("test_texts", "test_labels")),
)
