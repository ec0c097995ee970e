"""The funnel against a cascade written out in float64, and the operations that it counts."""

import numpy as np
import pytest

from gemb import search
from gemb.search import scann

WIDTHS, SHORTLISTS = (4, 9, 24), (60, 25)


def _unit(rows, dim=24, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)) * 0.9 ** np.arange(dim)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _cascade(documents, query, k, widths=WIDTHS, shortlists=SHORTLISTS):
    """Prefixes of unit length ranked one stage after the other, the last by the whole."""
    documents, query = documents.astype(np.float64), query.astype(np.float64)
    kept = np.arange(len(documents))
    for width, count in zip(widths[:-1], shortlists, strict=True):
        prefix = documents[kept, :width]
        scores = prefix @ query[:width] / np.linalg.norm(prefix, axis=1)
        kept = np.sort(kept[np.argsort(-scores, kind="stable")[: max(count, k)]])
    scores = documents[kept] @ query
    order = np.argsort(-scores, kind="stable")[:k]
    return kept[order], scores[order]


@pytest.mark.long
@pytest.mark.parametrize("asked", [1, 3, 70])
def test_matches_the_cascade_in_float64(asked):
    documents, queries = _unit(5_000), _unit(asked, seed=1)
    funnel = search.FunnelSearcher(documents, widths=WIDTHS, shortlists=SHORTLISTS)
    scores, indices = funnel.search(queries, 10)
    exact = search.ExactSearcher(documents).search(queries, 10).indices
    assert asked == 1 or (indices != exact).any(), "the cascade must lose something to be tested"
    for row, query in enumerate(queries):
        expected, values = _cascade(documents, query, 10)
        np.testing.assert_array_equal(indices[row], expected)
        np.testing.assert_allclose(scores[row], values, atol=1e-6)


def test_the_device_finds_the_same_shortlist(monkeypatch):
    documents, queries = _unit(3_000), _unit(9, seed=1)
    settings = {"widths": WIDTHS, "shortlists": SHORTLISTS}
    on_cpu = search.FunnelSearcher(documents, **settings).search(queries, 10)
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    on_device = search.FunnelSearcher(documents, **settings).search(queries, 10)
    np.testing.assert_array_equal(on_cpu.indices, on_device.indices)


def test_shortlists_of_the_whole_corpus_are_exact_search():
    documents, queries = _unit(400), _unit(20, seed=1)
    funnel = search.FunnelSearcher(documents, widths=WIDTHS, shortlists=[400, 400])
    found, exact = (one.search(queries, 15) for one in (funnel, search.ExactSearcher(documents)))
    np.testing.assert_array_equal(found.indices, exact.indices)


def test_turned_vectors_keep_their_scores():
    documents, queries = _unit(600), _unit(20, seed=1)
    mixed = np.linalg.qr(np.random.default_rng(2).normal(size=(24, 24)))[0].astype(np.float32)
    axes = search.principal_axes(documents @ mixed)
    funnel = search.FunnelSearcher(documents @ mixed, widths=[24], shortlists=[], axes=axes)
    found = funnel.search(queries @ mixed, 10)
    exact = search.ExactSearcher(documents).search(queries, 10)
    np.testing.assert_array_equal(found.indices, exact.indices)
    np.testing.assert_allclose(found.scores, exact.scores, atol=1e-5)


def test_operations_are_counted():
    documents = _unit(1_000)
    funnel = search.FunnelSearcher(documents, widths=WIDTHS, shortlists=SHORTLISTS)
    assert funnel.flops == 2 * (1_000 * 4 + 60 * 9 + 25 * 24)
    turned = search.FunnelSearcher(
        documents, widths=WIDTHS, shortlists=SHORTLISTS, axes=np.eye(24, dtype=np.float32)
    )
    assert turned.flops == funnel.flops + 2 * 24 * 24
    assert search.full_flops(1_000, 24) == 2 * 1_000 * 24
    small = search.Policy(WIDTHS, SHORTLISTS).flops(30)  # no more than there are
    assert small == 2 * (30 * 4 + 30 * 9 + 25 * 24)


@pytest.mark.skipif(not scann.available(), reason="scann ships for Linux only")
def test_scann_first_finds_nearly_the_same():
    documents, queries = _unit(4_000), _unit(60, seed=1)
    settings = {"widths": [8, 24], "shortlists": [200]}
    exact_first = search.FunnelSearcher(documents, **settings).search(queries, 10).indices
    funnel = search.FunnelSearcher(documents, **settings, first="scann")
    found = funnel.search(queries, 10).indices
    shared = (found[:, :, None] == exact_first[:, None, :]).any(axis=2).mean()
    assert shared > 0.95
    scann_only = 2 * 200 * 24
    assert funnel.flops == funnel.scann.flops + scann_only


def test_bad_input_is_named():
    documents = _unit(50)
    for widths, shortlists, message in [
        ([4, 9], [3], r"widths: expected rising widths that end at dim 24, got \(4, 9\)"),
        ([9, 4, 24], [3, 3], "widths: expected rising widths"),
        ([4, 9, 24], [3], "shortlists: expected one for each width but the last, 2, got 1"),
        ([4, 9, 24], [3, 9], "shortlists: expected falling counts"),
        ([4, 24], [0], "shortlists: expected falling counts of 1 or more"),
    ]:
        with pytest.raises(ValueError, match=message):
            search.FunnelSearcher(documents, widths=widths, shortlists=shortlists)
    with pytest.raises(ValueError, match="first: expected one of"):
        search.FunnelSearcher(documents, widths=[24], shortlists=[], first="tree")
    with pytest.raises(ValueError, match="axes: expected shape"):
        search.FunnelSearcher(documents, widths=[24], shortlists=[], axes=np.eye(3))
