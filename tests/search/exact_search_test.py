"""Exact search against float64 numpy, in every way that a corpus can be cut."""

import numpy as np
import pytest

from gemb import search
from gemb.search import scan


def _reference(queries, documents, k):
    """Scores in float64, ties by the lower index, documents without a direction last."""
    scores = queries.astype(np.float64) @ documents.astype(np.float64).T
    ranked = np.where(documents.any(axis=1), scores, -np.inf)
    order = np.argsort(-ranked, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


@pytest.mark.parametrize(
    ("cut", "queries"),
    [
        ({}, 1),
        ({"chunk_rows": 100}, 300),
        ({"chunk_rows": 64, "device_bytes": 0}, 5),
        ({"chunk_rows": 15}, 257),
    ],
)
def test_matches_float64(cut, queries):
    rng = np.random.default_rng(0)
    documents = rng.normal(size=(333, 24)).astype(np.float32)
    asked = rng.normal(size=(queries, 24)).astype(np.float32)
    scores, indices = search.ExactSearcher(documents, **cut).search(asked, 20)
    expected_scores, expected = _reference(asked, documents, 20)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk_rows", [1_000, 9])
def test_ties_across_chunks_go_to_the_lower_index(chunk_rows):
    rng = np.random.default_rng(1)
    documents = rng.integers(-1, 2, size=(100, 4)).astype(np.float32)  # many ties, many zeros
    asked = rng.integers(-1, 2, size=(12, 4)).astype(np.float32)
    scores, indices = search.ExactSearcher(documents, chunk_rows=chunk_rows).search(asked, 100)
    expected_scores, expected = _reference(asked, documents, 100)
    np.testing.assert_array_equal(scores, expected_scores)
    np.testing.assert_array_equal(indices, expected)


def test_negative_zero_ties_with_zero():
    documents = np.array([[-0.0, -1.0], [0.0, 1.0], [0.0, 0.0]], np.float32)
    indices = search.ExactSearcher(documents).search(np.array([[1.0, 0.0]], np.float32), 3).indices
    np.testing.assert_array_equal(indices, [[0, 1, 2]])


def test_one_compilation_for_each_k_and_block_size():
    documents = np.random.default_rng(2).normal(size=(50, 8)).astype(np.float32)
    searcher = search.ExactSearcher(documents, chunk_rows=20)
    searcher.search(documents[:1], 5)
    searcher.search(documents[:8], 5)
    compiled = scan._compiled(searcher._scan._devices)
    before = compiled._cache_size()
    for count in (1, 2, 7, 8, 1, 3):
        searcher.search(documents[:count], 5)
    assert compiled._cache_size() == before
    searcher.search(documents[:1], 6)
    assert compiled._cache_size() > before, "the count must see a compilation"


def test_a_mapped_file_is_searched_where_it_lies(tmp_path):
    documents = np.random.default_rng(3).normal(size=(200, 8)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", documents)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    searcher = search.ExactSearcher(mapped, chunk_rows=64, device_bytes=0)
    assert np.shares_memory(searcher._vectors, mapped)
    expected = _reference(documents[:4], documents, 3)[1]
    np.testing.assert_array_equal(searcher.search(documents[:4], 3).indices, expected)


def test_float64_and_float16_vectors_are_taken():
    eye = np.eye(4)
    for dtype in (np.float64, np.float16):
        indices = search.ExactSearcher(eye.astype(dtype)).search(eye.astype(dtype), 1).indices
        np.testing.assert_array_equal(indices[:, 0], np.arange(4))


def test_bad_corpora_are_named():
    with pytest.raises(ValueError, match="vectors: expected 2 dimensions"):
        search.ExactSearcher(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="vectors: expected a floating dtype"):
        search.ExactSearcher(np.zeros((3, 2), np.int32))
    with pytest.raises(ValueError, match="vectors: expected dim 1 or more"):
        search.ExactSearcher(np.zeros((3, 0), np.float32))
    with pytest.raises(ValueError, match="chunk_rows: expected 1 or more"):
        search.ExactSearcher(np.eye(3), chunk_rows=0)
