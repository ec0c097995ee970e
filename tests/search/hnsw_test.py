"""HNSW against a plain loop."""

import numpy as np
import pytest

from gemb import search
from gemb.checks import UserError

pytestmark = pytest.mark.extra("hnsw")


def vectors(rows, seed=0, dim=24):
    made = np.random.default_rng(seed).normal(size=(rows, dim))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def plain(corpus, queries, k):
    scores = queries.astype(np.float64) @ corpus.T.astype(np.float64)
    return np.argsort(-scores, axis=1, kind="stable")[:, :k], scores


def share(found, true):
    return np.mean([len({*a} & {*b}) / len(b) for a, b in zip(found, true, strict=True)])


def test_it_is_tuned_to_a_target_and_its_scores_are_exact():
    corpus, queries = vectors(3000), vectors(80, seed=1)
    true, scores = plain(corpus, queries, 10)
    made = search.build("hnsw", corpus, sample=queries[:40], target=0.95)
    hits = made.search(queries, 10)
    assert share(hits.indices, true) > 0.9
    there = np.take_along_axis(scores, hits.indices, axis=1)
    np.testing.assert_allclose(hits.scores, there, atol=1e-6)
    low = search.build("hnsw", corpus, sample=queries[:40], target=0.5)
    assert low.ef <= made.ef
    low.set(2)
    assert share(low.search(queries, 10).indices, true) < share(hits.indices, true)


def test_a_small_corpus_is_searched_exactly():
    corpus, queries = vectors(500), vectors(30, seed=1)
    made = search.HnswSearcher(corpus, ef=1)
    np.testing.assert_array_equal(made.search(queries, 7).indices, plain(corpus, queries, 7)[0])


def test_a_target_that_is_not_reached(monkeypatch):
    made = search.HnswSearcher(vectors(1200))
    assert not made.exact
    monkeypatch.setattr(made, "search", lambda queries, k: search.Hits(0, np.zeros((9, k), int)))
    from gemb.search.hnsw import tune_hnsw

    with pytest.raises(UserError, match=r"no setting of this HNSW index reaches recall@5 0\.9"):
        tune_hnsw(made, vectors(1200), vectors(9, seed=1), k=5, target=0.9)


def test_settings_and_damaged_files_are_refused(tmp_path):
    for settings in ({"m": 1}, {"ef_construction": 0}, {"ef": 0}):
        with pytest.raises(ValueError, match=r"expected \d or more"):
            search.HnswSearcher(vectors(9), **settings)
    for name, change in {
        "cut": lambda path: path.write_bytes(path.read_bytes()[:50]),
        "text": lambda path: path.write_text("not a graph"),
        "missing": lambda path: path.unlink(),
    }.items():
        folder = tmp_path / name
        search.save_index(folder, search.HnswSearcher(vectors(40)), model="m")
        change(folder / "graph.usearch")
        with pytest.raises(UserError, match="cannot be read"):
            search.load_index(folder, model="m")
    folder = tmp_path / "other"
    search.save_index(folder, search.HnswSearcher(vectors(40)), model="m")
    np.save(folder / "vectors.npy", vectors(39))
    with pytest.raises(UserError, match="cannot be read"):
        search.load_index(folder, model="m")
