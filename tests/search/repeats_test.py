"""Equal documents are found together, by one score, even if a product rounds by the row's place."""

import ml_dtypes
import numpy as np
import pytest

from gemb import search
from gemb.search import repeats, scan
from gemb.search.funnel import cascade, first_stage, rotation

SAME = [3, 11, 12, 40, 41, 77, 90]  # documents that are equal


def _unit(rows, dim=16, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _corpus():
    vectors = _unit(100)
    vectors[SAME] = vectors[SAME[0]]
    return vectors


def _groups_by_loop(rows):
    """The places of each row's equals, by comparing all with all."""
    return [np.flatnonzero((rows == row).all(axis=1)).tolist() for row in rows]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.int8, ml_dtypes.bfloat16])
@pytest.mark.parametrize("dim", [1, 3, 16])
@pytest.mark.parametrize("levels", [2, 40])
def test_groups_are_those_of_a_plain_loop(dtype, dim, levels):
    rows = np.random.default_rng(dim).integers(-levels, levels, (150, dim)).astype(dtype)
    group = repeats._groups(rows)
    for place, equal in enumerate(_groups_by_loop(rows.astype(np.float64))):
        if len(equal) == 1:
            assert group[place] == -1
        else:
            assert np.flatnonzero(group == group[place]).tolist() == equal


def test_zero_and_negative_zero_are_equal():
    rows = np.array([[0.0, 1.0], [5.0, 1.0], [-0.0, 1.0]], np.float32)
    assert repeats._groups(rows).tolist() == [0, -1, 0]


def test_digests_that_meet_by_chance_join_nothing(monkeypatch):
    monkeypatch.setattr(repeats, "_digest", lambda rows: np.zeros(len(rows), np.uint64))
    rows = np.array([[1.0], [2.0], [1.0], [3.0], [2.0]])
    group = repeats._groups(rows)
    assert group[0] == group[2]
    assert group[1] == group[4]
    assert len({*group.tolist()}) == 3


def test_a_mapped_corpus_is_looked_through_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(repeats, "_ROWS", 7)
    np.save(tmp_path / "vectors.npy", _corpus())
    group = repeats._groups(np.load(tmp_path / "vectors.npy", mmap_mode="r"))
    assert np.flatnonzero(group >= 0).tolist() == SAME


def test_a_group_takes_the_best_of_its_scores_and_comes_whole():
    rows = np.array([[1.0], [2.0], [1.0], [2.0], [3.0], [1.0]])
    found = repeats.Repeats(rows).settle(
        np.array([[0.9, 0.8, 0.7], [0.5, 0.4, -np.inf]]), np.array([[2, 4, 1], [4, 3, -1]]), 5
    )
    np.testing.assert_array_equal(found.indices, [[0, 2, 5, 4, 1], [4, 1, 3, -1, -1]])
    expected = np.array([[0.9, 0.9, 0.9, 0.8, 0.7], [0.5, 0.4, 0.4, -np.inf, -np.inf]], np.float32)
    np.testing.assert_array_equal(found.scores, expected)


def test_groups_with_one_score_are_mixed_by_the_index():
    rows = np.array([[1.0], [2.0], [1.0], [2.0]])
    found = repeats.Repeats(rows).settle(np.array([[0.5, 0.5]]), np.array([[0, 1]]), 3)
    np.testing.assert_array_equal(found.indices, [[0, 1, 2]])


@pytest.fixture
def rounding_by_place(monkeypatch):
    """Products whose last bits depend on the row's place, the later rows' being higher."""

    def product(queries, rows):
        scores = np.asarray(queries, np.float32) @ np.asarray(rows, np.float32).T
        return scores + np.arange(len(rows), dtype=np.float32) * 2**-22

    def best(self, queries, k):
        scores = product(queries, self._rows)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, axis=1), order.astype(np.int32)

    def turned(vectors, axes):
        return product(axes.T, vectors).T

    monkeypatch.setattr(scan.Scan, "search", best)
    monkeypatch.setattr(first_stage, "_scores", lambda: product)
    monkeypatch.setattr(
        cascade, "rotate", lambda rows, axes: rows if axes is None else turned(rows, axes)
    )


SEARCHERS = {
    "exact": search.ExactSearcher,
    "int8": lambda v: search.QuantizedSearcher(v),
    "int8, rescored": lambda v: search.QuantizedSearcher(v, rescore=2),
    "bfloat16": lambda v: search.QuantizedSearcher(v, precision="bfloat16"),
    "binary": lambda v: search.QuantizedSearcher(v, precision="binary", rescore=2),
    "funnel": lambda v: search.FunnelSearcher(v, widths=[6, 11, 16], shortlists=[20, 10]),
    "funnel of one stage": lambda v: search.FunnelSearcher(v, widths=[16], shortlists=[]),
    "turned funnel": lambda v: search.FunnelSearcher(
        v, widths=[6, 16], shortlists=[20], axes=rotation.principal_axes(v)
    ),
}


@pytest.mark.parametrize("name", SEARCHERS)
@pytest.mark.parametrize("k", [1, 2, 5, 7, 9])
def test_equal_documents_are_found_by_the_lower_index(rounding_by_place, name, k):
    corpus = _corpus()
    scores, indices = SEARCHERS[name](corpus).search(corpus[SAME[:1]] + 0.01, k)
    together = min(k, len(SAME))
    np.testing.assert_array_equal(indices[0, :together], SAME[:together])
    assert len({*scores[0, :together].tolist()}) == 1


def test_the_products_of_these_tests_do_round_by_place(rounding_by_place):
    corpus = _corpus()
    scores, indices = scan.Scan(corpus, chunk_rows=100, device_bytes=0).search(corpus[3:4], 7)
    assert indices[0].tolist() == SAME[::-1]
    assert len({*scores[0].tolist()}) == len(SAME)


@pytest.mark.parametrize("places", [[0, 5, 29], [1, 2, 63]])
@pytest.mark.parametrize("dim", [3, 16, 129])
def test_equal_rows_are_rescored_alike_at_any_place(places, dim):
    """`einsum` sums each row by itself: what funnels and re-scoring rely on."""
    rows, query = _unit(64, dim), _unit(1, dim, seed=1)[0]
    rows[places] = rows[places[0]]
    assert len({*np.einsum("nd,d->n", rows, query)[places].tolist()}) == 1
