"""Pairs that a caller gives as Python values: checked, and written as JSON lines for a run."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gemb.checks import UserError, check_names
from gemb.data.forms import Graded, Pairs
from gemb.files import atomic_file

COLUMNS = ("query", "document", "negatives", "score")
_TUPLES = "(query, document) or (query, document, negative, ...)"


@dataclasses.dataclass(frozen=True)
class GivenPairs:
    """Checked pairs.

    Attributes:
        records: {"query", "document"} and, if any record has them, "negatives" and "score".
        negatives: the most hard negatives of a query.
        scored: whether each pair has a grade.
    """

    records: list[dict]
    negatives: int
    scored: bool

    def __len__(self) -> int:
        return len(self.records)

    @property
    def name(self) -> str:
        """A name that depends on the content, for the file."""
        digest = hashlib.sha256()
        for record in self.records:
            digest.update(json.dumps(record, sort_keys=True).encode())
        return f"pairs-{digest.hexdigest()[:12]}"

    def write(self, folder: Path) -> Path:
        """Writes FOLDER/NAME.jsonl, unless it exists."""
        path = folder / f"{self.name}.jsonl"
        if not path.exists():
            with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
                for record in self.records:
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
        return path


def given_pairs(pairs: Any, columns: Mapping[str, str] | None = None) -> GivenPairs:
    """Checks pairs and gives them one form.

    Args:
        pairs: tuples, dicts, a pandas or Arrow table, a Hugging Face dataset, or any sequence of
            these records.
        columns: the names of the columns "query", "document", "negatives", "score", where they
            differ.

    Raises:
        UserError: naming the pair and what is wrong with it.

    Example:
        >>> given_pairs([("a question", "its answer"), ("another", "its own")]).records[0]
        {'query': 'a question', 'document': 'its answer'}
    """
    named = dict(zip(COLUMNS, COLUMNS, strict=True)) | _checked_columns(columns or {})
    rows = list(_rows(pairs))
    if len(rows) < 2:
        few = "is one pair, and each needs others as its negatives" if rows else "are no pairs"
        raise UserError(f"pairs: there {few}")
    kinds = {_kind(number, row) for number, row in enumerate(rows)}
    if len(kinds) > 1:
        raise UserError("pairs: expected either tuples or dicts, got both")
    records = [_record(number, row, named) for number, row in enumerate(rows)]
    graded = [number for number, record in enumerate(records) if "score" in record]
    if graded and len(graded) < len(records):
        missing = next(n for n, record in enumerate(records) if "score" not in record)
        raise UserError(f"pairs[{missing}]: it has no score, but pairs[{graded[0]}] has one")
    most = max(len(record.get("negatives", ())) for record in records)
    if graded and most:
        raise UserError("pairs: scores and negatives do not go together; leave one column out")
    form = Graded(-math.inf, math.inf) if graded else Pairs(most)
    for number, record in enumerate(records):
        try:
            form.admit(record | {"negatives": record.get("negatives", [])})
        except ValueError as error:
            raise UserError(f"pairs[{number}]: {error}") from None
    return GivenPairs(records, most, bool(graded))


def _checked_columns(columns: Mapping[str, str]) -> dict[str, str]:
    check_names("columns", columns, COLUMNS)
    return dict(columns)


def _rows(pairs: Any) -> Iterable:
    """The records of whatever was given, by the methods that tables have."""
    if isinstance(pairs, str | bytes | Mapping):
        raise UserError(f"pairs: expected a list of {_TUPLES}, got {type(pairs).__name__}")
    if hasattr(pairs, "to_pylist"):  # pyarrow.Table
        return pairs.to_pylist()
    if hasattr(pairs, "to_dict") and hasattr(pairs, "columns"):  # pandas.DataFrame
        return pairs.to_dict("records")
    try:
        return list(pairs)
    except TypeError:
        raise UserError(
            f"pairs: expected a sequence of records, got {type(pairs).__name__}"
        ) from None


def _kind(number: int, row: Any) -> type:
    if isinstance(row, Mapping):
        return dict
    if isinstance(row, tuple | list):
        return tuple
    raise UserError(f"pairs[{number}]: expected {_TUPLES} or a dict, got {type(row).__name__}")


def _record(number: int, row: Any, named: Mapping[str, str]) -> dict:
    if not isinstance(row, Mapping):
        if len(row) < 2:
            raise UserError(f"pairs[{number}]: expected {_TUPLES}, got {len(row)} texts")
        query, document, *negatives = row
        made = {"query": query, "document": document}
        return made | ({"negatives": negatives} if negatives else {})
    for name in ("query", "document"):
        if named[name] not in row:
            there = ", ".join(map(repr, row))
            raise UserError(
                f"pairs[{number}]: there is no column {named[name]!r}, only {there}; name the "
                f'columns, as in columns={{"query": "question", "document": "answer"}}'
            )
    made = {
        name: row[column]
        for name, column in named.items()
        if name in ("query", "document") or not _missing(row.get(column))
    }
    negatives = _negatives(number, made.pop("negatives", []))
    if negatives:
        made["negatives"] = negatives
    if "score" in made:
        made["score"] = _score(number, made["score"])
    return made


def _missing(value: Any) -> bool:
    """Whether a cell is empty: None, or NaN as tables have it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _negatives(number: int, negatives: Any) -> list:
    if isinstance(negatives, str):
        return [negatives]
    try:
        return list(negatives)
    except TypeError:
        raise UserError(
            f"pairs[{number}]: negatives: expected texts, got {negatives!r:.40}"
        ) from None


def _score(number: int, score: Any) -> float:
    try:
        return float(score)
    except (TypeError, ValueError):
        raise UserError(f"pairs[{number}]: score: expected a number, got {score!r}") from None
