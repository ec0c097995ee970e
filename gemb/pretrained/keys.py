"""What the keys of a JSON file may hold: a table of rules, one for each key.

A key is read (and checked), has no effect on vectors (`ANY`), or is refused by name unless it holds
what gemb computes anyway (`only`). What a table does not know is named in a warning or refused.
"""

import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from gemb.checks import UserError, suggest

REQUIRED = object()  # no default: the key has to be there
ABSENT = object()  # no default: a missing key stays missing


class Rule(NamedTuple):
    """What one key may hold.

    Attributes:
        expected: the same in words, for the error.
        fits: value -> whether it is valid.
        default: the value of a missing key; REQUIRED or ABSENT for none.
    """

    expected: str
    fits: Callable[[object], bool]
    default: object = ABSENT

    def or_null(self, default=None) -> "Rule":
        """The rule that takes null too."""
        return Rule(
            f"{self.expected} or null", lambda value: value is None or self.fits(value), default
        )


ANY = Rule("anything", lambda value: True)  # without effect on vectors


def whole(default=REQUIRED, *, least: int = 1) -> Rule:
    """A whole number; 16.0 and true are none."""
    return Rule(
        f"a whole number of at least {least}",
        lambda value: type(value) is int and value >= least,
        default,
    )


def number(default=REQUIRED, *, above: float = -math.inf, whole: bool = False) -> Rule:
    """A finite number above a bound; `whole` says whether it may be written without a point."""
    kinds = (int, float) if whole else (float,)
    bound = "" if above == -math.inf else f" above {above:g}"
    return Rule(
        ("a number" if whole else "a number with a decimal point") + bound,
        lambda value: type(value) in kinds and math.isfinite(value) and value > above,
        default,
    )


def epsilon(default=REQUIRED) -> Rule:
    """The small number of a norm: 0 or more."""
    return Rule(
        "a number with a decimal point, 0 or more",
        lambda value: type(value) is float and math.isfinite(value) and value >= 0,
        default,
    )


def flag(default=REQUIRED) -> Rule:
    """true or false."""
    return Rule("true or false", lambda value: isinstance(value, bool), default)


def text(default=REQUIRED) -> Rule:
    """A string."""
    return Rule("a text", lambda value: isinstance(value, str), default)


def one_of(*choices: str, default=REQUIRED) -> Rule:
    """One of some strings."""
    return Rule(
        f"one of {list(choices)}",
        lambda value: isinstance(value, str) and value in choices,
        default,
    )


def only(*values) -> Rule:
    """A setting of which gemb computes these values only, as where the key is missing."""
    shown = " or ".join(json.dumps(value) for value in values)

    def fits(value) -> bool:
        return any(type(value) is type(known) and value == known for known in values)

    return Rule(f"{shown}, the only value that gemb computes", fits)


def read_keys(content: Mapping, table: Mapping[str, Rule], file) -> dict:
    """The values of a table's keys, each checked, with defaults for missing ones.

    Args:
        content: a JSON object.
        table: key -> what it may hold.
        file: what errors call the file.

    Raises:
        UserError: naming the file, the key, what was expected and what is there.

    Example:
        >>> read_keys({"size": 4, "note": "x"}, {"size": whole(), "bias": flag(True)}, "c.json")
        {'size': 4, 'bias': True}
    """
    values = {}
    for key, rule in table.items():
        if key in content:
            if not rule.fits(content[key]):
                raise UserError(
                    f"{file}: {key}: expected {rule.expected}, got {shown(content[key])}"
                )
            values[key] = content[key]
        elif rule.default is REQUIRED:
            raise UserError(f"{file}: key {key!r} is missing.{suggest(key, content)}".rstrip("."))
        elif rule.default is not ABSENT:
            values[key] = rule.default
    return values


def warn_unknown(content: Mapping, table: Mapping, file) -> None:
    """Names on stderr, in one line, the keys that a table does not know."""
    if unknown := sorted(set(content) - set(table)):
        print(
            f"warning: {file}: gemb does not know {', '.join(unknown)}, and leaves "
            f"{'them' if len(unknown) > 1 else 'it'} out",
            file=sys.stderr,
        )


def read_known(content: Mapping, table: Mapping[str, Rule], file) -> dict:
    """`read_keys` of an object that may hold no other keys.

    Raises:
        UserError: also for a key that the table does not know.
    """
    for key in content:
        if key not in table:
            raise UserError(
                f"{file}: {key}: gemb does not know this key.{suggest(key, table)} "
                "It may change vectors, so remove it only if you know that it does not"
            )
    return read_keys(content, table, file)


def read_json(file: Path, default=None, kind: type = dict):
    """Reads a JSON file; `default` where there is none.

    Raises:
        UserError: if it cannot be read, is not JSON, or not of the kind.
    """
    if default is not None and not file.exists():
        return default
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); expected a model folder") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{file}: not JSON ({error})") from None
    if not isinstance(content, kind):
        expected = {dict: "an object", list: "a list"}[kind]
        raise UserError(f"{file}: expected {expected}, got {type(content).__name__}")
    return content


def shown(value) -> str:
    """A value as JSON, cut to one short line."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 80 else text[:77] + "..."
