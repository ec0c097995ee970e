"""Which topic of the reference grew, with its words and texts."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from gemb.analysis.drift.clusters import nearest_centre
from gemb.analysis.drift.panel import Geometry
from gemb.analysis.drift.verdict import Topic

_WORD = re.compile(r"[^\W\d_]{3,}")
_SHOWN = 5


def grown(
    geometry: Geometry,
    shares: np.ndarray,
    now: np.ndarray,
    vectors: np.ndarray,
    texts: Sequence[str] | None,
    background: Mapping[str, float],
) -> tuple[Topic, ...]:
    """The clusters whose share grew beyond chance, the largest growth first.

    A cluster is named where its share exceeds the one before by three standard errors.

    Args:
        geometry: of the reference.
        shares: [clusters] shares of the reference.
        now: [clusters] shares of the window.
        vectors: [rows, dim] the window.
        texts: of the rows, if there are any.
        background: share of the reference's texts that have each word.

    Returns:
        At most five.
    """
    error = np.sqrt(np.maximum(shares * (1 - shares), 1e-4) / len(vectors))
    order = [k for k in np.argsort(shares - now) if now[k] - shares[k] > 3 * error[k]]
    if not order:
        return ()
    near, apart = nearest_centre(vectors, geometry.clusters)
    made = []
    for k in order[:_SHOWN]:
        rows = np.flatnonzero(near == k)
        rows = rows[np.argsort(-apart[rows], kind="stable")]
        chosen = [] if texts is None else [texts[row] for row in rows]
        shown = tuple(text[:200] for text in dict.fromkeys(chosen))[:_SHOWN]
        topic = Topic(int(k), float(shares[k]), float(now[k]), words(chosen, background), shown)
        made.append(topic)
    return tuple(made)


def words(texts: Sequence[str], background: Mapping[str, float], count: int = 6) -> tuple[str, ...]:
    """Words that texts have more often than the background, by log likelihood.

    Args:
        texts: any number.
        background: share of texts that have each word.
        count: how many words at most.

    Example:
        >>> words(["a cat sat", "the cat ran", "a cat"], {"sat": 0.3, "ran": 0.3})
        ('cat',)
    """
    shares, rows = word_shares(texts), max(len(texts), 1)
    scores = {}
    for word, share in shares.items():
        before = background.get(word, 0.5 / rows)
        if share * rows >= 2 and share > before:
            scores[word] = share * math.log(share / before)
    return tuple(sorted(scores, key=lambda word: (-scores[word], word))[:count])


def word_shares(texts: Sequence[str]) -> dict[str, float]:
    """The share of texts that have each word of three letters or more, in lower case."""
    counts = Counter(word for text in texts for word in {*_WORD.findall(text.lower())})
    return {word: count / len(texts) for word, count in counts.items()}
