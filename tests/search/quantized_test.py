"""Fewer bits: the codes against their formulas, and what re-scoring brings back."""

import numpy as np
import pytest

from gemb import search


def _unit(rows, dim=48, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("precision", "dim", "expected"),
    [("bfloat16", 48, 96), ("int8", 48, 48), ("binary", 48, 6), ("binary", 50, 7)],
)
def test_bytes_per_vector(precision, dim, expected):
    searcher = search.QuantizedSearcher(_unit(20, dim), precision=precision)
    assert searcher.bytes_per_vector == expected


def test_int8_scores_by_the_rounded_codes():
    documents, queries = _unit(300), _unit(10, seed=1)
    scale = np.abs(documents).max(axis=0).astype(np.float64) / 127
    codes = np.rint(documents / scale)
    expected = queries.astype(np.float64) @ (codes * scale).T
    scores, indices = search.QuantizedSearcher(documents, precision="int8").search(queries, 10)
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :10], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(expected, indices, axis=1), scores, atol=1e-5)


@pytest.mark.parametrize("dim", [48, 64, 67])
def test_binary_scores_by_hamming_distance(dim):
    documents, queries = _unit(300, dim), _unit(10, dim, seed=1)
    other = ((documents > 0)[None] != (queries > 0)[:, None]).sum(axis=2)
    expected = (dim - 2 * other) / dim
    order = np.argsort(-expected, axis=1, kind="stable")[:, :10]
    scores, indices = search.QuantizedSearcher(documents, precision="binary").search(queries, 10)
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, order, axis=1), atol=1e-6)


def test_more_bits_and_rescoring_agree_more():
    documents, queries = _unit(2_000), _unit(50, seed=1)
    exact = search.ExactSearcher(documents).search(queries, 10)

    def agreement(**settings):
        found = search.QuantizedSearcher(documents, **settings).search(queries, 10).indices
        return (exact.indices[:, :, None] == found[:, None, :]).any(axis=2).mean()

    binary, again = (agreement(precision="binary", rescore=r) for r in (0, 20))
    assert binary < again - 0.2
    assert agreement(precision="int8") > 0.95
    assert agreement(precision="bfloat16") > 0.95
    assert agreement(precision="int8", rescore=4) == 1.0


def test_rescored_scores_are_those_of_float32():
    documents, queries = _unit(500), _unit(9, seed=1)
    searcher = search.QuantizedSearcher(documents, precision="binary", rescore=10)
    scores, indices = searcher.search(queries, 5)
    expected = np.take_along_axis(queries @ documents.T, indices, axis=1)
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_bad_input_is_named():
    documents = _unit(10)
    with pytest.raises(ValueError, match=r"precision: expected one of .*, got 'int4'"):
        search.QuantizedSearcher(documents, precision="int4")
    with pytest.raises(ValueError, match="rescore: expected 0 or more, got -1"):
        search.QuantizedSearcher(documents, rescore=-1)
