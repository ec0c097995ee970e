"""What students keep of their teacher: quality by task and width, speed, size, likeness of scores.

It takes the tree of `gemb.evaluation.suite.summary` over the teacher and its students, and writes a
page of its own.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gemb.evaluation import figures
from gemb.evaluation.tasks import KINDS, Task
from gemb.files import atomic_file
from gemb.metrics.correlation import spearman
from gemb.reports import html

REPORT = "retention.html"
_SAMPLE, _PAIRS = 256, 1000  # texts that are timed, pairs that are drawn
_TURNS = 3
_KEPT = "Each figure over the teacher's at its full width."
_SPEED = "Texts of the tasks, encoded in turns, best of three; on a busy machine read ratios only."


def retention(
    tree: Mapping[str, Any], embedders: Mapping[str, Any], teacher: str, texts: Sequence[str]
) -> dict[str, Any]:
    """Holds every other model against the teacher.

    Args:
        tree: from `gemb.evaluation.suite.summary`, over all of `embedders`.
        embedders: name -> `gemb.Embedder`.
        teacher: the name of the teacher among them.
        texts: texts to time, and to take scores of; see `sample_texts`.

    Returns:
        "teacher"; "kept" (task, or "mean of tasks" -> student -> width -> share of the teacher's
        main figure at full width); "speed" (model -> texts a second), "bytes" (model -> bytes of
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


def sample_texts(tasks: Sequence[Task], count: int = _SAMPLE) -> list[str]:
    """Texts of all tasks and roles, alike many of each, evenly spaced."""
    roles = [texts for t in tasks for texts, _ in KINDS[t.kind].texts(t.data).values() if texts]
    each = max(1, count // max(1, len(roles)))
    places = [np.unique(np.linspace(0, len(r) - 1, min(each, len(r))).astype(int)) for r in roles]
    found = (texts[place] for texts, row in zip(roles, places, strict=True) for place in row)
    return list(dict.fromkeys(found))


def write_retention(path: str | Path, kept: Mapping[str, Any]) -> None:
    """Writes a self-contained HTML page.

    Raises:
        UserError: the file cannot be written.
    """
    students = ", ".join(kept["scores"])
    parts = [_kept_section(kept), _cost_section(kept), _scores_section(kept)]
    text = html.page(f"gemb: {students}", f"distilled from {kept['teacher']}", parts)
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _kept_section(kept: Mapping[str, Any]) -> str:
    widths = {w for by_model in kept["kept"].values() for row in by_model.values() for w in row}
    widths = sorted(widths, key=int, reverse=True)
    rows = [
        [task, name, *(f"{row[w]:.1%}" if row.get(w) is not None else "–" for w in widths)]
        for task, by_model in kept["kept"].items()
        for name, row in by_model.items()
    ]
    table = html.table(["task", "student", *widths], rows, texts=2)
    return html.section("What students keep", _KEPT, table)


def _cost_section(kept: Mapping[str, Any]) -> str:
    teacher = kept["teacher"]
    rows = [
        [
            name,
            f"{kept['speed'][name]:,.0f}",
            f"{kept['speed'][name] / kept['speed'][teacher]:.2f}",
            f"{kept['bytes'][name] / 2**20:,.1f}",
            f"{kept['bytes'][name] / kept['bytes'][teacher]:.2f}",
        ]
        for name in kept["speed"]
    ]
    head = ["model", "texts/s", "over the teacher's", "MiB, float32", "over the teacher's"]
    points = {n: [(kept["speed"][n], kept["front"][n], n)] for n in kept["speed"]}
    labels = ("texts a second", "mean of tasks")
    drawn = figures.trade_figure("pareto", points, labels, more_is_better=True)
    shown = html.figures({"Quality against speed, at full width": drawn})
    return html.section("Speed and size", _SPEED, html.table(head, rows), shown)


def _scores_section(kept: Mapping[str, Any]) -> str:
    drawn = {
        f"{name}, Spearman {pair['spearman']:.3f}": figures.scatter_figure(
            f"scores-{name}",
            (pair["teacher"], pair["student"]),
            (f"cosine by {kept['teacher']}", f"cosine by {name}"),
        )
        for name, pair in kept["scores"].items()
    }
    about = "The same pairs of texts, of which most have nothing to do with each other."
    return html.section("Scores of student and teacher", about, html.figures(drawn))


def _kept(student: Mapping[str, Any], teacher: Mapping[str, Any], main: str) -> dict:
    full = _full(teacher)[main]
    return {width: row[main] / full if full > 0 else None for width, row in student.items()}


def _full(by_width: Mapping[str, Any]) -> Mapping[str, float]:
    return by_width[max(by_width, key=int)]


def _timed(embedders: Mapping[str, Any], texts: Sequence[str]) -> tuple[dict, dict]:
    """Vectors of the texts, and texts a second, by model; the first turn compiles, untimed."""
    vectors = {name: model.encode(texts, kind="document") for name, model in embedders.items()}
    best = dict.fromkeys(embedders, float("inf"))
    for _ in range(_TURNS):
        for name, model in embedders.items():
            start = time.perf_counter()
            model.encode(texts, kind="document")
            best[name] = min(best[name], time.perf_counter() - start)
    return vectors, {name: len(texts) / seconds for name, seconds in best.items()}


def _cosines(vectors: np.ndarray) -> np.ndarray:
    """Of the same pairs of rows for every model, evenly spaced among all pairs."""
    left, right = np.triu_indices(len(vectors), 1)
    chosen = np.unique(np.linspace(0, len(left) - 1, min(_PAIRS, len(left))).astype(int))
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.einsum("nd,nd->n", unit[left[chosen]], unit[right[chosen]])


def _size(model: Any) -> int:
    return sum(4 * int(np.size(value)) for value in model.model.params.values())
