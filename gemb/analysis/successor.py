"""What a new version of a collection is next to the live one: canaries, drift, comparison.

    reports/drift.json, drift.html             records that came or changed since the live version
    reports/comparison.json, comparison.html   vectors of the records that both versions have

Drift is judged with vectors of the new version only, so that it is measured across a change of
models too: its rows of records that the live version has are the reference, the others the window.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb.analysis.drift import Reference, alerts
from gemb.analysis.drift.inputs import SMALLEST
from gemb.analysis.versions import compare_vectors
from gemb.checks import UserError
from gemb.files import write_json
from gemb.inference.canaries import FILE, Canaries
from gemb.reports.monitoring import write_drift_page, write_versions_page

REPORTS = "reports"
_MOST, _WINDOW, _WINDOWS = 20_000, 5_000, 1_000  # rows measured, rows of the window, null windows
_COMPARED = 10_000  # records whose neighbours are compared


class Collection(NamedTuple):
    """The documents of a version.

    Attributes:
        name: what reports call it.
        ids: one per row.
        texts: of the rows.
        vectors: [rows, dim].
    """

    name: str
    ids: Sequence
    texts: Sequence[str]
    vectors: np.ndarray


def checked_canaries(
    folders: Sequence[Path], fingerprint: str, encode: Callable[..., np.ndarray]
) -> tuple[Canaries, str]:
    """The canaries of a model, checked with the model as it runs now, or made where there are none.

    Args:
        folders: of the model; the first one with canaries counts.
        fingerprint: of the model.
        encode: (texts, kind=side) -> [texts, dim] at the model's full width.

    Returns:
        The canaries, and what was found, in words.

    Raises:
        UserError: the model gives other vectors than when its canaries were written, or the
            canaries are another model's.
    """
    for folder in folders:
        if known := Canaries.read(folder):
            return known, _checked(known, folder, fingerprint, encode)
    return Canaries.made(fingerprint, encode), "written"


def _checked(known: Canaries, folder: Path, fingerprint: str, encode) -> str:
    if known.fingerprint != fingerprint:
        raise UserError(
            f"{folder / FILE}: canaries of the model with fingerprint {known.fingerprint}, but "
            f"this one is {fingerprint}; write them again: `gemb check {folder} --write_canaries`"
        )
    found = known.check(encode)
    if found.broken:
        raise UserError(
            f"{folder}: {found}: the model computes something else than when it was saved (prompt, "
            "truncation, pooling, weights or libraries). Nothing was published. If that is wanted, "
            f"write them again with `gemb check {folder} --write_canaries`"
        )
    return "of another precision" if found.warned else "unchanged"


def attach_reports(folder: Path, new: Collection, live: Collection) -> dict[str, str | float]:
    """Writes the reports of a new version into its folder.

    Args:
        folder: of the version.
        new: what it has.
        live: what the live version has.

    Returns:
        "live", "drift" and "comparison" in words, and "overlap", the share of neighbours that both
        versions have in common, where it was measured.

    Raises:
        UserError: a file that cannot be written.
    """
    place = folder / REPORTS
    place.mkdir(exist_ok=True)
    known = dict(zip(live.ids, range(len(live.ids)), strict=True))
    rows = np.array([known.get(each, -1) for each in new.ids], np.int64)
    same = np.array(
        [row >= 0 and live.texts[row] == text for row, text in zip(rows, new.texts, strict=True)]
    )
    about = {"live": live.name, "drift": _drift(place, new, same)}
    return about | _comparison(place, new, live, rows)


def _drift(place: Path, new: Collection, same: np.ndarray) -> str:
    """Writes the drift report; what it says, in words."""
    before, after = np.flatnonzero(same), np.flatnonzero(~same)
    if not len(after):
        return "no document came or changed"
    size = min(len(after), _WINDOW, len(before) // 2)
    if size < SMALLEST:
        return f"not judged: {len(after)} new next to {len(before)} known documents are too few"
    before, after = _some(before, _MOST), _some(after, size)
    try:
        reference = Reference.fit(
            _rows(new.vectors, before), sizes=(size,), windows=_WINDOWS, repeats=True,
            texts=[new.texts[row] for row in before],
        )  # fmt: skip
        verdict = reference.judge(
            _rows(new.vectors, after), texts=[new.texts[row] for row in after], repeats=True
        )
    except UserError as error:
        return f"not judged: {error}"
    row = {"window": f"new documents of {new.name}", "time": time.time(), **verdict.tree()}
    write_json(place / "drift.json", row)
    write_drift_page(place / "drift.html", [row])
    return alerts.one_line(verdict)


def _comparison(place: Path, new: Collection, live: Collection, rows: np.ndarray) -> dict:
    """Writes the comparison of the records that both versions have."""
    shared = _some(np.flatnonzero(rows >= 0), _COMPARED)
    k = min(10, len(shared) - 2)
    if k < 1:
        return {"comparison": f"not measured: {len(shared)} shared documents are too few"}
    try:
        tree = compare_vectors(
            _rows(live.vectors, rows[shared]), _rows(new.vectors, shared), k=k,
            texts=[new.texts[row] for row in shared],
        )  # fmt: skip
    except UserError as error:
        return {"comparison": f"not measured: {error}"}
    write_json(place / "comparison.json", tree)
    write_versions_page(place / "comparison.html", tree, (live.name, new.name))
    overlap = tree["neighbours"]["overlap"][0]
    said = f"overlap@{k} of neighbours {overlap:.3f} over {len(shared):,} shared documents"
    return {"comparison": said, "overlap": overlap}


def _some(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the rows, drawn at random, in their order."""
    return np.sort(np.random.default_rng(0).permutation(rows)[:most])


def _rows(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.asarray(vectors[rows], np.float32)
