"""Sigmoid, several positives, triplets, graded pairs and regularisers against numpy."""

import jax
import jax.numpy as jnp
import losses_reference as reference
import numpy as np
import pytest

from gemb import losses
from gemb.losses import Fields


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def setting(seed, *drop):
    """Arrays and fields of a batch, the same in numpy, and each row's weight."""
    made = reference.make(seed)
    plain = {name: np.asarray(array) for name, array in made.items()}
    arrays = [made.pop(name) for name in ("query", "document", "positive")]
    real = plain["query_mask"] & plain["document_mask"][plain["positive"]]
    fields = {name: array for name, array in made.items() if name not in drop}
    return arrays, fields, plain, plain["weights"] * real, real


IDS = ("query_id", "document_id", "in_batch")


def roles(plain, real, i):
    """Which documents are query i's own hard negatives, which its positives by text."""
    texts = plain["document_id"]
    known = {
        texts[p]
        for name, p, here in zip(plain["query_id"], plain["positive"], real, strict=True)
        if name == plain["query_id"][i] and here
    } | {texts[plain["positive"][i]]}
    owner = np.array(reference.owners(list(plain["positive"]), len(texts)))
    compete = plain["document_mask"] & (plain["in_batch"][i] | (owner == i))
    return compete, np.isin(texts, list(known))


def test_sigmoid():
    arrays, fields, plain, weight, real = setting(1)
    want = []
    for i, p in enumerate(plain["positive"]):
        compete, known = roles(plain, real, i)
        logit = 3.0 * plain["document"] @ plain["query"][i] - 2.0
        cost = np.log1p(np.exp(logit))[compete & ~known].sum()
        want.append(cost + np.log1p(np.exp(-logit[p])))
    got = losses.sigmoid(*arrays, scale=3.0, bias=-2.0, fields=Fields(**fields))
    np.testing.assert_allclose(got, weight * want, rtol=1e-10)


def test_multi_positive():
    arrays, fields, plain, weight, real = setting(2)
    want, several = [], False
    for i, p in enumerate(plain["positive"]):
        compete, known = roles(plain, real, i)
        logit = plain["document"] @ plain["query"][i] / 0.2
        negatives = np.exp(logit[compete & ~known]).sum()
        own = np.flatnonzero((known & plain["document_mask"]) | (np.arange(len(logit)) == p))
        several |= len(own) > 1
        want.append(np.mean(np.log(np.exp(logit[own]) + negatives) - logit[own]))
    assert several
    got = losses.multi_positive(*arrays, temperature=0.2, fields=Fields(**fields))
    np.testing.assert_allclose(got, weight * want, rtol=1e-10)


@pytest.mark.long
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_triplet(distance):
    arrays, fields, plain, weight, _ = setting(3, *IDS)
    owner = reference.owners(list(plain["positive"]), len(plain["document"]))

    def away(x, y):
        return 1 - x @ y if distance == "cosine" else np.linalg.norm(x - y)

    want = []
    for i, p in enumerate(plain["positive"]):
        far = [away(plain["query"][i], d) for d in plain["document"]]
        negatives = [j for j, o in enumerate(owner) if o == i and plain["document_mask"][j]]
        want.append(np.mean([max(0, far[p] - far[n] + 0.4) for n in negatives] or [0]))
    got = losses.triplet(*arrays, margin=0.4, distance=distance, fields=Fields(**fields))
    np.testing.assert_allclose(got, weight * want, rtol=1e-10)
    with pytest.raises(ValueError, match="document: expected hard negatives"):
        losses.triplet(arrays[0], arrays[1][:6], arrays[2])


def test_graded_pairs():
    arrays, fields, plain, weight, real = setting(4, *IDS)
    grades = np.array([0, 1, 2, 2, 4, 5]) / 5
    cosine = np.sum(plain["query"] * plain["document"][plain["positive"]], axis=1)
    gaps = [
        np.exp(20 * (cosine[j] - cosine[i]))
        for i in range(6)
        for j in range(6)
        if grades[i] > grades[j] and real[i] and real[j]
    ]
    assert gaps
    fields = Fields(scores=jnp.asarray(grades), **fields)
    got = losses.cosent(*arrays, fields=fields)
    np.testing.assert_allclose(got, weight * np.log1p(np.sum(gaps)), rtol=1e-10)
    got = losses.cosine_regression(*arrays, fields=fields)
    np.testing.assert_allclose(got, weight * (cosine - grades) ** 2, rtol=1e-10)
    with pytest.raises(ValueError, match="scores: expected a grade"):
        losses.cosent(*arrays)


def test_regularizers():
    arrays, fields, plain, weight, real = setting(5, *IDS)
    q, p = plain["query"], plain["document"][plain["positive"]]
    rows = np.flatnonzero(real)
    pairs = [(i, j) for i in rows for j in rows if i != j]
    spread = sum(np.mean([(x[i] @ x[j]) ** 2 for i, j in pairs]) for x in (q, p))
    apart = [[np.sum((x[i] - x[j]) ** 2) for i, j in pairs] for x in (q, p)]
    even = np.mean([np.log(np.mean(np.exp(-2 * np.array(far)))) for far in apart])
    np.testing.assert_allclose(
        losses.spread_out(*arrays, fields=Fields(**fields)), weight * spread, rtol=1e-10
    )
    np.testing.assert_allclose(
        losses.uniformity(*arrays, fields=Fields(**fields)), weight * even, rtol=1e-10
    )
    near = np.sum((q - p) ** 2, axis=1)
    np.testing.assert_allclose(
        losses.alignment(*arrays, fields=Fields(**fields)), weight * near, rtol=1e-10
    )


def test_spread_of_the_even_sphere_is_one_over_dim():
    rows = jnp.asarray(reference.unit(np.random.default_rng(0), 1000, 16))
    got = losses.spread_out(rows, rows, jnp.arange(1000))[0]
    assert got == pytest.approx(2 / 16, rel=0.02)
