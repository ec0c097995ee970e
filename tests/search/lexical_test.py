"""BM25 against its formula in float64, and the words that code falls apart into."""

import math

import numpy as np
import pytest

from gemb import search
from gemb.search.lexical import words

TEXTS = [
    "def read_lines(path): return open(path).readlines()",
    "class HTTPServer2: pass",
    "def flattenNestedList(items): return [x for xs in items for x in xs]",
    "read read read",
    "",
]


def _by_formula(query, texts, k1, b):
    """BM25 with Lucene's idf, in float64; stop words are kept out by the texts chosen."""
    tokens = [words(text) for text in texts]
    mean = sum(map(len, tokens)) / len(tokens)
    scores = []
    for document in tokens:
        score = 0.0
        for word in words(query):
            df = sum(word in other for other in tokens)
            idf = math.log(1 + (len(texts) - df + 0.5) / (df + 0.5))
            tf = document.count(word)
            score += idf * tf / (tf + k1 * (1 - b + b * len(document) / mean))
        scores.append(score)
    return np.array(scores)


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4)])
def test_scores_match_the_formula(k1, b):
    rng = np.random.default_rng(0)
    vocabulary = ["alpha", "beta", "gamma", "delta", "kilo", "lima", "oscar"]
    texts = [" ".join(rng.choice(vocabulary, rng.integers(1, 12))) for _ in range(30)]
    queries = ["alpha beta", "oscar oscar kilo", "gamma unknown"]
    scores, indices = search.Bm25Searcher(texts, k1=k1, b=b).search(queries, 30)
    for query, score, index in zip(queries, scores, indices, strict=True):
        expected = _by_formula(query, texts, k1, b)
        found = index >= 0
        assert set(index[found].tolist()) == set(np.flatnonzero(expected).tolist())
        np.testing.assert_allclose(score[found], expected[index[found]], rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("read_http_body", ["read", "http", "body"]),
        ("readHTTPBody2", ["read", "http", "body", "2"]),
        ("XMLParser.parseURL()", ["xml", "parser", "parse", "url"]),
        ("__init__ MAX_SIZE", ["init", "max", "size"]),
        ("queries classes bus is lines", ["query", "classe", "bus", "is", "line"]),
        ("café naïveÉtude 日本語", ["café", "naïveétude", "日本語"]),
        ("", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_plain_words_find_identifiers():
    searcher = search.Bm25Searcher(TEXTS)
    indices = searcher.search(["flatten a nested list", "an http server"], 1).indices
    np.testing.assert_array_equal(indices, [[2], [1]])


def test_documents_that_share_no_word_are_no_hits():
    searcher = search.Bm25Searcher(TEXTS)
    scores, indices = searcher.search(["nothing such here", "   ", "the of"], 3)
    assert (indices == -1).all()
    assert (scores == -np.inf).all()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="texts: expected words, got none in 2 documents"):
        search.Bm25Searcher(["", " the "])
    with pytest.raises(ValueError, match="queries: expected a list of texts, got str"):
        search.Bm25Searcher(TEXTS).search("read", 2)
