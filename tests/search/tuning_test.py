"""ScaNN tuned on one half of the queries meets its target on the other."""

import numpy as np
import pytest

from gemb import search
from gemb.checks import UserError
from gemb.search import scann

pytestmark = pytest.mark.skipif(not scann.available(), reason="scann ships for Linux only")


def _clustered(count, dim=32, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(200, dim))
    vectors = centres[rng.integers(0, 200, count)] + 0.6 * rng.normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def data():
    vectors = _clustered(5_400)
    return vectors[:5_000], vectors[5_000:5_200], vectors[5_200:]


def _recall(index, documents, queries, k=10):
    exact = search.ExactSearcher(documents).search(queries, k).indices
    found = index.search(queries, k).indices
    return (exact[:, :, None] == found[:, None, :]).any(axis=2).mean()


def test_new_queries_meet_the_target_with_fewer_leaves(data):
    documents, sample, queries = data
    index = search.ScannSearcher(documents)
    careful = index.flops
    chosen = search.tune(index, documents, sample, target=0.9)
    assert (index.leaves_to_search, index.reorder) == chosen[:2]
    assert chosen.recall >= 0.9
    assert _recall(index, documents, queries) > 0.87
    assert index.flops < careful
    low = chosen.leaves_to_search
    assert search.tune(index, documents, sample, target=0.98).recall >= 0.98
    assert index.leaves_to_search > low


def test_a_funnel_is_tuned_through_its_first_stage(data):
    documents, sample, queries = data
    funnel = search.FunnelSearcher(documents, widths=[24, 32], shortlists=[60], first="scann")
    chosen = search.tune(funnel, documents, sample, target=0.9)
    assert funnel.scann.leaves_to_search == chosen.leaves_to_search
    assert _recall(funnel, documents, queries) > 0.87


def test_a_target_out_of_reach_says_the_best(data):
    documents, sample, _ = data
    funnel = search.FunnelSearcher(documents, widths=[2, 32], shortlists=[10], first="scann")
    with pytest.raises(UserError, match=r"reaches recall@10 0.99; the best found was 0\.\d+"):
        search.tune(funnel, documents, sample, target=0.99)


def test_bad_input_is_named(data):
    documents, sample, _ = data
    index = search.ScannSearcher(documents[:2_000])
    with pytest.raises(ValueError, match=r"vectors: expected shape \(2000, 32\)"):
        search.tune(index, documents, sample)
    with pytest.raises(ValueError, match="k: expected 1 to 2000"):
        search.tune(index, documents[:2_000], sample, k=2_001)
    funnel = search.FunnelSearcher(documents, widths=[32], shortlists=[])
    with pytest.raises(ValueError, match="got a funnel with an exact pass"):
        search.tune(funnel, documents, sample)
