"""What every searcher promises: a row in TABLE gets these checks for free."""

import inspect
import sys
from typing import NamedTuple

import numpy as np
import pytest

from gemb import search
from gemb.checks import UserError

DOCUMENTS, DIM = 60, 16
_VOCABULARY = [a + b for a in "bdfgklmnprt" for b in ("oa", "ei", "um", "ick", "olt", "ern")]


class Row(NamedTuple):
    """How to build a searcher and what to search it with."""

    build: type
    corpus: object
    queries: object  # query i is document i, or says what document i says
    wrong: object  # queries that the searcher must refuse
    alike: object  # a corpus whose rows 3, 11 and 40 are the same as row 3


def _vectors(seed=0, documents=DOCUMENTS):
    vectors = np.random.default_rng(seed).normal(size=(documents, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _vector_row(build, documents=DOCUMENTS):
    vectors = _vectors(documents=documents)
    alike = vectors.copy()
    alike[[11, 40]] = alike[3]
    return Row(build, vectors, vectors[:9], vectors[:9, : DIM - 3], alike)


def _text_row(build):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(_VOCABULARY, 8, replace=False)) for _ in range(DOCUMENTS)]
    alike = list(texts)
    alike[11] = alike[40] = alike[3]
    return Row(build, texts, texts[:9], [b"bytes"], alike)


def _scann(vectors):
    pytest.importorskip("scann")
    return search.ScannSearcher(vectors)


def _hnsw(vectors):
    pytest.importorskip("usearch")
    return search.HnswSearcher(vectors)


def _both(vectors):
    return search.FusedSearcher([search.ExactSearcher(vectors), search.QuantizedSearcher(vectors)])


def _mixed_row():
    """BM25 and vectors, joined: each searcher reads its own half of the queries."""
    text, vector = _text_row(None), _vector_row(None)

    def build(corpus):
        return search.FusedSearcher(
            [search.Bm25Searcher(corpus.texts), search.ExactSearcher(corpus.vectors)]
        )

    corpus = search.Queries(text.corpus, vector.corpus)
    alike = search.Queries(text.alike, vector.alike)
    return Row(build, corpus, corpus[:9], vector.wrong, alike)


def _delta(vectors):
    """An index of another order, with documents that are gone, and some that are new since."""
    old = np.concatenate([_vectors(1)[:9], vectors[7:][::-1]])
    rows = np.concatenate([np.full(9, -1), np.arange(7, len(vectors))[::-1]])
    return search.DeltaSearcher(search.ExactSearcher(old), rows, vectors)


def _quantized(**settings):
    return _vector_row(lambda vectors: search.QuantizedSearcher(vectors, **settings))


def _funnel(documents=DOCUMENTS, **settings):
    settings = {"widths": [6, 11, DIM], "shortlists": [40, 20]} | settings
    if settings.get("first") == "scann":
        pytest.importorskip("scann")
    return _vector_row(lambda vectors: search.FunnelSearcher(vectors, **settings), documents)


def _turned_funnel():
    return _vector_row(
        lambda vectors: search.FunnelSearcher(
            vectors, widths=[6, DIM], shortlists=[40], axes=search.principal_axes(vectors)
        )
    )


TABLE = {
    "ExactSearcher": lambda: _vector_row(search.ExactSearcher),
    "ExactSearcher in chunks": lambda: _vector_row(
        lambda vectors: search.ExactSearcher(vectors, chunk_rows=7)
    ),
    "ExactSearcher not on the device": lambda: _vector_row(
        lambda vectors: search.ExactSearcher(vectors, chunk_rows=16, device_bytes=0)
    ),
    "DeltaSearcher": lambda: _vector_row(_delta),
    "ScannSearcher": lambda: _vector_row(_scann),
    "ScannSearcher with a tree": lambda: _vector_row(_scann, documents=1_500),
    "HnswSearcher": lambda: _vector_row(_hnsw),
    "HnswSearcher with a graph": lambda: _vector_row(_hnsw, documents=1_500),
    "FunnelSearcher": lambda: _funnel(),
    "FunnelSearcher of one stage": lambda: _funnel(widths=[DIM], shortlists=[]),
    "FunnelSearcher on principal axes": lambda: _turned_funnel(),
    "FunnelSearcher with ScannSearcher first": lambda: _funnel(first="scann"),
    "QuantizedSearcher": lambda: _quantized(),
    "QuantizedSearcher, rescored": lambda: _quantized(rescore=4),
    "QuantizedSearcher, bfloat16": lambda: _quantized(precision="bfloat16"),
    "QuantizedSearcher, binary, rescored": lambda: _quantized(precision="binary", rescore=4),
    "FusedSearcher": lambda: _vector_row(_both),
    "FusedSearcher of texts and vectors": lambda: _mixed_row(),
    "Bm25Searcher": lambda: _text_row(search.Bm25Searcher),
}
_needs_scann = pytest.mark.skipif(sys.platform != "linux", reason="scann ships for Linux only")


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=_needs_scann if "Scann" in n else ()) for n in TABLE],
)
def row(request):
    return TABLE[request.param]()


