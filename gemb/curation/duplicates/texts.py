"""When two texts count as the same: what is dropped of a text, and what has a meaning and stays.

Dropped are case, spacing, quotes, and the punctuation that ends a sentence or a part of one.
Everything else stays: operators and signs (-5, a * b, !=), # and + (C#, C++), % and units,
superscripts and subscripts (10², H₂O), fractions, brackets, and the case of units (mW, MW).
"""

import functools
import hashlib
import re
import unicodedata
from collections import Counter

import numpy as np

# Forms of a letter that are written otherwise and mean the same: full width, ligatures, Arabic
# shapes. Superscripts, subscripts, fractions, circled and mathematical letters mean something else.
_SAME = ("<wide>", "<narrow>", "<small>", "<noBreak>", "<compat>", "<vertical>")
_SAME += ("<initial>", "<medial>", "<final>", "<isolated>")
_DASHES = re.compile("[\u2010-\u2015\u2212]")
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_QUOTES = re.compile("[\u201c-\u201f\u00ab\u00bb\u300c-\u300f\u2039\u203a]|(?<!\\d)\"|(?<!\\d)'")
_APOSTROPHES = re.compile("[\u2018-\u201b\u02bc]")
# Thai and its neighbours, kana, Chinese characters: scripts without spaces between words.
_SCRIPTS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_UNSPACED = re.compile(f"([{_SCRIPTS}])")
_ASIAN_MARKS = re.compile(f"[\u3001\u3002\u30fb\u0964]+|(?<=[{_SCRIPTS}])[,.!?;:]+(?!=)")
_HYPHEN = re.compile(r"(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})")
# What ends a sentence or a clause, but for factorials: "5!", "n!", "(n + 1)!"; "w57" is a word.
_WORD_END = r"(?:(?<![\d)])(?<!\b[^\W_])|(?<=[^\W\d_]\d)|(?<=[^\W\d_]\d\d)|(?<=[^\W\d_]\d\d\d))"
_SENTENCE = re.compile(rf"(?<=\S)(?:[.,;:?]|{_WORD_END}!)+(?=\s|$)")
_LAST = re.compile(r"(?<=[^\W\d_]{2})\s+[.,;:!?]+$")
_SPACE = re.compile(rf"\s+(?![\w\s])|(?<!\w)\s+|(?<=[{_SCRIPTS}])\s+|\s+(?=[{_SCRIPTS}])")
_CASED_UNIT = re.compile(
    r"(?<=\d)(\s?(?:[mM](?:Wh?|V|A|Hz|Pa|g|J|N|M|S|mol|eV)|[kKMGT]i?[bB](?:ps)?))(?![^\W_])"
)
_IN_NUMBER = re.compile(r"(?<=\d)[.,:/'\u2019-](?=\d)")
_UNIT = r"%|\u2030|\u00b0\s?[cf]?|(?:mi|ft|lb|oz|h|k)\b"
_UNIT += r"|[kcdm\u03bcngtKMGT]?i?(?:m|g|s|w|v|a|hz|pa|j|l|b|n|wh|mol|[A-Z][a-z]{0,2})\b"
_NUMBER = re.compile(rf"(?:(?<![\w)\]])[+-]\s?)?\d+(?:[.,:/]\d+)*(?:\s?(?:{_UNIT}))?")
_OPERATOR = re.compile(r"!=|\b[^\W\d_]\b|(?<![^\W\d_]{2})-(?=\w)")
_OPERATORS = frozenset("*/%&#@\\^~")
_ARTICLES = frozenset("ai")


def normalised(text: str) -> str:
    """What a text means, without its case, spacing, quotes and sentence marks.

    Of two texts with the same result one is a copy. A hyphen between two words is a space. A text
    of nothing but punctuation is itself.

    Example:
        >>> normalised("A State-of-the-Art  car!") == normalised("a state of the art car")
        True
        >>> normalised("C++ 3.5"), normalised("It is -5 \u00b0C."), normalised("?!")
        ('c++3.5', 'it is-5\u00b0c', '?!')
    """
    kept = _ASIAN_MARKS.sub(" ", _folded(text))
    kept = _HYPHEN.sub(" ", _LAST.sub("", _SENTENCE.sub("", kept)))
    return _SPACE.sub("", kept.strip()) if kept.strip(" .,;:?!") else text.strip()


def text_key(text: str) -> int:
    """A 64-bit hash of the normalised text."""
    digest = hashlib.blake2b(normalised(text).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def text_keys(texts) -> np.ndarray:
    """[texts] uint64 keys of texts, one at a time."""
    return np.fromiter(map(text_key, texts), np.uint64)


def words(text: str) -> list[str]:
    """The words of a text without case and punctuation; of Chinese, Thai and the like, characters.

    What else a text says (signs, operators, units) is in `marks`.

    Example:
        >>> words("A state-of-the-art car, 3.5 m")
        ['a', 'stateoftheart', 'car', '3.5', 'm']
        >>> words("猫が好き")
        ['猫', 'が', '好', 'き']
    """
    folded = _IN_NUMBER.sub(".", _folded(text))
    joined = re.sub(r"(?<=[^\W\d_])-(?=[^\W\d_])", "", folded)
    kept = "".join(c if c == "." or not _is_mark(c) else " " for c in joined)
    return _UNSPACED.sub(r" \1 ", re.sub(r"(?<!\d)\.|\.(?!\d)", " ", kept)).split()


def marks(text: str) -> Counter:
    """What must not differ between a text and its near-duplicate, and how often it occurs.

    These are numbers with sign and unit, operators and symbols, superscripts, and single letters
    that are no words (vitamin C, plan B).

    Example:
        >>> marks("C# at -5 km") == marks("c#, at -5km")
        True
        >>> marks("10\u00b2 m") == marks("102 m"), marks("a * b") == marks("a / b")
        (False, False)
    """
    folded = _folded(text)
    found = Counter(re.sub(r"\s", "", number) for number in _NUMBER.findall(folded))
    rest = _NUMBER.sub(" ", folded)
    found.update(mark for mark in _OPERATOR.findall(rest) if mark not in _ARTICLES)
    found.update(character for character in rest if _is_operator(character))
    return found


def _folded(text: str) -> str:
    """The text in one case and one spelling of each character, without quotes."""
    if not text.isascii():
        text = _UNSEEN.sub("", "".join(map(_same, text)))
        text = unicodedata.normalize("NFC", _APOSTROPHES.sub("'", _DASHES.sub("-", text)))
    # Case is dropped but for units behind a number: 5 mW is not 5 MW.
    pieces = enumerate(_CASED_UNIT.split(text))
    text = "".join(piece if number % 2 else piece.casefold() for number, piece in pieces)
    return _QUOTES.sub("", text)


@functools.lru_cache(maxsize=1 << 16)
def _same(character: str) -> str:
    """The character, or its usual form where both mean the same."""
    same = unicodedata.decomposition(character).split(" ", 1)[0] in _SAME
    return unicodedata.normalize("NFKC", character) if same else character


@functools.lru_cache(maxsize=1 << 16)
def _is_mark(character: str) -> bool:
    """Whether a character is of Unicode's punctuation, separators or control characters."""
    return unicodedata.category(character)[0] in "PZC"


@functools.lru_cache(maxsize=1 << 16)
def _is_operator(character: str) -> bool:
    """Whether a character is an operator, a currency, a superscript or a fraction."""
    return character in _OPERATORS or unicodedata.category(character) in ("Sm", "Sc", "No")
