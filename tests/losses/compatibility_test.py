"""Backward-compatible training against float64 numpy written from the formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemb import losses


def unit(rng, *shape):
    rows = rng.normal(size=shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def expected(query, document, old, positive, weight, t=0.1):
    total = 0
    for rows, w in ((document, 1), (old, weight)):
        scores = query @ rows.T / t
        top = np.log(np.exp(scores).sum(axis=1))
        total = total + w * (top - scores[np.arange(len(query)), positive])
    return total


@pytest.mark.long
def test_both_parts_from_the_formula_and_no_gradient_to_the_old_model():
    rng = np.random.default_rng(0)
    query, document, old = unit(rng, 5, 6), unit(rng, 10, 6), unit(rng, 10, 6)
    positive = np.arange(5) * 2
    fields = losses.Fields(teacher_query=jnp.asarray(unit(rng, 5, 6)), teacher_document=old)

    def loss(query, old):
        given = fields._replace(teacher_document=old)
        return losses.backward_compatible(
            query, document, positive, temperature=0.1, old_weight=0.5, fields=given
        )

    got = loss(jnp.asarray(query), jnp.asarray(old))
    np.testing.assert_allclose(got, expected(query, document, old, positive, 0.5), rtol=1e-5)
    slopes = jax.grad(lambda *args: loss(*args).sum(), argnums=(0, 1))(query, old)
    assert np.abs(slopes[0]).max() > 0
    assert not np.any(slopes[1])
    with pytest.raises(ValueError, match="old_weight"):
        losses.backward_compatible(query, document, positive, old_weight=-1.0, fields=fields)
