"""Policies meet their target on queries that they were not chosen on, and cost what they say."""

import numpy as np
import pytest

from gemb import search
from gemb.search.funnel.calibration import _ranks


def _nested(rows, dim=32, seed=0, decay=0.8):
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)) * decay ** np.arange(dim)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _agreement(funnel, documents, queries, k):
    exact = search.ExactSearcher(documents).search(queries, k).indices
    found = funnel.search(queries, k).indices
    return (exact[:, :, None] == found[:, None, :]).any(axis=2).mean()


@pytest.mark.parametrize("target", [0.9, 0.99])
def test_new_queries_meet_the_target_for_fewer_operations(target):
    documents, queries = _nested(3_000), _nested(400, seed=1)
    chosen = search.choose_policy(documents, queries[:200], target=target)
    widths, shortlists = chosen.policy
    funnel = search.FunnelSearcher(documents, widths=widths, shortlists=shortlists)
    assert _agreement(funnel, documents, queries[:200], 10) >= chosen.agreement >= target
    assert _agreement(funnel, documents, queries[200:], 10) >= target - 0.01
    assert chosen.flops == funnel.flops
    assert chosen.full_flops == 2 * 3_000 * 32
    assert chosen.flops < chosen.full_flops / 2


def test_a_lower_target_and_more_stages_cost_less():
    documents, queries = _nested(3_000), _nested(200, seed=1)
    costs = {
        (target, stages): search.choose_policy(
            documents, queries, target=target, stages=stages
        ).flops
        for target, stages in [(0.8, 2), (0.99, 2), (0.99, 4)]
    }
    assert costs[0.8, 2] < costs[0.99, 2]
    assert costs[0.99, 4] <= costs[0.99, 2]


def test_principal_axes_pay_where_widths_are_not_nested():
    mixed = np.linalg.qr(np.random.default_rng(5).normal(size=(32, 32)))[0].astype(np.float32)
    documents, queries = _nested(3_000) @ mixed, _nested(200, seed=1) @ mixed
    plain = search.choose_policy(documents, queries)
    turned = search.choose_policy(documents, queries, axes=search.principal_axes(documents))
    assert turned.flops < 0.7 * plain.flops


def test_hopeless_widths_fall_back_to_exact_search():
    documents, queries = _nested(300, decay=1.0), _nested(50, seed=1, decay=1.0)
    chosen = search.choose_policy(documents, queries, widths=[1], target=0.999)
    assert chosen.policy == ((32,), ())
    assert chosen.flops == chosen.full_flops
    assert chosen.agreement == 1.0


def test_only_the_widths_given_are_chosen():
    chosen = search.choose_policy(_nested(2_000), _nested(100, seed=1), widths=[5, 12])
    assert set(chosen.policy.widths) <= {5, 12, 32}


def test_ranks_count_what_comes_before():
    documents, queries = _nested(500), _nested(40, seed=1)
    true = search.ExactSearcher(documents).search(queries, 6).indices
    prefix = documents[:, :7].astype(np.float64)
    scores = queries[:, :7] @ (prefix / np.linalg.norm(prefix, axis=1, keepdims=True)).T
    places = np.argsort(np.argsort(-scores, axis=1), axis=1)
    expected = np.take_along_axis(places, true, axis=1)
    np.testing.assert_array_equal(_ranks(documents, queries, 7, true), expected)


def test_bad_input_is_named():
    documents, queries = _nested(20), _nested(5, seed=1)
    with pytest.raises(ValueError, match="k: expected 1 to 20, the corpus's documents, got 21"):
        search.choose_policy(documents, queries, k=21)
    with pytest.raises(ValueError, match="target: expected above 0 and below 1, got 1"):
        search.choose_policy(documents, queries, target=1.0)
    with pytest.raises(ValueError, match="queries: expected 2 or more, got 1"):
        search.choose_policy(documents, queries[:1])
    with pytest.raises(ValueError, match="widths: expected widths between 1 and 32, got 64"):
        search.choose_policy(documents, queries, widths=[64])
