"""Softmax losses without the batch-by-candidates matrix, on one device.

This module loops over blocks of rows. The arithmetic of a block is in `softmax`; the form for a
mesh is in `ring`.

Usually the mean of the loss is differentiated: then one pass computes the loss of each row
and, from the same logits, the gradients of their sum, which the backward pass only
scales. If the cotangents differ between rows, it makes a second pass.
"""

import functools

import jax
import jax.numpy as jnp

from gemb.losses import candidates as masks
from gemb.losses import inputs
from gemb.losses.contrastive import softmax

COLUMNS = 4096  # columns at a time of the gradient of the candidates


def blockwise(p: softmax.Problem, softmaxes, options: softmax.Options, block: int) -> jax.Array:
    """[batch] nats, equal to `softmax.dense` in value and gradient.

    Args:
        p: the loss's arrays.
        softmaxes: the directions of each softmax.
        options: the loss's numbers.
        block: rows at a time.
    """
    rest = p._replace(query=None, document=None, temperature=None)
    rest = jax.tree.map(jax.lax.stop_gradient, rest)
    static = (softmaxes, options, min(block, p.query.shape[0]))
    return _loss(static, p.query, p.document, p.temperature, rest)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(static, query, document, temperature, rest):
    p = rest._replace(query=query, document=document, temperature=temperature)
    return _walk(static, p, (), _blocks(static, p))[0]


def _forward(static, query, document, temperature, rest):
    p = rest._replace(query=query, document=document, temperature=temperature)
    slopes = tuple(map(jnp.zeros_like, (query, document, p.temperature)))
    loss, slopes = _walk(static, p, slopes, _blocks(static, p))
    return loss, (p, slopes)


def _backward(static, saved, cotangent):
    p, slopes = saved
    real = p.queries.weight != 0
    one = cotangent[jnp.argmax(real)]
    same = jnp.all((cotangent == one) | ~real)
    # The second walk, of no steps where it is not needed, goes on in the first one's buffers; a
    # `cond` would hold both.
    slopes = tuple(jnp.where(same, slope * one, 0) for slope in slopes)
    p = p._replace(queries=p.queries._replace(weight=p.queries.weight * cotangent))
    _, slopes = _walk(static, p, slopes, jnp.where(same, 0, _blocks(static, p)))
    return *slopes, None


_loss.defvjp(_forward, _backward)


def _blocks(static, p: softmax.Problem) -> int:
    return -(-p.query.shape[0] // static[2])


def _walk(static, p: softmax.Problem, slopes: tuple, blocks):
    """Losses of the first `blocks` blocks of rows, their weighted gradients added to `slopes`.

    `slopes` are those of the queries, the documents and the temperature; without any, only the
    losses are computed.
    """
    softmaxes, options, block = static
    batch = p.query.shape[0]
    side = p.queries, p.query, p.guide and p.guide[0]

    def step(k, carry):
        loss, slopes = carry
        first = jnp.minimum(k * block, batch - block)  # the last block overlaps its neighbour
        cut = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=first, slice_size=block)
        rows = softmax.rows_at(p, *jax.tree.map(cut, side))
        once = jnp.where(rows.masks.index >= k * block, rows.masks.weight / len(softmaxes), 0)
        for directions in softmaxes:
            made, joint = softmax.tiles(p, rows, directions, options)
            value = jnp.where(once != 0, once * softmax.cross_entropy(joint, options), 0)
            loss = _add_rows(loss, first, value)
            for direction, (logits, target) in zip(
                directions, made if slopes else (), strict=False
            ):
                held = target if direction == directions[0] else None
                slope = softmax.gradient(logits, held, joint, options)
                slope = slope * (once / p.temperature)[:, None]
                slopes = _add(p, slopes, direction, rows, first, slope, target, options)
        return loss, slopes

    return jax.lax.fori_loop(0, blocks, step, (jnp.zeros(batch, p.query.dtype), slopes))


def _add(p, slopes, direction, rows, first, slope, target, options):
    """Adds what one tile sends to the queries, the documents and the temperature."""
    d_query, d_document, d_temperature = slopes
    anchor = softmax.anchors(direction, rows)
    sent = inputs.dot(slope, softmax.columns_of(p, direction).vectors.T)
    pull = jnp.sum(anchor * sent)
    if options.margin and target is not None:
        pull = pull - options.margin * jnp.sum(jnp.where(target, slope, 0))
    d_temperature = d_temperature - pull / p.temperature
    if direction in masks.FROM_QUERY:
        d_query = _add_rows(d_query, first, sent)
    else:
        d_document = d_document.at[rows.masks.positive].add(sent)
    if direction in masks.TO_QUERY:
        d_query = _add_columns(d_query, slope, anchor)
    else:
        d_document = _add_columns(d_document, slope, anchor)
    return d_query, d_document, d_temperature


def _add_rows(array, first, value):
    before = jax.lax.dynamic_slice_in_dim(array, first, value.shape[0])
    return jax.lax.dynamic_update_slice_in_dim(array, before + value, first, 0)


def _add_columns(array, slope, anchor):
    """array + slope.T @ anchor, some columns at a time, so that no second array comes to be."""

    def add(array, first, width):
        part = jax.lax.dynamic_slice_in_dim(slope, first, width, axis=1)
        return _add_rows(array, first, inputs.dot(part.T, anchor.T))

    full, rest = divmod(slope.shape[1], COLUMNS)
    if full:
        array = jax.lax.fori_loop(0, full, lambda k, a: add(a, k * COLUMNS, COLUMNS), array)
    return add(array, full * COLUMNS, rest) if rest else array
