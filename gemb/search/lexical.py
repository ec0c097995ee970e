"""Lexical search by BM25, over texts and code: the baseline that an embedding has to beat.

The only importer of bm25s.
"""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemb import checks
from gemb.search import searcher

# Scripts without spaces between words, or with endings at them: Thai, Lao, Burmese, Khmer, kana,
# Chinese characters, Hangul. Their runs are cut into pairs of characters.
_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_RUN = re.compile(
    f"([{_HAN}\u0e00-\u0e4f\u0e80-\u0ecf\u1000-\u109f\u1780-\u17d3\u3041-\u30fa\u30fc-\u30ff"
    "\u31f0-\u31ff\uac00-\ud7a3\uff66-\uff9f]+)"
)
_IS_HAN = re.compile(f"[{_HAN}]")
# The vowel signs of Indic and other scripts belong to their word; Python's \w leaves them out.
_SIGNS = "".join(chr(c) for c in range(0x900, 0xABFF) if unicodedata.category(chr(c))[0] == "M")
_WORD = re.compile(rf"[\w{_SIGNS}]+")
_LETTERS = rf"(?:[^\W\d_A-Z]|[{_SIGNS}])+"
_PART = re.compile(rf"[A-Z]+(?![^\W\d_A-Z])|[A-Z]?{_LETTERS}|\d+")


def words(text: str, stopwords: frozenset[str] = frozenset()) -> list[str]:
    """Cuts a text or source code into lower-case words for BM25.

    Identifiers fall apart at underscores, changes of case and digits, so that a question in plain
    words finds `readHTTPBody2` and `read_http_body`. A plural `s` goes, and so do stop words. Text
    in a script without spaces between words becomes pairs of neighbouring characters, and Chinese
    characters stand alone as well. Signs are no words: C++ and C# are `c`.

    Args:
        text: prose or source code.
        stopwords: words to leave out.

    Returns:
        The words, in order, repeated as they occur.

    Example:
        >>> words("def readHTTPBody2(max_size): # the queries", frozenset({"the"}))
        ['def', 'read', 'http', 'body', '2', 'max', 'size', 'query']
        >>> words("猫が好き")
        ['猫', '好', '猫が', 'が好', '好き']

    Reference: the plural rule is the S-stemmer of Harman, How effective is suffixing?, 1991; pairs
        of characters: Nie et al., On the use of words and n-grams for Chinese information
        retrieval, 2000.
    """
    made = []
    for number, piece in enumerate(_RUN.split(text)):
        made += _pairs(piece) if number % 2 else _spaced_words(piece, stopwords)
    return made


def _pairs(run: str) -> list[str]:
    """The Chinese characters of a run and its pairs of neighbours; a run of one as it is."""
    run = unicodedata.normalize("NFKC", run)
    pairs = [run[i : i + 2] for i in range(len(run) - 1)]
    return _IS_HAN.findall(run) + pairs or [run]


def _spaced_words(text: str, stopwords: frozenset[str]) -> list[str]:
    parts = (part.lower() for word in _WORD.findall(text) for part in _PART.findall(word))
    return [_singular(part) for part in parts if part not in stopwords]


def _singular(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or word.endswith(("us", "ss")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1]


class Bm25Searcher:
    """Ranks documents by BM25 over `words`, English stop words left out.

    score = sum over the query's words w of idf(w) * tf / (tf + k1 (1 - b + b * length / mean)),
    idf(w) = ln(1 + (documents - df + 0.5) / (df + 0.5)), mean being the mean length. A document
    that shares no word with the query is not a hit.

    Args:
        texts: the documents.
        k1: how soon repeating a word stops counting.
        b: how much long documents are held back, 0 to 1.

    Raises:
        ValueError: no texts, or no word in any of them.

    Example:
        >>> index = Bm25Searcher(["def read_lines(path): ...", "def close(): ..."])
        >>> index.search(["read the lines of a file"], k=2).indices
        array([[ 0, -1]])

    Reference: Lù, BM25S: orders of magnitude faster lexical search, 2024, arXiv 2407.03618; the
        form is Lucene's.
    """

    reads, dim = "texts", 0

    def __init__(self, texts: Sequence[str], *, k1: float = 1.5, b: float = 0.75):
        import bm25s
        from bm25s.stopwords import STOPWORDS_EN

        checks.check(len(texts) > 0, "texts: expected at least one document, got none")
        self._stopwords = frozenset(STOPWORDS_EN)
        tokens = [words(text, self._stopwords) for text in texts]
        checks.check(any(tokens), f"texts: expected words, got none in {len(texts)} documents")
        self.documents = len(tokens)
        self._index = bm25s.BM25(k1=k1, b=b, method="lucene", backend="numpy")
        self._index.index(tokens, show_progress=False)

    def search(self, queries: Sequence[str], k: int) -> searcher.Hits:
        """Finds the k best documents of each query; see `Searcher.search`."""
        checks.check(
            not isinstance(queries, str) and all(isinstance(query, str) for query in queries),
            f"queries: expected a list of texts, got {type(queries).__name__}",
        )
        searcher.check_k(k)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        indices = np.full((len(queries), k), -1, np.int64)
        for row, query in enumerate(queries):
            found, value = self._best(query, k)
            indices[row, : len(found)], scores[row, : len(found)] = found, value
        return searcher.Hits(scores, indices)

    def save(self, folder: Path) -> dict:
        """Writes the index, not the texts; returns the settings."""
        self._index.save(folder / "bm25", show_progress=False)
        return {"documents": self.documents, "stopwords": sorted(self._stopwords)}

    @classmethod
    def load(cls, folder: Path, settings: dict) -> "Bm25Searcher":
        """Reads what `save` wrote."""
        import bm25s

        made = cls.__new__(cls)
        made.documents = settings["documents"]
        made._stopwords = frozenset(settings["stopwords"])
        made._index = bm25s.BM25.load(folder / "bm25", load_corpus=False, show_progress=False)
        return made

    def _best(self, query: str, k: int) -> tuple[np.ndarray, np.ndarray]:
        tokens = self._index.get_tokens_ids(words(query, self._stopwords))
        if not tokens:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        scores = np.asarray(self._index.get_scores_from_ids(tokens))
        if k < self.documents:  # keep every tie at the k-th place: the lower index wins below
            least = np.partition(scores, self.documents - k)[self.documents - k]
            found = np.flatnonzero(scores >= max(least, np.finfo(scores.dtype).tiny))
        else:
            found = np.flatnonzero(scores > 0)
        found = found[np.argsort(-scores[found], kind="stable")][:k]
        return found, scores[found]
