"""Columns of a tab-separated or JSON-lines file; every mistake is reported with its line.

TSV: one header line, fields as they are (see `tab_fields`). JSON lines: an object a line. BEIR
folders have a reader of their own, `gemb.data.sources.beir`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gemb.checks import UserError, suggest
from gemb.data.sources.numbered import json_object, numbered_lines, tab_fields

SUFFIXES = (".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz")


class Table(NamedTuple):
    """The columns wanted of a file.

    Attributes:
        columns: role -> a value a row.
        where: "file:line" of each row.
    """

    columns: dict[str, list[Any]]
    where: list[str]


def read_table(path: Path, columns: Mapping[str, str]) -> Table:
    """Reads some columns of a file.

    Args:
        path: a .tsv or .jsonl file, or either with .gz.
        columns: role -> the column's (or field's) name in the file.

    Returns:
        The values of every row that is not blank: texts from TSV, any JSON value from JSON lines.

    Raises:
        UserError: naming file and line: a missing file or column, a row of another length, broken
            JSON, bytes that are not UTF-8; or a file without rows.
    """
    is_json = ".jsonl" in path.suffixes
    table = Table({role: [] for role in columns}, [])
    head: list[str] = []
    for where, line in _lines(path):
        if is_json:
            row = _object(line, where)
        elif not head:
            head = tab_fields(line)
            _check_columns(columns, head, where)
            continue
        else:
            fields = tab_fields(line)
            if len(fields) != len(head):
                raise UserError(
                    f"{where}: expected {len(head)} fields between tabs, got {len(fields)}"
                )
            row = dict(zip(head, fields, strict=True))
        if is_json:
            _check_columns(columns, row, where)
        for role, column in columns.items():
            table.columns[role].append(row[column])
        table.where.append(where)
    if not table.where:
        raise UserError(f"{path}: holds no rows")
    return table


def header(path: Path) -> list[str]:
    """The names of a file's columns, or of the fields of its first object; [] for an empty file.

    Raises:
        UserError: naming file and line, where the first line cannot be read.
    """
    for where, line in _lines(path):
        return list(_object(line, where)) if ".jsonl" in path.suffixes else tab_fields(line)
    return []


def numbers(table: Table, role: str) -> list[float]:
    """A column as finite numbers.

    Raises:
        UserError: naming file and line of a value that is none.
    """
    found = []
    for value, where in zip(table.columns[role], table.where, strict=True):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not abs(number) < float("inf"):
            raise UserError(f"{where}: the {role} {value!r} is no finite number")
        found.append(number)
    return found


def texts(table: Table, role: str) -> list[str]:
    """A column as texts.

    Raises:
        UserError: naming file and line of a value that is none.
    """
    for value, where in zip(table.columns[role], table.where, strict=True):
        if not isinstance(value, str):
            raise UserError(f"{where}: the {role} must be a text, got {value!r}")
    return table.columns[role]


def _object(line: str, where: str) -> dict:
    try:
        return json_object(line)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def _check_columns(columns: Mapping[str, str], head, where: str) -> None:
    for column in columns.values():
        if column not in head:
            known = ", ".join(map(repr, head))
            hint = suggest(column, head)
            raise UserError(f"{where}: no column {column!r}; there are {known}.{hint}")


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return numbered_lines(path, first_encoding="utf-8-sig")