@pytest.fixture(scope="module")
def searcher(row):
    return row.build(row.corpus)


def test_the_table_holds_every_searcher():
    public = {
        name
        for name in search.__all__
        if inspect.isclass(getattr(search, name)) and hasattr(getattr(search, name), "search")
    }
    assert public - {"Searcher"} == {name.replace(",", "").split()[0] for name in TABLE}


def test_shapes_and_dtypes(row, searcher):
    scores, indices = searcher.search(row.queries, 4)
    assert scores.shape == indices.shape == (9, 4)
    assert scores.dtype == np.float32
    assert indices.dtype == np.int64


def test_best_first_and_no_document_twice(row, searcher):
    scores, indices = searcher.search(row.queries, 30)
    found = indices >= 0
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    assert np.isfinite(scores[found]).all()
    assert (scores[~found] == -np.inf).all()
    for ranked in indices:
        kept = ranked[ranked >= 0].tolist()
        assert len(set(kept)) == len(kept)


def test_the_document_itself_comes_first(row, searcher):
    np.testing.assert_array_equal(searcher.search(row.queries, 3).indices[:, 0], np.arange(9))


def test_k_beyond_the_corpus_is_padded(row, searcher):
    total = len(row.corpus)
    scores, indices = searcher.search(row.queries, total + 5)
    assert scores.shape == (9, total + 5)
    assert (indices[:, total:] == -1).all()
    assert (scores[:, total:] == -np.inf).all()
    assert indices.max() < total


def test_equal_scores_by_the_lower_index(row):
    searcher = row.build(row.alike)
    scores, indices = searcher.search(row.alike[3:4], 5)
    assert scores[0, 0] == scores[0, 2], "the three must tie for this test to mean anything"
    np.testing.assert_array_equal(indices[0, :3], [3, 11, 40])


def test_a_search_repeats_itself(row, searcher):
    first, again = (searcher.search(row.queries, 10) for _ in range(2))
    np.testing.assert_array_equal(first.indices, again.indices)
    np.testing.assert_array_equal(first.scores, again.scores)


def test_queries_do_not_depend_on_their_company(row, searcher):
    together = searcher.search(row.queries, 5)
    alone = [searcher.search(row.queries[i : i + 1], 5) for i in range(9)]
    np.testing.assert_array_equal(together.indices, np.concatenate([h.indices for h in alone]))


def test_no_queries_no_hits(row, searcher):
    scores, indices = searcher.search(row.queries[:0], 3)
    assert scores.shape == indices.shape == (0, 3)


def test_bad_input_is_refused(row, searcher):
    with pytest.raises(ValueError, match="queries: expected"):
        searcher.search(row.wrong, 3)
    with pytest.raises(ValueError, match="k: expected 1 or more"):
        searcher.search(row.queries, 0)
    with pytest.raises(ValueError, match="expected at least one document"):
        row.build(row.corpus[:0])
    if isinstance(row.corpus, np.ndarray):
        spoilt = row.corpus.copy()
        spoilt[5, 2] = np.nan
        with pytest.raises(ValueError, match=r"vectors: expected finite values.* row 5"):
            row.build(spoilt)
        with pytest.raises(ValueError, match=r"queries: expected finite values.* row 5"):
            searcher.search(spoilt[:9], 3)


def test_a_saved_index_finds_the_same(row, searcher, tmp_path):
    search.save_index(tmp_path / "index", searcher, model="aaaa")
    again = search.load_index(tmp_path / "index", model="aaaa")
    assert type(again) is type(searcher)
    for name in ("documents", "dim", "reads"):
        assert getattr(again, name) == getattr(searcher, name)
    first, second = (one.search(row.queries, 10) for one in (searcher, again))
    np.testing.assert_array_equal(first.indices, second.indices)
    np.testing.assert_allclose(first.scores, second.scores, atol=1e-6)  # chunks may differ


def test_an_index_of_another_model_is_refused(row, searcher, tmp_path):
    search.save_index(tmp_path / "index", searcher, model="aaaa")
    if searcher.reads == "texts":
        search.load_index(tmp_path / "index", model="bbbb")  # BM25 knows no model
        return
    with pytest.raises(UserError, match="fingerprint aaaa, but the queries are of bbbb"):
        search.load_index(tmp_path / "index", model="bbbb")


def test_what_a_searcher_tells_of_itself(row, searcher):
    assert searcher.documents == len(row.corpus)
    assert searcher.reads in ("vectors", "texts", "both")
    assert searcher.dim == (0 if searcher.reads == "texts" else DIM)
