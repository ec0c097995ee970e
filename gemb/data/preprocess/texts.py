"""Fields of records that must be texts, and choosing among several texts."""

from collections.abc import Mapping, Sequence
from typing import Any


def field(record: Mapping[str, Any], name: str) -> Any:
    """A field of a record; ValueError where there is none."""
    if name not in record:
        raise ValueError(f"the field {name!r} is missing; there are: {', '.join(map(str, record))}")
    return record[name]


def text_of(record: dict, name: str) -> str:
    """A field that must be a text.

    Raises:
        ValueError: where it is no string, empty, or not valid Unicode.
    """
    text = string_of(record, name)
    if not text.strip():
        raise ValueError(f'the field "{name}" is empty')
    return text


def titled_text(record: dict) -> str:
    """The field "text", after the field "title" and a newline where that is there and not empty.

    Not of harvested code, whose title only repeats its path and name.
    """
    text = string_of(record, "text")
    if not record.get("title") or {"path", "name"} & record.keys():
        return text
    return f"{string_of(record, 'title')}\n{text}"


def untitled(text: str, record: dict) -> str:
    r"""A text of `titled_text` without the title that it put in front.

    Args:
        text: as it gave it.
        record: what it was given; its "text" is not read.

    Example:
        >>> untitled("Title\ntext", {"title": "Title"})
        'text'
    """
    if not record.get("title") or {"path", "name"} & record.keys():
        return text
    return text.removeprefix(f"{record['title']}\n")


def texts_of(record: dict, name: str) -> list[str]:
    """A field that must be a text or a list of texts."""
    value = record[name]
    if isinstance(value, list | tuple):
        return [text_of({name: text}, name) for text in value]
    return [text_of(record, name)]


def pick(texts: str | Sequence[str], place: float) -> str:
    """One of the texts, by a uniform number."""
    return texts if isinstance(texts, str) else texts[int(place * len(texts))]


def string_of(record: dict, name: str) -> str:
    """A field that must be a string, empty or not."""
    text = field(record, name)
    if not isinstance(text, str):
        raise ValueError(f'the field "{name}" must be a text, got {type(text).__name__}')
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f'the field "{name}" is not valid Unicode (a lone surrogate)') from None
    return text
