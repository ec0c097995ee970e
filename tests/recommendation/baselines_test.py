"""Each baseline against its formula in float64, and against the library `implicit`."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from gemb.checks import UserError
from gemb.data.interactions import read_folder, splits
from gemb.evaluation.recommendation import measure
from gemb.recommendation.baselines import (
    BASELINES,
    ease,
    ials,
    interaction_matrix,
    item_knn,
    popularity,
    recent_popularity,
    rp3beta,
    tune,
)
from gemb.recommendation.baselines.tuning import rank_users, validation_figure, validation_split
from gemb.recommendation.vectors import Vectors
from gemb.structs import Interactions

USERS, ITEMS = 60, 25
DEBIAN = Path(__file__).parents[2].parent / "shared" / "data" / "recsys" / "debian_links"


@pytest.fixture(scope="module")
def train():
    """Users of five tastes, each with two to ten items; one item and one user without events."""
    rng = np.random.default_rng(0)
    pairs = []
    for user in range(USERS - 1):
        weight = np.exp(-np.abs(np.arange(ITEMS - 1) - 5 * (user % 5)) / 3.0)
        count = int(rng.integers(2, 11))
        own = rng.choice(ITEMS - 1, count, replace=False, p=weight / weight.sum())
        pairs += [(user, int(item)) for item in sorted(own)]
    user, item = np.array(pairs, np.int32).T
    return Interactions(user, item, np.ones(len(user), np.float32), rng.random(len(user)) * 1e6)


@pytest.fixture(scope="module")
def dense(train):
    matrix = np.zeros((USERS, ITEMS))
    matrix[train.user, train.item] = 1
    return matrix


def scores(model, train):
    return model.scores(interaction_matrix(train, USERS, ITEMS))


def test_matrix_is_binary_and_leaves_out_weightless_events(train):
    weights = np.where(np.arange(len(train.user)) == 0, 0.0, 3.0)
    made = interaction_matrix(train._replace(weight=weights), USERS, ITEMS)
    assert made.nnz == len(train.user) - 1
    assert set(made.data.tolist()) == {1.0}


def test_popularity(train, dense):
    np.testing.assert_array_equal(
        scores(popularity(train, USERS, ITEMS), train)[3], dense.sum(axis=0)
    )
    recent = recent_popularity(train, USERS, ITEMS, half_life=0.1).counts
    age = (train.time.max() - train.time) / (train.time.max() - train.time.min())
    expected = [np.sum(2 ** -(age[train.item == item] / 0.1)) for item in range(ITEMS)]
    np.testing.assert_allclose(recent, expected, rtol=1e-5)
    with pytest.raises(UserError, match="needs times"):
        recent_popularity(train._replace(time=None), USERS, ITEMS)


@pytest.mark.parametrize("neighbours", [0, 4])
def test_item_knn_is_the_cosine_with_shrinkage(train, dense, neighbours):
    common = dense.T @ dense
    counts = np.diag(common)
    weights = common / (np.sqrt(np.outer(counts, counts)) + 5.0)
    np.fill_diagonal(weights, 0)
    if neighbours:
        for column in weights.T:
            column[np.argsort(-column, kind="stable")[neighbours:]] = 0
    model = item_knn(train, USERS, ITEMS, neighbours=neighbours, shrink=5.0)
    np.testing.assert_allclose(scores(model, train), dense @ weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("neighbours", [0, 4])
def test_rp3beta_is_a_walk_of_three_steps(train, dense, neighbours):
    lengths, counts = dense.sum(axis=1), dense.sum(axis=0)
    from_user = np.divide(dense, lengths[:, None], where=lengths[:, None] > 0, out=0 * dense)
    from_item = np.divide(dense, counts, where=counts > 0, out=0 * dense).T
    walks = from_item**0.8 @ from_user**0.8
    walks *= np.where(counts > 0, np.maximum(counts, 1) ** -0.4, 0)
    np.fill_diagonal(walks, 0)
    if neighbours:
        for row in walks:
            row[np.argsort(-row, kind="stable")[neighbours:]] = 0
    model = rp3beta(train, USERS, ITEMS, alpha=0.8, beta=0.4, neighbours=neighbours)
    np.testing.assert_allclose(scores(model, train), dense @ walks, rtol=1e-4, atol=1e-6)


def test_ease_solves_its_least_squares(train, dense):
    """For each item the ridge regression on all others, solved apart."""
    model = ease(train, USERS, ITEMS, penalty=7.0)
    for item in range(ITEMS):
        others = np.delete(np.arange(ITEMS), item)
        gram = dense[:, others].T @ dense[:, others] + 7.0 * np.eye(ITEMS - 1)
        expected = np.linalg.solve(gram, dense[:, others].T @ dense[:, item])
        np.testing.assert_allclose(model.weights[others, item], expected, rtol=1e-4, atol=1e-6)
        assert model.weights[item, item] == 0


def test_ease_refuses_a_catalogue_beyond_the_memory(train):
    with pytest.raises(UserError, match=r"EASE: 10,000,000 items need 2,235,174 GiB of memory"):
        ease(train, USERS, 10**7)


def ials_vectors(own, others, unobserved, regularisation, exponent):
    """The exact solution of one side, row by row."""
    gram = unobserved * others.T @ others
    made = np.zeros((len(own), others.shape[1]))
    for row, entries in enumerate(own):
        near = others[entries > 0]
        penalty = regularisation * (len(near) + unobserved * len(others)) ** exponent
        left = near.T @ near + gram + penalty * np.eye(len(gram))
        made[row] = np.linalg.solve(left, near.sum(axis=0)) if len(near) else 0
    return made


@pytest.mark.parametrize("exponent", [1.0, 0.0])
def test_ials_alternates_exact_solutions(train, dense, exponent):
    """With as many conjugate gradients as dimensions, three iterations equal direct solves."""
    settings = {"unobserved": 0.2, "regularisation": 0.05, "exponent": exponent}
    model = ials(train, USERS, ITEMS, dim=6, iterations=3, steps=12, seed=4, **settings)
    rng = np.random.default_rng(4)
    users = rng.normal(0, 0.1 / np.sqrt(6), (USERS, 6))
    items = rng.normal(0, 0.1 / np.sqrt(6), (ITEMS, 6))
    for _ in range(3):
        users = ials_vectors(dense, items, **settings)
        items = ials_vectors(dense.T, users, **settings)
    users = ials_vectors(dense, items, **settings)
    np.testing.assert_allclose(scores(model, train), users @ items.T, atol=2e-3)
    assert not scores(model, train)[USERS - 1].any()


@pytest.mark.long
def test_ials_serves_users_that_it_was_not_trained_with(train):
    model = ials(train, USERS, ITEMS, dim=6, iterations=3)
    matrix = interaction_matrix(train, USERS, ITEMS)
    one_by_one = [model.scores(matrix[[row]])[0] for row in (0, 7, 20)]
    np.testing.assert_allclose(one_by_one, scores(model, train)[[0, 7, 20]], atol=1e-5)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::RuntimeWarning:implicit")
def test_ials_reaches_what_implicit_reaches(train):
    """The mean of seeds, both with the weights that do best; implicit's alpha is 1 / a + 1."""
    als = pytest.importorskip("implicit.als")
    split = splits.random(train, share=0.3, seed=1)
    matrix = scipy.sparse.csr_matrix(interaction_matrix(split.train, USERS, ITEMS))

    def ours(seed, penalty):
        settings = {"unobserved": 1 / 9, "regularisation": penalty / 9, "exponent": 0.0}
        return ials(split.train, USERS, ITEMS, dim=8, seed=seed, **settings)

    def theirs(seed, penalty):
        peer = als.AlternatingLeastSquares(
            factors=8, alpha=10, regularization=penalty, random_state=seed, num_threads=1
        )
        peer.fit(matrix, show_progress=False)
        return Vectors(peer.user_factors, peer.item_factors)

    best = [
        max(
            np.mean([validation_figure(fit(s, penalty), split, USERS, ITEMS) for s in range(4)])
            for penalty in (0.3, 1.0, 3.0)
        )
        for fit in (ours, theirs)
    ]
    assert best[0] >= best[1] - 0.02


