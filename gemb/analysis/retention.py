"""What students keep of their teacher: quality by task and width, speed, size, score agreement.

The input is the tree of `gemb.evaluation.suite.summary` for the teacher and its students;
`gemb.reports.retention_page` shows the result.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gemb.files import write_json
from gemb.metrics.correlation import spearman
from gemb.reports.retention_page import write_retention_page

RESULTS, REPORT = "retention.json", "retention.html"
_PAIRS = 1000  # pairs of texts whose scores are reported
_TURNS = 3


def measure_retention(
    tree: Mapping[str, Any], embedders: Mapping[str, Any], teacher: str, texts: Sequence[str]
) -> dict[str, Any]:
    """Compares all other models with the teacher.

    Args:
        tree: from `gemb.evaluation.suite.summary`, over all of `embedders`.
        embedders: name -> `gemb.Embedder`.
        teacher: the name of the teacher among them.
        texts: texts to time and to score, from `gemb.evaluation.tasks.sample_texts`.

    Returns:
        "teacher"; "kept" (task, or "mean of tasks" -> student -> width -> share of the teacher's
        main figure at full width); "speed" (model -> texts per second), "bytes" (model -> bytes of
        its weights in float32); "scores" (student -> {"teacher", "student": cosines of the same
        pairs of texts, "spearman"}); "front" (model -> its mean of tasks at full width).
    """
    students = [name for name in embedders if name != teacher]
    rows = {task: (tree["results"][task], info["main"]) for task, info in tree["tasks"].items()}
    rows["mean of tasks"] = (tree["averages"], "tasks")
    vectors, speed = _timed(embedders, texts)
    scores = {name: _cosines(rows_) for name, rows_ in vectors.items()}
    return {
        "teacher": teacher,
        "kept": {
            task: {name: _kept(by_model[name], by_model[teacher], main) for name in students}
            for task, (by_model, main) in rows.items()
        },
        "speed": speed,
        "bytes": {name: _size(model) for name, model in embedders.items()},
        "scores": {
            name: {
                "teacher": scores[teacher].tolist(),
                "student": scores[name].tolist(),
                "spearman": float(spearman(scores[teacher], scores[name])),
            }
            for name in students
        },
        "front": {name: _full(tree["averages"][name])["tasks"] for name in embedders},
    }


def report_retention(output: str | Path, *compared) -> dict[str, Any]:
    """Writes retention.json and retention.html.

    Args:
        output: the folder to write.
        *compared: as for `measure_retention`.

    Returns:
        The content of retention.json.

    Raises:
        UserError: if a file cannot be written.
    """
    kept = measure_retention(*compared)
    write_json(Path(output) / RESULTS, kept)
    write_retention_page(Path(output) / REPORT, kept)
    return kept


def _kept(student: Mapping[str, Any], teacher: Mapping[str, Any], main: str) -> dict:
    full = _full(teacher)[main]
    return {width: row[main] / full if full > 0 else None for width, row in student.items()}


def _full(by_width: Mapping[str, Any]) -> Mapping[str, float]:
    return by_width[max(by_width, key=int)]


def _timed(embedders: Mapping[str, Any], texts: Sequence[str]) -> tuple[dict, dict]:
    """Vectors of the texts, and texts per second, by model; the first turn only compiles."""
    vectors = {name: model.encode(texts, kind="document") for name, model in embedders.items()}
    best = dict.fromkeys(embedders, float("inf"))
    for _ in range(_TURNS):
        for name, model in embedders.items():
            start = time.perf_counter()
            model.encode(texts, kind="document")
            best[name] = min(best[name], time.perf_counter() - start)
    return vectors, {name: len(texts) / seconds for name, seconds in best.items()}


def _cosines(vectors: np.ndarray) -> np.ndarray:
    """Scores of the same pairs of rows for every model, evenly spaced among all pairs."""
    left, right = np.triu_indices(len(vectors), 1)
    chosen = np.unique(np.linspace(0, len(left) - 1, min(_PAIRS, len(left))).astype(int))
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.einsum("nd,nd->n", unit[left[chosen]], unit[right[chosen]])


def _size(model: Any) -> int:
    return sum(4 * int(np.size(value)) for value in model.model.params.values())
