"""Nested losses, and losses put together."""

import functools

import jax
import jax.numpy as jnp
import losses_reference as reference
import numpy as np
import pytest

from gemb import losses


def shortened(array, width):
    short = np.asarray(array, np.float64)[..., :width]
    return short / np.linalg.norm(short, axis=-1, keepdims=True)


def test_matryoshka_is_the_weighted_sum_over_widths():
    with jax.enable_x64(True):
        batch = reference.make(dim=8)
        arrays = [batch.pop(name) for name in ("query", "document", "positive")]
        weights = {2: 0.5, 8: 1.0, 4: 2.0}
        nested = functools.partial(
            losses.matryoshka, widths=tuple(weights), width_weights=tuple(weights.values())
        )
        got = jax.jit(nested)(*arrays, fields=losses.Fields(**batch))
        want = sum(
            weight * reference.info_nce(*(shortened(a, m) for a in arrays[:2]), arrays[2], **batch)
            for m, weight in weights.items()
        )
        np.testing.assert_allclose(got, want, rtol=1e-10)


def test_zero_leading_coordinates_send_no_nan():
    rows = jnp.eye(4)

    def total(rows):
        return jnp.sum(losses.matryoshka(rows, rows, jnp.arange(4), widths=(4, 1)))

    assert np.all(np.isfinite(jax.jit(jax.grad(total))(rows)))


@pytest.mark.long
def test_matryoshka_keeps_the_terms_of_what_it_wraps():
    rows = jnp.asarray(reference.unit(np.random.default_rng(0), 4, 6), jnp.float32)
    terms = {"contrast": losses.info_nce, "spread": losses.spread_out}
    wrapped = functools.partial(losses.weighted_sum, terms=terms, term_weights={"spread": 3.0})
    total, parts = losses.matryoshka(rows, rows, jnp.arange(4), loss=wrapped, widths=(6, 3))
    spread = losses.matryoshka(rows, rows, jnp.arange(4), loss=losses.spread_out, widths=(6, 3))
    np.testing.assert_allclose(parts["spread"], spread, rtol=1e-6)
    np.testing.assert_allclose(total, parts["contrast"] + 3 * spread, rtol=1e-6)


@pytest.mark.long
def test_layers_are_drawn_without_bias():
    rng = np.random.default_rng(1)
    layers = jnp.asarray(reference.unit(rng, 3, 4, 6), jnp.float32)
    arrays = layers[2], layers[2], jnp.arange(4)
    fields = losses.Fields(query_layers=layers[:2], document_layers=layers[:2])
    loss = functools.partial(losses.matryoshka_2d, *arrays, widths=(6, 2))
    every = jax.jit(lambda fields: loss(fields=fields))(fields)
    widths = {"widths": (6, 2)}
    want = losses.matryoshka(*arrays, **widths) + sum(
        losses.matryoshka(layer, layer, jnp.arange(4), **widths) / 2 for layer in layers[:2]
    )
    np.testing.assert_allclose(every, want, rtol=1e-5)
    draw = jax.jit(jax.vmap(lambda key: loss(fields=fields._replace(key=key))))
    drawn = np.unique(np.asarray(draw(jax.random.split(jax.random.key(0), 64))), axis=0)
    assert len(drawn) == 2
    np.testing.assert_allclose(drawn.mean(axis=0), every, rtol=1e-5)


def test_classifiers_nest():
    rng = np.random.default_rng(2)
    features, shared = rng.normal(size=(4, 6)), rng.normal(size=(3, 6))
    own = [rng.normal(size=(3, width)) for width in (6, 2)]
    label = np.array([0, 2, 1, 2])

    def cross_entropy(logits):
        return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(4), label]

    with jax.enable_x64(True):
        arrays = [jnp.asarray(x) for x in (features, shared, label)]
        mrl_e = losses.nested_classification(*arrays, widths=(6, 2))
        kernels = losses.Fields(classifiers=[jnp.asarray(kernel) for kernel in own])
        mrl = losses.nested_classification(*arrays, widths=(6, 2), fields=kernels)
    want = sum(cross_entropy(features[:, :m] @ shared[:, :m].T) for m in (6, 2))
    np.testing.assert_allclose(mrl_e, want, rtol=1e-10)
    want = sum(cross_entropy(features[:, :m] @ k.T) for m, k in zip((6, 2), own, strict=True))
    np.testing.assert_allclose(mrl, want, rtol=1e-10)


