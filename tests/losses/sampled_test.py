"""The logQ correction: values from the formula, equal forms, and the gradient that it is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemb import losses

BATCH, DIM, T = 8, 5, 0.3


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "query": rng.normal(size=(BATCH, DIM)),
        "document": rng.normal(size=(BATCH, DIM)),
        "positive": rng.permutation(BATCH).astype(np.int32),
        "query_id": np.array([0, 1, 2, 3, 4, 5, 0, 7], np.int32),
        "document_id": np.array([10, 11, 12, 13, 14, 10, 16, 17], np.int32),
        "document_mask": np.arange(BATCH) != 6,
        "weights": rng.random(BATCH),
        "log_q": np.log(rng.dirichlet(np.ones(BATCH))),
        "known_positives": np.stack([np.full(BATCH, 17), np.full(BATCH, -1)], 1).astype(np.int32),
    }


def by_formula(b, spared=False):
    """[BATCH] losses in float64, cell by cell."""
    positives = [
        {int(b["document_id"][b["positive"][k]]) for k in range(BATCH)
         if b["query_id"][k] == b["query_id"][i] and b["document_mask"][b["positive"][k]]}
        for i in range(BATCH)
    ]  # fmt: skip
    made = np.zeros(BATCH)
    for i in range(BATCH):
        p = b["positive"][i]
        if not b["document_mask"][p]:
            continue
        own, terms = b["query"][i] @ b["document"][p] / T, []
        for j in range(BATCH):
            known = positives[i] | set(b["known_positives"][i].tolist())
            if j != p and b["document_mask"][j] and int(b["document_id"][j]) not in known:
                terms.append(b["query"][i] @ b["document"][j] / T - b["log_q"][j])
        if spared:
            rest = np.log(np.mean(np.exp(terms)))
            value = (1 - 1 / (1 + np.exp(rest - own))) * (rest - own)
        else:
            own = own - b["log_q"][p]
            value = np.log(np.exp(own) + np.exp(terms).sum()) - own
        made[i] = b["weights"][i] * value
    return made


def evaluated(b, **options):
    with jax.enable_x64(True):
        fields = {k: v for k, v in b.items() if k not in ("query", "document", "positive")}
        positive = jnp.asarray(b["positive"])

        def total(query, document, temperature):
            given = losses.Fields(**fields, temperature=temperature)
            value = losses.sampled_softmax(query, document, positive, fields=given, **options)
            return jnp.sum(value * jnp.arange(1, BATCH + 1)), value

        run = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True))
        (_, value), slopes = run(b["query"], b["document"], np.float64(T))
        return [np.asarray(array) for array in (value, *slopes)]


@pytest.mark.parametrize("spared", [False, True])
def test_it_is_the_formula(spared):
    value, *slopes = evaluated(batch(), log_q_positive=not spared)
    np.testing.assert_allclose(value, by_formula(batch(), spared), rtol=1e-9, atol=1e-12)
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_a_constant_in_log_q_changes_nothing():
    moved = batch() | {"log_q": batch()["log_q"] + 3.0}
    for one, other in zip(evaluated(batch()), evaluated(moved), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("spared", [False, True])
@pytest.mark.parametrize("form", [losses.Blockwise(block=3), losses.Ring(block=3)])
def test_all_forms_are_equal(spared, form):
    axes = (jax.sharding.AxisType.Auto,) * 3
    shape, names = (2, 2, 1), ("replica", "fsdp", "tensor")
    with jax.set_mesh(jax.make_mesh(shape, names, axis_types=axes, devices=jax.devices()[:4])):
        got = evaluated(batch(), log_q_positive=not spared, form=form)
    for mine, theirs in zip(got, evaluated(batch(), log_q_positive=not spared), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-8, atol=1e-10)


def test_what_does_not_fit_is_named():
    b = batch()
    with pytest.raises(ValueError, match=r"log_q: expected shape"):
        evaluated(b | {"log_q": b["log_q"][:-1]})
    with pytest.raises(ValueError, match="temperature: expected above 0, got 0"):
        losses.info_nce(jnp.eye(2), jnp.eye(2), jnp.arange(2), temperature=0)
    fields = {"known_positives": np.zeros((2, 1), np.int32)}
    with pytest.raises(ValueError, match="known_positives: they are ids"):
        losses.info_nce(jnp.eye(2), jnp.eye(2), jnp.arange(2), fields=fields)


@pytest.mark.parametrize("calibration", [0.0, 0.75, 1.0])
def test_generalized_bce_is_its_formula(calibration):
    rng, negatives, catalogue = np.random.default_rng(3), 2, 9
    query, document = rng.normal(size=(4, DIM)), rng.normal(size=(4 * (1 + negatives), DIM))
    ids = np.array([1, 2, 3, 4, 5, 6, 7, 8, 3, 5, 6, 1], np.int32)  # the third's own among its own
    known = np.array([[1, 6], [2, -1], [3, -1], [4, -1]], np.int32)
    share = negatives / (catalogue - 1)
    beta = share * (calibration * (1 - 1 / share) + 1 / share)
    expected = []
    for i in range(4):
        scores = document @ query[i] / T
        own = range(4 + negatives * i, 4 + negatives * (i + 1))
        left = [j for j in own if ids[j] != ids[i] and ids[j] not in known[i]]
        expected.append(beta * np.log1p(np.exp(-scores[i])) + np.log1p(np.exp(scores[left])).sum())
    with jax.enable_x64(True):
        fields = losses.Fields(document_id=ids, known_positives=known)
        made = losses.generalized_bce(
            query, document, jnp.arange(4), catalogue=catalogue, calibration=calibration,
            temperature=T, fields=fields,
        )  # fmt: skip
    np.testing.assert_allclose(made, expected, rtol=1e-12)


def gradients(size, items, batches, block=50, **options):
    """How far the items' mean in-batch gradient is from that of the whole softmax.

    Both are over the same draws. Users and items have random vectors, items a Zipf popularity.
    Relative, with and without log q.
    """
    rng = np.random.default_rng(0)
    users, vectors = rng.normal(size=(200, 8)) * 0.6, rng.normal(size=(items, 8)) * 0.6
    popular = 1 / np.arange(1, items + 1)
    popular = popular / popular.sum()
    chance = popular * np.exp(users @ vectors.T)
    chance = chance / chance.sum()  # of a user and an item together
    q = chance.sum(0)
    scores = users @ vectors.T
    softmax = np.exp(scores - np.log(np.exp(scores).sum(1, keepdims=True)))
    people = users
    vectors, log_q = jnp.asarray(vectors, jnp.float32), jnp.asarray(np.log(q), jnp.float32)
    users = jnp.asarray(users, jnp.float32)

    def loss(vectors, user, item, log_q):
        fields = losses.Fields(document_id=item, query_id=jnp.arange(size), log_q=log_q[item])
        made = losses.sampled_softmax(
            users[user], vectors[item], jnp.arange(size), temperature=1.0, fields=fields, **options
        )
        return jnp.mean(made)

    @jax.jit
    def summed(draws, log_q):
        slope = jax.grad(loss)
        return jax.lax.map(lambda d: slope(vectors, d // items, d % items, log_q), draws).sum(0)

    found, edges, drawn = {True: 0.0, False: 0.0}, np.cumsum(chance), np.zeros(chance.size)
    for _ in range(batches // block):
        draws = np.searchsorted(edges, rng.random((block, size)) * edges[-1]).astype(np.int32)
        drawn += np.bincount(draws.ravel(), minlength=chance.size)
        for corrected in found:
            part = summed(draws, log_q if corrected else jnp.zeros_like(log_q))
            found[corrected] = found[corrected] + np.asarray(part, np.float64)
    seen = drawn.reshape(chance.shape) / drawn.sum()
    whole = softmax.T @ (seen.sum(1)[:, None] * people) - seen.T @ people
    return {
        corrected: np.linalg.norm(total / batches - whole) / np.linalg.norm(whole)
        for corrected, total in found.items()
    }


@pytest.mark.long
def test_in_batch_gradients_with_log_q_are_those_of_the_whole_softmax():
    """In a small catalogue accidental hits weigh: the spared positive has the smaller bias."""
    error = gradients(size=256, items=300, batches=400)
    assert error[True] < 0.1 < 0.5 < error[False], error
    error = gradients(size=256, items=300, batches=400, log_q_positive=False)
    assert error[True] < 0.05 < 0.5 < error[False], error


@pytest.mark.slow
def test_a_batch_of_1024_over_3000_items_has_the_whole_softmaxs_gradient():
    error = gradients(size=1024, items=3000, batches=500)
    print(f"relative error {error[True]:.4f} with log q, {error[False]:.3f} without")
    assert error[True] < 0.05 < 0.5 < error[False], error
