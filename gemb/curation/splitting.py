"""Splits a file into parts that share no texts: whole groups of records go to one part.

Records belong together when a text is the same (case, spacing, quotes and sentence marks aside) in
one of the columns, or near-duplicate where a model is given; and so does what these belong to.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.curation import report
from gemb.curation.chunks import write_rows
from gemb.curation.duplicates import near_duplicates
from gemb.curation.duplicates.near_duplicates import Likeness
from gemb.curation.duplicates.texts import text_key
from gemb.curation.duplicates.union import groups
from gemb.curation.inputs import Kept
from gemb.curation.tables import Texts, distinct
from gemb.data.randomness import bits
from gemb.data.sources.records import digest
from gemb.store import Encoder, encoded

_OFF = 0.02  # a part's share may differ this much from the requested share without a warning


def split_records(
    records: Kept,
    columns: Sequence[str],
    output: str | Path,
    *,
    parts: Mapping[str, float],
    seed: int = 0,
    encoder: Encoder | None = None,
    likeness: Likeness = near_duplicates.DEFAULT,
    about: dict | None = None,
    progress: bool = True,
) -> dict:
    """Writes OUTPUT/NAME.jsonl for each part, records in their order, and a report.

    The order of groups depends on the seed and their texts, not on their positions in the
    file; it is cut according to the parts' shares of the records.

    Args:
        records: what to read, see `inputs.read_texts`.
        columns: records that share the value of one of them go to one part.
        output: folder to write into.
        parts: name -> share of the records; together 1.
        seed: seed of the order.
        encoder: a model that finds near-duplicates, which then go to the same part; None for none.
        likeness: when two texts count as near-duplicates.
        about: what to name in the report.
        progress: whether to show bars.

    Returns:
        The content of results.json.

    Raises:
        UserError: for bad parts, or too few groups to fill them.
    """
    _check_parts(parts)
    started, output = time.monotonic(), Path(output)
    owner, keys, places = _values(records, columns)
    once, first, number = distinct(keys)
    texts = Texts(len(once), lambda value: _text(records, columns, places[int(first[value])]))
    joined = _near(texts, records, columns, encoder, output, likeness, progress)
    # Records first, values behind them, in one graph.
    edges = np.stack([owner, number + len(records)], axis=1)
    edges = np.concatenate([edges, joined + len(records)])
    group_of = groups(len(records) + len(once), edges)[: len(records)]
    names = _assign(group_of, owner, keys, parts, seed)
    sizes = np.bincount(names, minlength=len(parts))
    if not sizes.all():
        empty = list(parts)[int(np.argmin(sizes))]
        raise UserError(
            f"the part {empty!r} is empty: {len(np.unique(group_of)):,} groups, the largest of "
            f"{np.unique(group_of, return_counts=True)[1].max():,} of {len(records):,} records; "
            "group by fewer columns"
        )
    for place, name in enumerate(parts):
        rows = np.flatnonzero(names == place)
        write_rows(output / f"{name}.jsonl", (records[int(row)] for row in rows))
    results = _results(records, columns, parts, seed, group_of, names, about or {})
    results["counts"]["near_duplicates_joined"] = len(joined)
    results["seconds"] = round(time.monotonic() - started, 1)
    sizes = np.unique(group_of, return_counts=True)[1]
    examples = _examples(records, columns, group_of, names, list(parts))
    report.write(output, results, {"Records of a group": {"groups": sizes.tolist()}}, examples)
    return results


def _check_parts(parts: Mapping[str, float]) -> None:
    shares = list(parts.values())
    if len(parts) < 2 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        shown = ", ".join(f"{name}:{share}" for name, share in parts.items())
        raise UserError(
            f"parts: expected two or more shares above 0 that make 1, such as train:0.9,test:0.1; "
            f"got {shown or 'none'}"
        )
    for name in parts:
        if not name or "/" in name or name in ("work",):
            raise UserError(f"parts: {name!r} is not a valid file name")


def _values(records: Kept, columns: Sequence[str]) -> tuple[np.ndarray, np.ndarray, list]:
    """Record number and key of every value in the columns, and (record, column, item) of it."""
    owner, keys, places = [], [], []
    for row in range(len(records)):
        record = records[row]
        for column, name in enumerate(columns):
            for item, value in enumerate(_items(record[name])):
                owner.append(row)
                keys.append(text_key(value))
                places.append((row, column, item))
    return np.array(owner, np.int64), np.array(keys, np.uint64), places


def _items(value) -> list[str]:
    items = value if isinstance(value, list | tuple) else [value]
    return [str(item) for item in items]


def _text(records: Kept, columns: Sequence[str], place: tuple[int, int, int]) -> str:
    row, column, item = place
    return _items(records[row][columns[column]])[item]


def _near(
    texts: Texts,
    records: Kept,
    columns: Sequence[str],
    encoder: Encoder | None,
    output: Path,
    likeness: Likeness,
    progress: bool,
) -> np.ndarray:
    """[edges, 2] values that are near-duplicates; none without a model."""
    if encoder is None:
        return np.zeros((0, 2), np.int64)
    content = digest(records.fingerprint, "values", *columns)
    work = output / "work"
    vectors = encoded(
        encoder, texts, work, kind="document", content=content, unit=True, progress=progress
    )
    key = digest(encoder.fingerprint, content)
    return near_duplicates.near_duplicates(
        texts, vectors, work, key=key, likeness=likeness, progress=progress
    ).edges


def _assign(group_of, owner, keys, parts: Mapping[str, float], seed: int) -> np.ndarray:
    """[records] the number of each record's part."""
    ids, number, sizes = np.unique(group_of, return_inverse=True, return_counts=True)
    least = np.full(len(ids), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, number[owner], keys)  # names a group wherever its records stand
    order = np.argsort(bits(seed, least), kind="stable")
    middle = np.cumsum(sizes[order]) - sizes[order] / 2
    ends = np.cumsum(list(parts.values()))[:-1] * len(group_of)
    part_of = np.empty(len(ids), np.int64)
    part_of[order] = np.searchsorted(ends, middle, side="right")
    return part_of[number]


def _results(records, columns, parts, seed, group_of, names, about) -> dict:
    sizes = np.unique(group_of, return_counts=True)[1]
    counts = records.counts | {"groups": len(sizes), "largest_group": int(sizes.max())}
    warnings = []
    for place, (name, asked) in enumerate(parts.items()):
        inside = names == place
        counts[f"{name}_records"] = int(inside.sum())
        counts[f"{name}_groups"] = len(np.unique(group_of[inside]))
        came = float(inside.mean())
        if abs(came - asked) > _OFF:
            warnings.append(f"{name}: {came:.1%} of the records where {asked:.1%} was asked")
    settings = about | {"columns": list(columns), "parts": dict(parts), "seed": seed}
    rates = {"records in the largest group": float(sizes.max() / len(group_of))}
    return report.results("split", settings, counts, rates, warnings=warnings)


def _examples(records, columns, group_of, names, parts: list[str]) -> list[dict]:
    """Some of the groups of two or more records."""
    ids, first, sizes = np.unique(group_of, return_index=True, return_counts=True)
    shown = []
    for place in report.spread(np.flatnonzero(sizes > 1).tolist() or list(range(len(ids)))):
        rows = np.flatnonzero(group_of == ids[place])[:5]
        lines = [
            (records.where(int(row)), " | ".join(_items(records[int(row)][columns[0]])))
            for row in rows
        ]
        part = parts[names[first[place]]]
        shown.append(report.example(f"{part}: {sizes[place]} records", lines))
    return shown
