"""Reciprocal-rank fusion against its formula."""

import numpy as np
import pytest

from gemb import search


class _Fixed:
    """A searcher that always finds the same."""

    documents, dim, reads = 9, 2, "vectors"

    def __init__(self, indices, scores=None):
        scores = [float(-i) for i in range(len(indices))] if scores is None else scores
        self._found = np.array(scores, np.float32), np.array(indices)

    def search(self, queries, k):
        scores, indices = self._found
        missing = k - len(indices)
        scores = np.pad(scores, (0, missing), constant_values=-np.inf)
        indices = np.pad(indices, (0, missing), constant_values=-1)
        return search.Hits(*(np.tile(row, (len(queries), 1)) for row in (scores, indices)))


def test_scores_follow_the_formula():
    one, other = _Fixed([3, 1, 4]), _Fixed([1, 5])
    fused = search.FusedSearcher([one, other], constant=60, weights=[1, 2])
    scores, indices = fused.search(np.zeros((2, 2)), 6)
    expected = {1: 1 / 62 + 2 / 61, 5: 2 / 62, 3: 1 / 61, 4: 1 / 63}
    np.testing.assert_array_equal(indices[1], [1, 5, 3, 4, -1, -1])
    np.testing.assert_allclose(scores[1, :4], [expected[i] for i in (1, 5, 3, 4)], rtol=1e-6)
    assert (scores[1, 4:] == -np.inf).all()


def test_equal_scores_share_the_better_rank():
    one = _Fixed([2, 5, 7], [1.0, 1.0, 0.5])
    scores, indices = search.FusedSearcher([one, one]).search(np.zeros((1, 2)), 3)
    np.testing.assert_array_equal(indices[0], [2, 5, 7])
    np.testing.assert_allclose(scores[0], [2 / 61, 2 / 61, 2 / 63], rtol=1e-6)


def test_fusion_finds_what_either_finds():
    texts = ["red fox", "blue sea", "green tree"]
    fused = search.FusedSearcher([search.Bm25Searcher(texts), search.ExactSearcher(np.eye(3))])
    queries = search.Queries(["a fox", "nothing"], np.array([[0.0, 1, 0.1], [0.0, 0, 1]]))
    indices = fused.search(queries, 3).indices
    assert set(indices[0, :2].tolist()) == {0, 1}  # BM25's first and the vectors' first
    assert indices[1, 0] == 2  # BM25 found nothing


def test_bad_input_is_named():
    eye = search.ExactSearcher(np.eye(3))
    with pytest.raises(ValueError, match="searchers: expected two or more, got 1"):
        search.FusedSearcher([eye])
    with pytest.raises(ValueError, match=r"searchers: expected one corpus, got sizes \[3, 4\]"):
        search.FusedSearcher([eye, search.ExactSearcher(np.eye(4))])
    with pytest.raises(ValueError, match="weights: expected 2 of 0 or more"):
        search.FusedSearcher([eye, eye], weights=[1, -1])
    with pytest.raises(ValueError, match="queries: expected as many texts as vectors, got 1, 2"):
        search.Queries(["a"], np.zeros((2, 3)))
    both = search.FusedSearcher([search.Bm25Searcher(["a b c"] * 3), eye])
    with pytest.raises(ValueError, match="queries: expected texts and vectors, got ndarray"):
        both.search(np.eye(3), 1)
