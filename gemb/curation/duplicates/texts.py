"""When two texts count as the same: case, punctuation and spacing aside."""

import functools
import hashlib
import re
import sys
import unicodedata

import numpy as np

_DROPPED = "PZC"  # Unicode's punctuation, separators and control characters
_IN_NUMBER = re.compile(r"(?<=\d)[.,:/'\u2019-](?=\d)")
_IN_WORD = re.compile(r"(?<=[^\W\d_])['\u2019\u2010\u2011-](?=[^\W\d_])")
# Thai and its neighbours, kana, Chinese characters: scripts without spaces between words.
_UNSPACED = re.compile(r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff])")


def normalised(text: str) -> str:
    """A text without case, punctuation and white space; of two equal ones one is a copy.

    Symbols (+, <, $) and the marks of Indic and other scripts stay, and a dot stands for what
    separates digits, so that 3.5 is not 35. A text of nothing but punctuation is itself.

    Example:
        >>> normalised("A State-of-the-Art  car!") == normalised("a state of the art car")
        True
        >>> normalised("C++ 3.5"), normalised("C 35"), normalised("?!")
        ('c++3.5', 'c35', '?!')
    """
    between_digits, dropped = _patterns()
    folded = unicodedata.normalize("NFKC", text).casefold()
    return dropped.sub("", between_digits.sub(".", folded)) or text.strip()


def text_key(text: str) -> int:
    """A 64-bit hash of the normalised text."""
    digest = hashlib.blake2b(normalised(text).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def text_keys(texts) -> np.ndarray:
    """[texts] uint64 keys of texts, one at a time."""
    return np.fromiter(map(text_key, texts), np.uint64)


def words(text: str) -> list[str]:
    """The words of a text without case and punctuation; of Chinese, Thai and the like, characters.

    Example:
        >>> words("A state-of-the-art car, 3.5 m")
        ['a', 'stateoftheart', 'car', '3.5', 'm']
        >>> words("猫が好き")
        ['猫', 'が', '好', 'き']
    """
    _, dropped = _patterns()
    folded = unicodedata.normalize("NFKC", text).casefold()
    joined = _IN_WORD.sub("", _IN_NUMBER.sub(".", folded))
    return _UNSPACED.sub(r" \1 ", dropped.sub(" ", joined)).split()


@functools.cache
def _patterns() -> tuple[re.Pattern, re.Pattern]:
    """What stands between two digits, and what is dropped: all but a dot that stands there."""
    codes = [code for code in range(sys.maxunicode + 1) if _is_dropped(chr(code))]
    ends = [i for i in range(len(codes)) if i + 1 == len(codes) or codes[i + 1] > codes[i] + 1]
    starts = [0, *(end + 1 for end in ends[:-1])]
    runs = (f"\\U{codes[a]:08x}-\\U{codes[b]:08x}" for a, b in zip(starts, ends, strict=True))
    any_of = f"[{''.join(runs)}]"
    return (
        re.compile(rf"(?<=\d){any_of}+(?=\d)"),
        re.compile(rf"(?<!\d)\.|\.(?!\d)|(?!\.){any_of}"),
    )


def _is_dropped(character: str) -> bool:
    return unicodedata.category(character)[0] in _DROPPED
