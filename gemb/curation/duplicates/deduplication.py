"""Removes near-duplicates from a file: one record of each cluster is kept.

Copies that differ in case, spacing, quotes and sentence marks are found by their normalised texts,
others by `near_duplicates.py`; chains of duplicates form one cluster.
"""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.curation import report
from gemb.curation.chunks import write_rows
from gemb.curation.duplicates import near_duplicates
from gemb.curation.duplicates.near_duplicates import Likeness
from gemb.curation.duplicates.texts import text_keys
from gemb.curation.duplicates.union import groups
from gemb.curation.inputs import Kept
from gemb.curation.tables import Texts, distinct
from gemb.data.sources.records import digest
from gemb.store import Encoder, encoded

KEPT, CLUSTERS = "kept.jsonl", "clusters.jsonl"
KEEP = ("first", "longest")


def deduplicate(
    records: Kept,
    columns: Sequence[str],
    encoder: Encoder,
    output: str | Path,
    *,
    keep: str = "first",
    likeness: Likeness = near_duplicates.DEFAULT,
    search: str = "auto",
    dtype: str = "float32",
    about: dict | None = None,
    progress: bool = True,
) -> dict:
    """Writes OUTPUT/kept.jsonl, with one unchanged record per cluster, and clusters.jsonl.

    A line of clusters.jsonl is a cluster of two or more: {"kept": text, "where": file and line,
    "removed": [{"text", "where", "score"}]}; score is the cosine of the nearest other member, null
    for a copy by normalised text.

    Args:
        records: what to read, see `inputs.read_texts`.
        columns: the columns whose texts, joined by newlines, are compared.
        encoder: a `gemb.Embedder`.
        output: folder to write into.
        keep: which record of a cluster to keep: the "first" or the "longest" (the first of these).
        likeness: when two texts count as near-duplicates.
        search: "auto", "exact" or "scann".
        dtype: of the vectors on disk.
        about: what to name in the report.
        progress: whether to show bars.

    Returns:
        The content of results.json.

    Raises:
        UserError: for a bad setting, or a place that cannot be written.
    """
    if keep not in KEEP:
        raise UserError(f"keep: expected one of {', '.join(KEEP)}, got {keep!r}")
    started, output, work = time.monotonic(), Path(output), Path(output) / "work"
    texts = texts_of_columns(records, columns)
    _, first, number = distinct(text_keys(texts[row] for row in range(len(texts))))
    once = Texts(len(first), lambda row: texts[int(first[row])])
    content = digest(records.fingerprint, *columns)
    options = {"kind": "document", "content": content, "dtype": dtype, "progress": progress}
    vectors = encoded(encoder, once, work, unit=True, **options)
    key = digest(encoder.fingerprint, content, dtype)
    options = {"key": key, "likeness": likeness, "search": search, "progress": progress}
    near = near_duplicates.near_duplicates(once, vectors, work, **options)
    clusters = _clusters(groups(len(once), near.edges)[number], texts, keep)
    removed = {row for chosen, members in clusters for row in members if row != chosen}
    write_rows(output / KEPT, (records[row] for row in range(len(records)) if row not in removed))
    nearest = _nearest(near, len(once))
    rows = [_row(*cluster, texts, records, number, nearest) for cluster in clusters]
    write_rows(output / CLUSTERS, rows)
    settings = {"columns": list(columns), "keep": keep, **dataclasses.asdict(likeness)}
    counts = _counts(records, removed, len(texts) - len(once), clusters) | near.counts
    rates = {"records removed": len(removed) / len(records)}
    results = report.results("dedup", (about or {}) | settings, counts, rates)
    results["seconds"] = round(time.monotonic() - started, 1)
    shown = {"Cosine": {"compared": near.proposed, "near-duplicates": report.sample(near.scores)}}
    report.write(output, results, shown, [_example(row) for row in report.spread(rows)])
    return results


def _counts(records: Kept, removed: set[int], copies: int, clusters: list) -> dict[str, int]:
    return {
        **records.counts,
        "kept": len(records) - len(removed),
        "removed": len(removed),
        "removed_as_copies": copies,
        "clusters": len(clusters),
        "largest_cluster": max((len(members) for _, members in clusters), default=1),
    }


def texts_of_columns(records: Kept, columns: Sequence[str]) -> Texts:
    """The texts that are compared: those of the columns, joined by newlines."""

    def read(row: int) -> str:
        record = records[row]
        return "\n".join(record[column] for column in columns)

    return Texts(len(records), read)


def _clusters(cluster_of: np.ndarray, texts: Texts, keep: str) -> list[tuple[int, list[int]]]:
    """(the record that stays, all members in order) of clusters of two or more."""
    order = np.argsort(cluster_of, kind="stable")
    runs = np.split(order, np.flatnonzero(np.diff(cluster_of[order])) + 1)
    found = [run.tolist() for run in runs if len(run) > 1]
    if keep == "first":
        return [(members[0], members) for members in found]
    return [(max(members, key=lambda row: len(texts[row])), members) for members in found]


def _nearest(near: near_duplicates.Near, count: int) -> dict[int, float]:
    """The highest cosine of each text that has a near-duplicate."""
    best: dict[int, float] = defaultdict(lambda: -1.0)
    for (a, b), score in zip(near.edges.tolist(), near.scores.tolist(), strict=True):
        best[a], best[b] = max(best[a], score), max(best[b], score)
    return best


def _row(chosen: int, members: list[int], texts: Texts, records: Kept, number, nearest) -> dict:
    def about(row: int) -> dict:
        copy = number[row] == number[chosen]
        score = None if copy else nearest.get(int(number[row]))
        return {"text": texts[row], "where": records.where(row), "score": score}

    kept = {"kept": texts[chosen], "where": records.where(chosen)}
    return kept | {"removed": [about(row) for row in members if row != chosen]}


def _example(row: dict) -> dict:
    lines = [
        ("copy" if other["score"] is None else f"cosine {other['score']:.3f}", other["text"])
        for other in row["removed"]
    ]
    return report.example(row["kept"], lines[:5])
