"""Attributes of documents, and filters by them, the same on every host.

    {"language": "en"}                        equal
    {"language": ["en", "de"]}                one of several
    {"year": {">=": 2020, "<": 2024}}         a range of numbers
    {"language": "en", "public": True}        all of several conditions

A document without the attribute, or with one of another type, does not match.
"""

import contextlib
import json
import math
import operator
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gemb.checks import UserError

COMPARISONS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
_MAX_BYTES = 32_768  # of a document's attributes
_MAX_TEXT = 1_000  # characters of a field that becomes an attribute


class Condition(NamedTuple):
    """One condition of a filter.

    Attributes:
        name: of the attribute.
        values: of which it has to be one; () where it is compared.
        bounds: (comparison, number) that all have to hold; () where it has to be equal.
    """

    name: str
    values: tuple
    bounds: tuple[tuple[str, float], ...]

    def holds(self, attributes: Mapping) -> bool:
        """Whether a document's attributes match."""
        value = attributes.get(self.name)
        if value is None:
            return False
        if self.values:
            return any(kind(value) == kind(one) and value == one for one in self.values)
        return kind(value) == "n" and all(COMPARISONS[c](value, n) for c, n in self.bounds)


def kind(value) -> str:
    """The type of a value: "b" for truth values, "n" for numbers, "s" for texts; else ""."""
    if isinstance(value, bool):
        return "b"
    if isinstance(value, str):
        return "s"
    return "n" if isinstance(value, int | float) else ""


def parse_filter(given: Mapping | None, where: object) -> tuple[Condition, ...]:
    """The conditions of a filter.

    Args:
        given: see this file; None for none.
        where: what refuses it, for messages.

    Raises:
        UserError: anything else.

    Example:
        >>> parse_filter({"year": {">=": 2020}}, "index")
        (Condition(name='year', values=(), bounds=(('>=', 2020),)),)
    """
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise UserError(f"{where}: filter: expected conditions by attribute, got {given!r:.60}")
    return tuple(_condition(name, wanted, where) for name, wanted in given.items())


def _condition(name: str, wanted, where: object) -> Condition:
    _check_name(name, where)
    if isinstance(wanted, Mapping):
        bounds = tuple(wanted.items())
        if not bounds or any(c not in COMPARISONS or kind(n) != "n" for c, n in bounds):
            raise UserError(
                f"{where}: filter: {name}: expected comparisons of {[*COMPARISONS]} with numbers, "
                f"got {wanted!r:.60}"
            )
        for _, number in bounds:
            _check_value(name, number, where)
        return Condition(name, (), bounds)
    values = tuple(wanted) if isinstance(wanted, list | tuple) else (wanted,)
    if not values:
        raise UserError(f"{where}: filter: {name}: the list of values is empty")
    for value in values:
        _check_value(name, value, where)
    return Condition(name, values, ())


def filterable(record: Mapping) -> dict:
    """The fields of a record that an index host can filter by.

    Args:
        record: of a corpus.

    Returns:
        Its texts of up to 1,000 characters, finite numbers and truth values whose names are
        accepted; lists, objects and None are left out.
    """
    kept = {}
    for name, value in record.items():
        with contextlib.suppress(UserError):
            _check_name(name, "")
            _check_value(name, value, "")
            if not isinstance(value, str) or len(value) <= _MAX_TEXT:
                kept[name] = value
    return kept


def check_attributes(
    given: Sequence[Mapping] | None, rows: int, where: object
) -> list[dict[str, str | int | float | bool]]:
    """Attributes of documents that are to be stored.

    Args:
        given: one per document; None for none.
        rows: how many documents there are.
        where: what refuses them, for messages.

    Raises:
        UserError: another number, a name or value that is not accepted, or more than 32 kB.
    """
    if given is None:
        return [{} for _ in range(rows)]
    if len(given) != rows:
        raise UserError(f"{where}: expected attributes of {rows} documents, got {len(given)}")
    for each in given:
        if not isinstance(each, Mapping):
            raise UserError(f"{where}: attributes: expected values by name, got {each!r:.60}")
        for name, value in each.items():
            _check_name(name, where)
            _check_value(name, value, where)
        if len(json.dumps(dict(each))) > _MAX_BYTES:
            raise UserError(f"{where}: attributes of one document take more than 32 kB")
    return [dict(each) for each in given]


def _check_name(name, where: object) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name):
        raise UserError(
            f"{where}: attribute {name!r:.40}: use letters, digits and underscores in names"
        )


def _check_value(name: str, value, where: object) -> None:
    problem = ""
    if not kind(value):
        problem = "expected a text, a number or a truth value"
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            problem = "is not valid Unicode"
        if "\0" in value:
            problem = "contains a NUL character"
    elif isinstance(value, float) and not math.isfinite(value):
        problem = "is not finite"
    elif isinstance(value, int) and abs(value) >= 1 << 53:
        problem = "has more digits than a float64 holds"
    if problem:
        raise UserError(f"{where}: attribute {name}: {problem}, got {value!r:.40}")
