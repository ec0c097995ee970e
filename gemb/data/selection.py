"""The records of a task, checked once before training, when broken ones are reported.

The pass streams. Its outcome, the numbers of the records that give pairs, is kept in the cache for
big sources, so that a resumed run starts at once.
"""

import string
import sys
from array import array
from collections.abc import Mapping

import numpy as np
from tqdm import tqdm

from gemb.checks import UserError, suggest
from gemb.data.sources import records
from gemb.data.sources.records import Records

_KEEP_ROWS = 200_000
_LOOKED_AT = 64  # records, to see whether hard negatives are there


class Selection:
    """The records of a source that give pairs, by number, their columns renamed.

    Args:
        source: the records.
        form: says which columns it reads and which records it admits, see `gemb.data.forms`.
        columns: the form's name -> the source's column, or a template such as "{title}\\n{text}";
            names left out are the source's own.
        max_bad_fraction: how much of the source may be broken; such records are left out.
        name: of the task, for messages.

    Attributes:
        counts: records there are; "bad" ones; "unfit" ones, which are right and give no pair.
        fingerprint: of the content, the columns and the form.

    Raises:
        UserError: naming file and line, where more is broken than allowed, or nothing is left.
    """

    def __init__(
        self,
        source: Records,
        form,
        columns: Mapping[str, str] | None = None,
        max_bad_fraction: float = 0.0,
        name: str = "data",
    ):
        if not 0 <= max_bad_fraction < 1:
            raise UserError(
                f"max_bad_fraction: expected 0 or more and below 1, got {max_bad_fraction}"
            )
        self._source, self._form = source, form
        self._columns = {column: column for column in form.columns} | dict(columns or {})
        for column in self._columns:
            if column not in (*form.columns, "negatives"):
                hint = suggest(column, form.columns)
                raise UserError(f"{name}: columns: the form reads no {column!r}.{hint}")
        self.fingerprint = records.digest(source.fingerprint, str(self._columns), repr(form))
        if len(source) > _KEEP_ROWS and not hasattr(form, "seen"):
            self._rows, notes = records.kept("rows", self.fingerprint, lambda: self._look(name))
        else:
            self._rows, notes = self._look(name)
        self.counts, bad = notes["counts"], notes["counts"]["bad"]
        if bad and bad > max_bad_fraction * self.counts["records"]:
            raise UserError(
                f"{notes['first_bad']}; {bad:,} of {self.counts['records']:,} records of {name} "
                f"are bad, more than max_bad_fraction = {max_bad_fraction} allows"
            )
        if not len(self._rows):
            kind = type(form).__name__
            raise UserError(f"{name}: no record gives a pair ({self.counts}, {kind})")
        if "negatives" in form.columns:
            first = [self[row]["negatives"] for row in range(min(len(self), _LOOKED_AT))]
            if not any(first):
                print(
                    f"warning: {name}: the first {len(first)} records have no "
                    f"{self._columns['negatives']!r}; the form asks for {form.negatives} a query, "
                    "and fills them up with masked rows",
                    file=sys.stderr,
                )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> dict:
        return self._renamed(self._source[int(self._rows[row])])

    def where(self, row: int) -> str:
        """File and line of a record."""
        return self._source.where(int(self._rows[row]))

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        """[rows] about how long each record is."""
        return self._source.sizes(np.asarray(self._rows[rows]))

    def _look(self, name: str) -> tuple[np.ndarray, dict]:
        good, first, counts = array("q"), None, {"records": 0, "bad": 0, "unfit": 0}
        long = len(self._source) > _KEEP_ROWS
        for row in tqdm(range(len(self._source)), f"check {name}", disable=not long):
            try:
                record = self._source[row]
                admitted = self._form.admit(self._renamed(record)) if record else None
            except ValueError as error:
                admitted = False
                counts["bad"] += 1
                first = first or f"{self._source.where(row)}: {error}"
            else:
                counts["unfit"] += admitted is False
            counts["records"] += admitted is not None  # None is a blank line
            if admitted:
                good.append(row)
        return np.frombuffer(good, np.int64), {"counts": counts, "first_bad": first}

    def _renamed(self, record: dict) -> dict:
        renamed = {}
        for name, column in self._columns.items():
            try:
                renamed[name] = _filled(column, record) if "{" in column else record[column]
            except KeyError as error:
                if name == "negatives":
                    renamed[name] = []
                    continue
                raise ValueError(
                    f"the field {error} is missing; there are: {', '.join(map(str, record))}"
                ) from None
        return renamed


def _filled(template: str, record: dict) -> str:
    parts = []
    for literal, name, form, _ in string.Formatter().parse(template):
        parts.append(literal)
        if name is not None:
            if not isinstance(record[name], str | int | float):
                kind = type(record[name]).__name__
                raise ValueError(f"the field {name!r} must be a text or a number, got {kind}")
            parts.append(format(record[name], form))
    return "".join(parts)
