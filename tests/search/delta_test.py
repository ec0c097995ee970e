"""An index of an earlier corpus with what changed since, against scores of the whole corpus."""

import numpy as np
import pytest

from gemb import search

DIM = 8


def unit(rng, rows):
    made = rng.normal(size=(rows, DIM))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def changed(rng, old, *, gone, new, copies=0):
    """A corpus after changes, in another order, and where each old row is now."""
    kept = rng.permutation(len(old))[gone:]
    added = unit(rng, new)
    added[:copies] = old[rng.choice(kept, copies)]  # equal to documents of the base
    place = rng.permutation(len(kept) + new)
    now = np.empty((len(place), DIM), np.float32)
    now[place[: len(kept)]], now[place[len(kept) :]] = old[kept], added
    rows = np.full(len(old), -1)
    rows[kept] = place[: len(kept)]
    return now, rows


@pytest.mark.parametrize("seed", range(6))
def test_answers_are_those_of_all_scores(seed):
    rng = np.random.default_rng(seed)
    old = unit(rng, 200)
    old[[5, 80, 120]] = old[4]
    now, rows = changed(rng, old, gone=20 * seed, new=15, copies=4)
    index = search.DeltaSearcher(search.ExactSearcher(old), rows, now)
    queries = np.concatenate([unit(rng, 20), old[[4]]])
    found = index.search(queries, 10)
    exact = queries.astype(np.float64) @ now.T.astype(np.float64)
    order = np.lexsort((np.arange(len(now))[None].repeat(21, 0), -exact.round(6)), axis=1)
    np.testing.assert_array_equal(found.indices, order[:, :10])
    np.testing.assert_allclose(found.scores, np.take_along_axis(exact, order[:, :10], 1), atol=1e-6)


def test_nearest_documents_that_are_gone_are_left_out():
    """A query whose hundred nearest are gone: the base has to be asked for more."""
    rng = np.random.default_rng(0)
    old = unit(rng, 400)
    near = np.argsort(-(old @ old[0]))[:100]
    rows = np.full(400, -1)
    kept = np.setdiff1d(np.arange(400), near)
    rows[kept] = np.arange(300)
    index = search.DeltaSearcher(search.ExactSearcher(old), rows, old[kept])
    best = np.argsort(-(old[kept] @ old[0]))[:5]
    np.testing.assert_array_equal(index.search(old[:1], 5).indices[0], best)


def test_a_saved_index_answers_the_same(tmp_path):
    rng = np.random.default_rng(1)
    old = unit(rng, 50)
    now, rows = changed(rng, old, gone=5, new=6, copies=2)
    index = search.DeltaSearcher(search.ExactSearcher(old), rows, now, deltas=3)
    search.save_index(tmp_path / "index", index, model="m")
    read = search.load_index(tmp_path / "index", model="m")
    for one, other in zip(index.search(now, 9), read.search(now, 9), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (read.deltas, read.documents) == (3, len(now))
    np.testing.assert_array_equal(read.base_rows, rows)


def test_rows_that_do_not_fit_are_refused():
    base, now = search.ExactSearcher(np.eye(3, dtype=np.float32)), np.eye(3, dtype=np.float32)
    for rows in ([0, 0, -1], [0, 1, 3], [0, 1]):
        with pytest.raises(ValueError, match="rows"):
            search.DeltaSearcher(base, np.array(rows), now)