@pytest.mark.long
def test_weighted_sum_names_its_terms():
    rows = jnp.eye(2)
    inner = functools.partial(losses.weighted_sum, terms={"b": losses.alignment})
    terms = {"a": losses.spread_out, "c": inner}
    total, parts = losses.weighted_sum(
        rows, rows[::-1], jnp.arange(2), terms=terms, term_weights={"a": None, "c": 0.5}
    )
    np.testing.assert_allclose(parts["c/b"], 2.0)
    np.testing.assert_allclose(total, parts["a"] + 0.5 * parts["c"])
    with pytest.raises(ValueError, match=r"'spraed' is no term.*Did you mean spread"):
        losses.weighted_sum(
            rows, rows, jnp.arange(2), terms={"spread": inner}, term_weights={"spraed": 1.0}
        )


@pytest.mark.long
def test_losses_get_their_fields_through_wrappers():
    @functools.wraps(losses.cosent)
    def wrapped(*args, **kwargs):  # as gin wraps a reference
        return losses.cosent(*args, **kwargs)

    rows, grades = jnp.ones((2, 1)), jnp.asarray([0.0, 1.0])
    fields = {"scores": grades, "query_id": jnp.arange(2), "weights": None}
    value, terms = losses.evaluate(wrapped, rows, rows, jnp.arange(2), fields)
    np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
    assert terms == {}
    with pytest.raises(ValueError, match="mean: expected the loss of each query"):
        losses.evaluate(mean, rows, rows, jnp.arange(2), {})


def mean(query, document, positive, *, fields):
    """A loss that forgot to give each query its own."""
    return jnp.mean(query)


def test_bad_widths_are_named():
    rows = jnp.eye(4)
    with pytest.raises(ValueError, match="widths: expected widths between 1 and 4"):
        losses.matryoshka(rows, rows, jnp.arange(4), widths=(8,))
    with pytest.raises(ValueError, match="width_weights: expected one for each of 2"):
        losses.matryoshka(rows, rows, jnp.arange(4), widths=(4, 2), width_weights=(1.0,))


def test_classifiers_that_do_not_fit_are_named():
    arrays = jnp.zeros((4, 6)), jnp.zeros((3, 6)), jnp.zeros(4, int)
    for classifiers, message in [
        ([jnp.zeros((3, 6))], "classifiers: expected one for each of"),
        (
            [jnp.zeros((3, 6)), jnp.zeros((3, 4))],
            r"classifiers of width 2: expected shape \(3, 2\)",
        ),
    ]:
        fields = losses.Fields(classifiers=classifiers)
        with pytest.raises(ValueError, match=message):
            losses.nested_classification(*arrays, widths=(6, 2), fields=fields)


def test_a_loss_that_draws_gets_another_key_than_the_layer():
    rows, layers = jnp.eye(2), jnp.stack([jnp.eye(2)] * 2)
    seen = []

    def drawing(query, document, positive, *, fields):
        seen.append(jax.random.key_data(fields.key).tolist())
        return losses.alignment(query, document, positive, fields=fields)

    key = jax.random.key(0)
    fields = losses.Fields(query_layers=layers, document_layers=layers, key=key)
    losses.matryoshka_2d(rows, rows, jnp.arange(2), widths=(2,), loss=drawing, fields=fields)
    assert seen
    assert jax.random.key_data(key).tolist() not in seen
