"""A stretch of text into sentences, and an overlong piece into halves."""

import itertools
import re
import unicodedata

# Behind a full stop a sentence begins with anything but a small letter, which keeps "e.g. this"
# together; Chinese and Japanese marks end a sentence without white space behind them.
_END = re.compile(
    r"[!?…]+[\"'”’)\]»]*\s+|\.[\"'”’)\]»]*\s+(?=[^\sa-z])|[。！？｡]+[」』）”’】]*\s*|[।॥؟۔]+\s+"
)
_JOINER = "\u200d"
_REACH = 200  # characters from the middle in which white space is looked for


def sentences(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """(start, end) of each sentence of a range, the white space after it included.

    Example:
        >>> text = "See e.g. this. Then that! 是的。好。"
        >>> [text[a:b] for a, b in sentences(text, 0, len(text))]
        ['See e.g. this. ', 'Then that! ', '是的。', '好。']
    """
    cuts = [match.end() for match in _END.finditer(text, start, end)]
    edges = sorted({start, *cuts, end})
    return list(itertools.pairwise(edges))


def halves(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """A range in two: behind white space near its middle, else between two characters.

    Example:
        >>> text = "one or two"
        >>> [text[a:b] for a, b in halves(text, 0, len(text))]
        ['one ', 'or two']
    """
    middle, reach = (start + end) // 2, min(_REACH, max(1, (end - start) // 4))
    near = text[middle - reach : middle + reach]
    spaces = [at for at, character in enumerate(near, 1) if character.isspace()]
    if spaces:
        cut = middle - reach + min(spaces, key=lambda at: abs(at - reach))
    else:
        cut = middle
        while cut < end - 1 and _continues(text, cut):
            cut += 1
    return [(start, cut), (cut, end)] if start < cut < end else [(start, end)]


def _continues(text: str, at: int) -> bool:
    """Whether a character belongs to the one before it, such as an accent or a joined emoji."""
    return bool(unicodedata.combining(text[at])) or _JOINER in text[at - 1 : at + 1]
