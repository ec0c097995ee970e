"""Columns of records: what one named value of a user or an item is, and its array.

Each is a frozen dataclass that makes one row of an array from a value; None is a missing value.
What was learned from training data (scales, vocabularies) is part of it or of the processor.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from gemb.checks import UserError, check
from gemb.processors.vocabularies import PADDING, Hashed, Vocabulary

SCALINGS = ("standard", "log", "quantile")
SPLITS = ("", "space", "words", "name")
DAY = 86_400.0


@dataclasses.dataclass(frozen=True)
class Categories:
    """An id, a category, or a list of them, such as tags.

    Attributes:
        name: of the column.
        table: the vocabulary and the table of its rows; columns may share one.
        limit: values of a record that are read; the first ones of a longer list.
        split: how a text becomes several values: "" is one value, "space" at white space, "words"
            the lower-case words, "name" the parts of an id such as "libfoo-2.0".
        latest: whether of a longer list the last ones are read (a history).
        source: the name of the value in a record, where it is another.
    """

    name: str
    table: str
    limit: int = 1
    split: str = ""
    latest: bool = False
    source: str = ""

    kind: ClassVar[str] = "ids"

    @property
    def entry(self) -> str:
        """The name of the value in a record."""
        return self.source or self.name

    def __post_init__(self):
        check(self.limit >= 1, f"{self.name}: limit: expected at least 1, got {self.limit}")
        check(self.split in SPLITS, f"{self.name}: split: expected one of {SPLITS}")

    def values(self, value: Any) -> list[str]:
        """The single values of a record's value, each once but for a history.

        Raises:
            ValueError: for what is neither a text nor a number nor a list of them.
        """
        if value is None:
            return []
        if isinstance(value, str | int):
            text = str(value)
            if self.split == "space":
                found = text.split()
            elif self.split == "words":
                found = re.findall(r"\w+", text.lower())
            elif self.split == "name":
                found = re.findall(r"[^\W\d_]+|\d+", text.lower())
            else:
                found = [text.strip()]
        elif isinstance(value, Sequence):
            found = [str(one).strip() for one in value]
        else:
            raise ValueError(f"expected a text or a list of texts, got {type(value).__name__}")
        found = [one for one in found if one]
        return found if self.latest else list(dict.fromkeys(found))

    def row(self, value: Any, vocabulary: Vocabulary | Hashed) -> np.ndarray:
        """[limit * vocabulary.each] int32 rows of the table, PADDING behind the last."""
        made = np.full(self.limit * vocabulary.each, PADDING, np.int32)
        found = self.values(value)
        found = found[-self.limit :] if self.latest else found[: self.limit]
        rows = [row for one in found for row in vocabulary.of(one)]
        made[: len(rows)] = rows
        return made

    def cut(self, value: Any) -> bool:
        """Whether a value is longer than the limit."""
        return len(self.values(value)) > self.limit


@dataclasses.dataclass(frozen=True)
class Number:
    """A number, scaled by what was learned of the training data; missing ones are marked.

    Attributes:
        name: of the value in a record.
        scaling: "standard": (x - a) / b; "log": the same of sign(x) log(1 + |x|); "quantile": the
            share of the training values that are smaller, from 0 to 1.
        learned: (a, b), or the quantiles in order.
    """

    name: str
    scaling: str = "quantile"
    learned: tuple[float, ...] = ()

    kind: ClassVar[str] = "dense"
    size: ClassVar[int] = 2
    entry = property(lambda self: self.name)

    def __post_init__(self):
        check(
            self.scaling in SCALINGS,
            f"{self.name}: scaling: expected one of {SCALINGS}, got {self.scaling!r}",
        )

    def learn(self, values: Iterable[Any]) -> "Number":
        """The column with the scale of training values.

        Raises:
            ValueError: for a value that is infinite or no number; if all are equal or missing.
        """
        found = np.array([x for value in values if (x := self.number(value)) is not None])
        check(
            len(found) > 0 and found.min() < found.max(),
            f"{self.name}: all training values are equal or missing; leave the column out",
        )
        if self.scaling == "quantile":
            marks = np.quantile(found, np.linspace(0, 1, 101))
        else:
            found = _logged(found) if self.scaling == "log" else found
            marks = (found.mean(), found.std())
        return dataclasses.replace(self, learned=tuple(float(mark) for mark in marks))

    def number(self, value: Any) -> float | None:
        """The value as a float; None where it is missing (None, "" or NaN).

        Raises:
            ValueError: for an infinite value, or what is not a number.
        """
        if value is None or value == "":
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"expected a number, got {value!r:.40}") from None
        if math.isinf(number):
            raise ValueError("the number is infinite")
        return None if math.isnan(number) else number

    def row(self, value: Any, vocabulary: None = None) -> np.ndarray:
        """[2] float32: the scaled number, and 1 where it is missing."""
        check(bool(self.learned), f"{self.name}: the scale has not been learned yet")
        number = self.number(value)
        if number is None:
            return np.array([0, 1], np.float32)
        if self.scaling == "quantile":
            shares = np.linspace(0, 1, len(self.learned))
            return np.array([np.interp(number, self.learned, shares), 0], np.float32)
        middle, spread = self.learned
        number = float(_logged(np.float64(number))) if self.scaling == "log" else number
        return np.array([(number - middle) / spread, 0], np.float32)


@dataclasses.dataclass(frozen=True)
class Time:
    """A time in seconds since 1970: its place among the training times, hour and day of the week.

    Attributes:
        name: of the value in a record.
        learned: the first and the last training time.
    """

    name: str
    learned: tuple[float, ...] = ()

    kind: ClassVar[str] = "dense"
    size: ClassVar[int] = 6
    entry = property(lambda self: self.name)

    def learn(self, values: Iterable[Any]) -> "Time":
        """The column with the range of training times.

        Raises:
            ValueError: as `Number.learn`.
        """
        scale = Number(self.name, "quantile").learn(values).learned
        return dataclasses.replace(self, learned=(scale[0], scale[-1]))

    def row(self, value: Any, vocabulary: None = None) -> np.ndarray:
        """[6] float32: the age, sine and cosine of the hour and of the weekday, missing."""
        check(bool(self.learned), f"{self.name}: the range has not been learned yet")
        time = Number(self.name).number(value)
        if time is None:
            return np.array([0, 0, 0, 0, 0, 1], np.float32)
        first, last = self.learned
        turns = 2 * math.pi * np.array([time / DAY % 1, time / (7 * DAY) % 1])
        age = (time - first) / (last - first)
        return np.array([age, *np.sin(turns), *np.cos(turns), 0], np.float32)


@dataclasses.dataclass(frozen=True)
class Vector:
    """A vector that another model made.

    Attributes:
        name: of the value in a record.
        size: its coordinates.
        fingerprint: of the model that made it, for the identity; "" if it is not known.
    """

    name: str
    size: int
    fingerprint: str = ""

    kind: ClassVar[str] = "dense"
    entry = property(lambda self: self.name)

    def row(self, value: Any, vocabulary: None = None) -> np.ndarray:
        """[size] float32; zeros where it is missing.

        Raises:
            ValueError: for another width, or coordinates that are not finite numbers.
        """
        if value is None:
            return np.zeros(self.size, np.float32)
        try:
            made = np.asarray(value, np.float32)
        except (TypeError, ValueError):
            raise ValueError("expected a vector of numbers") from None
        if made.shape != (self.size,):
            raise ValueError(f"expected {self.size} coordinates, got shape {made.shape}")
        if not np.isfinite(made).all():
            raise ValueError("the vector has coordinates that are not finite")
        return made


class FrozenTexts:
    """A text encoder that does not train, with the vectors of the texts that it has seen.

    Args:
        encode: texts -> [texts, size] float32.
        size: coordinates of a vector.
        fingerprint: of the model.
    """

    def __init__(self, encode: Callable[[list[str]], np.ndarray], size: int, fingerprint: str):
        self.size, self.fingerprint = size, fingerprint
        self._encode, self._known = encode, {}

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The vector of each text; zeros for an empty one."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known and text))
        if new:
            vectors = np.asarray(self._encode(new), np.float32)
            self._known.update(zip(new, vectors, strict=True))
        empty = np.zeros(self.size, np.float32)
        return [self._known[text] if text else empty for text in texts]


@dataclasses.dataclass(frozen=True)
class Text:
    """A text, embedded by a model that does not train with the rest.

    Attributes:
        name: of the value in a record.
        model: a folder or a fetched model's name, from which the encoder is loaded again.
        size: coordinates of a vector.
        fingerprint: of that model: another one is refused.
        encoder: the loaded encoder.
    """

    name: str
    model: str
    size: int = 0
    fingerprint: str = ""
    encoder: FrozenTexts | None = dataclasses.field(default=None, compare=False, repr=False)

    kind: ClassVar[str] = "dense"
    entry = property(lambda self: self.name)

    def with_encoder(self, encoder: FrozenTexts) -> "Text":
        """The column with its encoder.

        Raises:
            UserError: for another model than the column was made with.
        """
        if self.fingerprint not in ("", encoder.fingerprint):
            raise UserError(
                f"{self.name}: the texts were embedded by the model {self.fingerprint}, and "
                f"{self.model!r} is now {encoder.fingerprint}; its vectors would not fit"
            )
        return dataclasses.replace(
            self, encoder=encoder, size=encoder.size, fingerprint=encoder.fingerprint
        )

    def rows(self, values: Sequence[Any]) -> list[np.ndarray]:
        """[size] float32 of each value; zeros where it is missing or empty.

        Raises:
            ValueError: for a value that is not a text.
        """
        check(self.encoder is not None, f"{self.name}: the column has no encoder")
        for value in values:
            if value is not None and not isinstance(value, str):
                raise ValueError(f"expected a text, got {type(value).__name__}")
        return self.encoder([(value or "").strip() for value in values])


Column = Categories | Number | Time | Vector | Text
KINDS = {kind.__name__: kind for kind in (Categories, Number, Time, Vector, Text)}


def column_tree(column: Column) -> dict:
    """A column as JSON values."""
    fields = (field.name for field in dataclasses.fields(column) if field.name != "encoder")
    return {"kind": type(column).__name__} | {name: getattr(column, name) for name in fields}


def column_of(tree: Mapping[str, Any]) -> Column:
    """The column of JSON values, as `column_tree` makes them.

    Raises:
        UserError: for values that make no column.
    """
    fields = dict(tree)
    kind = KINDS.get(fields.pop("kind", ""))
    if kind is None:
        raise UserError(f"columns: {tree!r:.80} is not a column of {sorted(KINDS)}")
    if "learned" in fields:
        fields["learned"] = tuple(fields["learned"])
    try:
        return kind(**fields)
    except TypeError:
        raise UserError(f"columns: {tree!r:.80} is not a {kind.__name__} column") from None


def _logged(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.log1p(np.abs(values))
