"""Every kind of index by name: built, meeting its target, saved and read again."""

import numpy as np
import pytest

from gemb import search
from gemb.checks import UserError
from gemb.search import scann
from gemb.search.registry import KINDS, Kind, build

TEXTS = [f"number {i} of many" for i in range(1_500)]


def _unit(rows, dim=24, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)) * 0.85 ** np.arange(dim)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_built_and_kept(kind, tmp_path):
    if "scann" in kind and not scann.available():
        pytest.skip("scann ships for Linux only")
    if kind == "hnsw":
        pytest.importorskip("usearch")
    documents, queries = _unit(1_500), _unit(200, seed=1)
    made = build(kind, documents, texts=TEXTS, sample=queries[:100], target=0.9)
    search.save_index(tmp_path / "index", made, model="aaaa")
    again = search.load_index(tmp_path / "index", model="aaaa")
    if made.reads != "vectors":
        queries = search.Queries(TEXTS[:4], documents[:4]) if made.reads == "both" else TEXTS[:4]
        assert made.search(queries, 3).indices[:, 0].tolist() == [0, 1, 2, 3]
    else:
        queries = queries[100:]
        exact = search.ExactSearcher(documents).search(queries, 10).indices
        found = made.search(queries, 10).indices
        assert (exact[:, :, None] == found[:, None, :]).any(axis=2).mean() > {"binary": 0.3}.get(
            kind, 0.87
        )
    np.testing.assert_array_equal(
        made.search(queries, 10).indices, again.search(queries, 10).indices
    )


def test_nested_widths_are_kept_to_and_others_are_turned():
    mixed = np.linalg.qr(np.random.default_rng(5).normal(size=(24, 24)))[0].astype(np.float32)
    documents, queries = _unit(1_500), _unit(100, seed=1)
    nested = build("funnel", documents, sample=queries, widths=[24, 12, 6], target=0.9)
    assert set(nested.policy.widths) <= {6, 12, 24}
    assert nested._axes is None
    turned = build("funnel", documents @ mixed, sample=queries @ mixed, target=0.9)
    assert turned._axes is not None


def test_an_unknown_kind_is_named():
    with pytest.raises(UserError, match=r"unknown kind of index 'funel'.* Did you mean funnel"):
        build("funel", np.eye(3))


class _Reversed(search.ExactSearcher):
    """A searcher of another class: the documents that fit least."""

    def search(self, queries, k):
        return super().search(-queries, k)


def test_a_new_kind_is_one_row(monkeypatch, tmp_path):
    monkeypatch.setitem(KINDS, "last", Kind(_Reversed, "last", lambda c: _Reversed(c.vectors)))
    made = build("last", np.eye(3)[::-1] - np.eye(3))
    search.save_index(tmp_path / "index", made, model="aaaa")
    again = search.load_index(tmp_path / "index", model="aaaa")
    assert type(again) is _Reversed
    assert again.search(np.array([[1.0, 0, 0]]), 1).indices.tolist() == [[0]]


def test_a_searcher_of_searchers_is_kept_with_its_parts(tmp_path):
    documents = _unit(20)
    inner = search.FusedSearcher([search.ExactSearcher(documents)] * 2, depth=7)
    outer = search.FusedSearcher([inner, search.Bm25Searcher(TEXTS[:20])], weights=[1, 0.5])
    search.save_index(tmp_path / "index", outer, model="aaaa")
    again = search.load_index(tmp_path / "index", model="aaaa")
    assert [type(one) for one in again.searchers] == [search.FusedSearcher, search.Bm25Searcher]
    asked = search.Queries(TEXTS[3:5], documents[3:5])
    np.testing.assert_array_equal(again.search(asked, 5).scores, outer.search(asked, 5).scores)
