"""Inputs of curation: checked pairs and documents from any file that `gemb.data.sources` opens.

Each record is checked once: broken records are reported with file and line, or counted and left out
if `max_bad_fraction` allows it. Records stay on disk and are read by number.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemb.curation.tables import PairTable
from gemb.data.forms import Pairs
from gemb.data.preprocess.texts import field, text_of, titled_text
from gemb.data.selection import Selection
from gemb.data.sources import reading
from gemb.data.sources.records import Records

_CORPORA = ("corpus.jsonl", "corpus.jsonl.gz")


class Kept:
    """The valid records of a file, unchanged.

    Args:
        source: the records.
        admit: (record) -> None; raises ValueError for an invalid record.
        max_bad_fraction: the share of invalid records to accept; they are left out.
        name: the name in messages.

    Attributes:
        counts: the number of "records", and of "bad" ones among them.
        fingerprint: fingerprint of the content.

    Raises:
        UserError: with file and line, if too many records are invalid, or none is left.
    """

    def __init__(self, source: Records, admit, max_bad_fraction: float, name: str):
        self._rows = Selection(_Whole(source), _Form(admit), None, max_bad_fraction, name)
        self.counts = {what: int(self._rows.counts[what]) for what in ("records", "bad")}
        self.fingerprint = self._rows.fingerprint

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> dict:
        return self._rows[row]["record"]

    def where(self, row: int) -> str:
        """File and line of a record."""
        return self._rows.where(row)


def read_pairs(
    path: str | Path | Sequence[str],
    *,
    split: str = "train",
    query: str = "query",
    document: str = "document",
    max_bad_fraction: float = 0.0,
) -> PairTable:
    """Reads pairs: a BEIR folder's judgements, or a file of any format.

    Args:
        path: a BEIR folder, or what `gemb.data.sources.reading.files` takes.
        split: of a BEIR folder, which judgements.
        query: the column of the query.
        document: the column of the document or documents.
        max_bad_fraction: how many records may be broken; they are left out and counted.

    Raises:
        UserError: naming file and line, see `Kept`.
    """

    def admit(record: dict) -> None:
        Pairs().admit({"query": field(record, query), "document": field(record, document)})

    source = reading.beir(str(path), split) if is_beir(path) else reading.files(path)
    return PairTable(Kept(source, admit, max_bad_fraction, str(path)), query, document)


def read_corpus(path: str | Path, *, max_bad_fraction: float = 0.0) -> Kept:
    """Reads documents to search: a BEIR folder's corpus, or records with a text (and a title).

    Raises:
        UserError: naming file and line, see `Kept`.
    """

    def admit(record: dict) -> None:
        if not titled_text(record).strip():
            raise ValueError('the field "text" is empty')

    return Kept(_corpus_source(path), admit, max_bad_fraction, str(path))


def read_texts(path: str | Path, columns: Sequence[str], *, max_bad_fraction: float = 0.0) -> Kept:
    """Reads records whose named columns hold a text each.

    Raises:
        UserError: naming file and line, see `Kept`.
    """

    def admit(record: dict) -> None:
        for column in columns:
            text_of({column: field(record, column)}, column)

    return Kept(_corpus_source(path), admit, max_bad_fraction, str(path))


def read_values(path: str | Path, columns: Sequence[str], *, max_bad_fraction: float = 0.0) -> Kept:
    """Reads records whose named columns hold a text, a number, or a list of these.

    Raises:
        UserError: naming file and line, see `Kept`.
    """

    def admit(record: dict) -> None:
        for column in columns:
            value = field(record, column)
            items = value if isinstance(value, list | tuple) else [value]
            if not items or not all(isinstance(item, str | int | float) for item in items):
                raise ValueError(f"the field {column!r} must be a text, a number or a list of them")
            for item in items:
                text_of({column: str(item)}, column)

    return Kept(_corpus_source(path), admit, max_bad_fraction, str(path))


def read_labelled(
    path: str | Path, text: str, label: str, *, max_bad_fraction: float = 0.0
) -> tuple[list[str], list[str]]:
    """Reads texts with a label each, a text or a number.

    Args:
        path: what `gemb.data.sources.reading.files` takes.
        text: the column of the text.
        label: the column of the label.
        max_bad_fraction: how many records may be broken; they are left out.

    Returns:
        Texts, and labels without white space around them.

    Raises:
        UserError: naming file and line, see `Kept`.
    """

    def admit(record: dict) -> None:
        text_of({text: field(record, text)}, text)
        value = field(record, label)
        if not isinstance(value, str | int | float) or not str(value).strip():
            raise ValueError(f"the field {label!r} must be one text or number, and not empty")

    kept = Kept(reading.files(path), admit, max_bad_fraction, str(path))
    rows = [kept[row] for row in range(len(kept))]
    return [row[text] for row in rows], [str(row[label]).strip() for row in rows]


def is_beir(path: str | Path | Sequence[str]) -> bool:
    """Whether the path is a folder in BEIR's layout."""
    return isinstance(path, str | Path) and any(
        (Path(path).expanduser() / name).is_file() for name in _CORPORA
    )


def _corpus_source(path: str | Path) -> Records:
    if not is_beir(path):
        return reading.files(path)
    folder = Path(path).expanduser()
    return reading.files([next(folder / n for n in _CORPORA if (folder / n).is_file())])


class _Whole:
    """Records as the single field of records, so that a form sees all their columns."""

    def __init__(self, source: Records):
        self._source, self.fingerprint = source, source.fingerprint

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, row: int) -> dict:
        record = self._source[row]
        return {"record": record} if record else {}

    def where(self, row: int) -> str:
        return self._source.where(row)

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        return self._source.sizes(rows)


class _Form:
    """A form that accepts whole records, see `gemb.data.forms`."""

    columns = ("record",)
    seen = ()  # keeps Selection from caching what it cannot know by this form's repr

    def __init__(self, admit):
        self._admit = admit

    def __repr__(self) -> str:
        return "whole records"

    def admit(self, record: dict) -> bool:
        self._admit(record["record"])
        return True
