"""Records of named values to Features: the processor of models of users and items."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gemb.checks import UserError, check, suggest
from gemb.files import read_object, write_json
from gemb.processors.columns import Categories, Column, Text, column_of, column_tree
from gemb.processors.processor import Example
from gemb.processors.vocabularies import Hashed, Vocabulary
from gemb.structs import SIDES, Features

FILE = "features.json"
VERSION = 1  # raise it when the same columns would give other arrays


@dataclasses.dataclass(frozen=True)
class FeaturesProcessor:
    """The columns of both sides. A value is a record, a mapping from columns to their values.

    A column that a record lacks is missing there; a name that is no column is an error.

    Attributes:
        query: columns of users.
        document: columns of items.
        vocabularies: (table, vocabulary) of the columns of ids.

    Raises:
        ValueError: for columns of one name, or a table without vocabulary.
    """

    query: tuple[Column, ...]
    document: tuple[Column, ...]
    vocabularies: tuple[tuple[str, Vocabulary | Hashed], ...] = ()

    modality: ClassVar[str] = "features"
    limit: ClassVar[int] = 1
    prompts: ClassVar[tuple[str, ...]] = ("",)

    def __post_init__(self):
        tables = dict(self.vocabularies)
        for side in SIDES:
            columns = getattr(self, side)
            names = [column.name for column in columns]
            check(bool(names), f"{side}: expected at least one column")
            for name in names:
                check(names.count(name) == 1, f"{side}: two columns have the name {name!r}")
            for column in columns:
                if isinstance(column, Categories):
                    known = column.table in tables
                    check(known, f"{column.name}: the table {column.table!r} has no vocabulary")

    def vocabulary(self, table: str) -> Vocabulary | Hashed:
        """The vocabulary of a table."""
        return dict(self.vocabularies)[table]

    def check_encoder(self, encoder) -> None:
        """Checks that the encoder has a part for each column, of its size.

        Raises:
            ValueError: naming the column that does not fit.
        """
        check(
            encoder.modality == self.modality,
            f"processor: it makes features, and the encoder reads {encoder.modality}",
        )
        rows = {table: vocabulary.rows for table, vocabulary in self.vocabularies}
        for side in SIDES:
            parts = {part.name: part for part in getattr(encoder, side).parts}
            columns = {column.name: column for column in getattr(self, side)}
            check(
                set(parts) == set(columns), f"{side}: columns {sorted(columns)}, not {list(parts)}"
            )
            for name, column in columns.items():
                if column.kind == "ids":
                    fits = dict(encoder.tables)[parts[name].table] >= rows[column.table]
                    check(fits, f"{name}: the encoder's table has fewer rows than the vocabulary")
                else:
                    fits = parts[name].size == column.size
                    check(fits, f"{name}: {column.size} numbers, not {parts[name].size}")

    def identity(self) -> tuple[str, dict]:
        """The columns and vocabularies, hashed."""
        content = json.dumps(self.tree(), sort_keys=True)
        return f"features {VERSION}", {"columns": hashlib.sha256(content.encode()).hexdigest()}

    def prompt(self, side: str) -> str:
        """Records have no prompts."""
        del side
        return ""

    def with_limit(self, limit: int) -> "FeaturesProcessor":
        """The same processor: each column has its own limit."""
        del limit
        return self

    def with_prompts(self, prompts: Mapping[str, str]) -> "FeaturesProcessor":
        """Refuses prompts.

        Raises:
            UserError: if there are any.
        """
        if any(prompts.values()):
            raise UserError("prompts: records of features have none")
        return self

    def count_cut(self, examples: Sequence[Example], side: str) -> int:
        """How many records have a list that is longer than its column's limit."""
        columns = [column for column in getattr(self, side) if isinstance(column, Categories)]
        return sum(any(c.cut(e.value.get(c.entry)) for c in columns) for e in examples)

    def prepare(self, values: Sequence, side: str) -> list[Example]:
        """Prepares records of a side.

        Raises:
            UserError: naming the record and the column: no mapping, an unknown name, a record that
                says nothing, or a value that its column cannot read.
        """
        columns = getattr(self, side)
        names = list(dict.fromkeys(column.entry for column in columns))
        for place, record in enumerate(values):
            self._check_record(record, f"values[{place}]", names)
        arrays = {}
        for column in columns:
            given = [record.get(column.entry) for record in values]
            arrays[f"{side}/{column.name}"] = self._rows(column, given)
        rows = zip(*arrays.values(), strict=True) if values else ()
        return [
            Example(record, dict(zip(arrays, row, strict=True)), 1)
            for record, row in zip(values, rows, strict=True)
        ]

    @staticmethod
    def _check_record(record: Any, where: str, names: Sequence[str]) -> None:
        if not isinstance(record, Mapping):
            raise UserError(
                f"{where}: expected a record such as {{{names[0]!r}: ...}}, got {record!r:.60}"
            )
        for name in record:
            if name not in names:
                raise UserError(f"{where}: no column {name!r}.{suggest(str(name), names)}")
        if not any(value is not None for value in record.values()):
            raise UserError(f"{where}: the record says nothing; expected one of {names}")

    def _rows(self, column: Column, given: Sequence[Any]) -> list[np.ndarray]:
        if isinstance(column, Text):
            try:
                return column.rows(given)
            except ValueError as error:
                raise UserError(f"{column.name}: {error}") from None
        words = self.vocabulary(column.table) if column.kind == "ids" else None
        made = []
        for place, value in enumerate(given):
            try:
                made.append(column.row(value, words))
            except ValueError as error:
                raise UserError(f"values[{place}]: {column.name}: {error}") from None
        return made

    def bucket(self, size: int) -> int:
        """1: every record is one position."""
        del size
        return 1

    def collate(
        self, examples: Sequence[Example | None], size: int = 1, rows: int | None = None
    ) -> Features:
        """Stacks records of one side to arrays; None and rows beyond them are all zeros."""
        del size
        first = next(example for example in examples if example is not None)
        made = {}
        for name, array in first.content.items():
            made[name] = np.zeros((rows or len(examples), *array.shape), array.dtype)
            for row, example in enumerate(examples):
                if example is not None:
                    made[name][row] = example.content[name]
        return Features(made)

    def for_task(
        self, side: str, *, length: int, prompts: Sequence[str] | None
    ) -> "FeaturesProcessor":
        """Refuses tasks of pairs: interactions have batches of their own.

        Raises:
            UserError: always.
        """
        raise UserError("records: train users and items on links.batches, not on tasks of pairs")

    def describe(self, inputs: Features, row: int) -> str:
        """One row as a person reads it."""
        return str({name: array[row].tolist() for name, array in inputs.columns.items()})

    def tree(self) -> dict:
        """The columns and vocabularies as JSON values."""
        return {
            "version": VERSION,
            **{side: [column_tree(column) for column in getattr(self, side)] for side in SIDES},
            "vocabularies": {
                table: {"kind": type(words).__name__} | dataclasses.asdict(words)
                for table, words in self.vocabularies
            },
        }

    def save(self, folder: Path, base: Path | None = None) -> None:
        """Writes features.json."""
        del base
        write_json(folder / FILE, self.tree())

    @classmethod
    def load(cls, folder: Path) -> "FeaturesProcessor":
        """Reads features.json; columns of texts come without their encoders.

        Raises:
            UserError: for a file that is missing, damaged or of another version.
        """
        tree = read_object(folder / FILE)
        if tree.get("version") != VERSION:
            raise UserError(f"{folder / FILE}: expected columns of version {VERSION}")
        kinds = {"Vocabulary": Vocabulary, "Hashed": Hashed}
        try:
            words = []
            for table, fields in tree["vocabularies"].items():
                kind = kinds[fields.pop("kind")]
                if "values" in fields:
                    fields["values"] = tuple(fields["values"])
                words.append((table, kind(**fields)))
            sides = [tuple(map(column_of, tree[side])) for side in SIDES]
            return cls(*sides, tuple(words))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{folder / FILE}: damaged ({error})") from None