def test_tuning_chooses_by_validation(train):
    validation = validation_split(train, one_each=True)
    tuned = tune("EASE", train, validation, USERS, ITEMS)
    figures = {
        penalty: validation_figure(
            ease(validation.train, USERS, ITEMS, penalty=penalty), validation, USERS, ITEMS
        )
        for penalty in BASELINES["EASE"].grid["penalty"]
    }
    assert tuned.settings == {"penalty": max(figures, key=figures.get)}
    assert tuned.validation == max(figures.values())
    assert tuned.tried == len(figures)
    refitted = ease(train, USERS, ITEMS, **tuned.settings)
    np.testing.assert_array_equal(tuned.model.weights, refitted.weights)


def test_a_budget_draws_from_the_grid(train):
    validation = validation_split(train, one_each=False)
    tuned = [tune("RP3beta", train, validation, USERS, ITEMS, budget=3, seed=5) for _ in range(2)]
    assert tuned[0].tried == 3
    assert tuned[0].settings == tuned[1].settings


@pytest.mark.parametrize(
    ("fit", "setting"),
    [(ease, {"penalty": 0}), (ials, {"dim": 0}), (item_knn, {"shrink": -1})],
)
def test_bad_settings(train, fit, setting):
    with pytest.raises(ValueError, match="expected"):
        fit(train, USERS, ITEMS, **setting)


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN.exists(), reason="../shared is not there")
@pytest.mark.parametrize(
    ("name", "settings", "hr", "ndcg"),
    [
        ("popularity", {}, 0.1205, 0.0656),
        ("item-kNN", {"neighbours": 0, "shrink": 5.0}, 0.5876, 0.4380),
        ("EASE", {"penalty": 10.0}, 0.6637, 0.5147),
        ("iALS", {"dim": 128, "unobserved": 0.03, "regularisation": 0.003}, 0.6426, 0.4731),
    ],
)
def test_figures_on_debian_links_are_those_of_other_code(name, settings, hr, ndcg):
    data = read_folder(DEBIAN)
    split, sizes = splits.by_column(data), (len(data.users.ids), len(data.items.ids))
    model = BASELINES[name].fit(split.train, *sizes, **settings)
    found = measure(*rank_users(model, split, *sizes, 100), split, sizes[1]).figures
    assert found["hr@10"] == pytest.approx(hr, abs=0.002)
    assert found["ndcg@10"] == pytest.approx(ndcg, abs=0.002)
