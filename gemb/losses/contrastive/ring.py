"""Softmax losses over a mesh, without any device ever holding all documents' logits.

This module exchanges data between devices: each keeps its queries, and the candidates go around a
ring of the named mesh axes, or are gathered. The arithmetic of a tile is in `softmax`. On one
device `blockwise` is faster: a ring must go round twice, first for the softmaxes' denominators,
then for the gradients, that is four products of matrices instead of three.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from gemb import checks
from gemb.losses import candidates as masks
from gemb.losses import inputs
from gemb.losses.contrastive import softmax


class Plan(NamedTuple):
    """What the ring is; everything known when it is compiled."""

    softmaxes: softmax.Softmaxes
    options: softmax.Options
    block: int
    axes: tuple[str, ...]
    exchange: str
    mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh
    size: int


def ring(
    p: softmax.Problem,
    softmaxes: softmax.Softmaxes,
    options: softmax.Options,
    block: int,
    axis_names: Sequence[str],
    exchange: str,
) -> jax.Array:
    """[batch] nats, equal to `softmax.dense` in value and gradient, sharded over the axes.

    Args:
        p: the loss's arrays, whole.
        softmaxes: the directions of each softmax.
        options: the loss's numbers.
        block: candidates at a time; logits per device stay below block * local batch.
        axis_names: the axes of the mesh in context (`jax.set_mesh`) that the batch is split over.
        exchange: "ring" or "gather".

    Raises:
        ValueError: if an axis is unknown or the rows do not divide among the devices.
    """
    axes, mesh = tuple(axis_names), jax.sharding.get_abstract_mesh()
    if exchange not in ("ring", "gather"):
        raise checks.ArgumentError(f"exchange: expected 'ring' or 'gather', got {exchange!r}")
    missing = [axis for axis in axes if axis not in mesh.axis_names]
    if missing or not axes:
        raise checks.ArgumentError(
            f"axis_names: expected axes of the mesh in context, {mesh.axis_names}, got {axes}; "
            "set one with jax.set_mesh"
        )
    size = 1
    for axis in axes:
        size *= mesh.shape[axis]
    for name, rows in (("query", p.query), ("document", p.document)):
        if rows.shape[0] % size:
            raise checks.ArgumentError(
                f"{name}: expected rows that divide among {size} devices, got {rows.shape[0]}"
            )
    plan = Plan(softmaxes, options, block, axes, exchange, mesh, size)
    rest = p._replace(query=None, document=None, temperature=None)
    return _loss(plan, p.query, p.document, p.temperature, rest)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(plan, query, document, temperature, rest):
    return _forward(plan, query, document, temperature, rest)[0]


def _forward(plan, query, document, temperature, rest):
    p = rest._replace(query=query, document=document, temperature=temperature)
    loss, stats = _shard(plan, _losses, (_specs(plan, p),), (_split(plan), _split(plan)))(p)
    return loss, (p, stats)


def _backward(plan, saved, cotangent):
    p, stats = saved
    inward = (_specs(plan, p), _split(plan), _split(plan))
    outward = (_split(plan), _split(plan), PartitionSpec())
    slopes = _shard(plan, _slopes, inward, outward)(p, stats, cotangent)
    return *slopes, None


_loss.defvjp(_forward, _backward)


def _split(plan) -> PartitionSpec:
    return PartitionSpec(plan.axes)


def _specs(plan, p: softmax.Problem):
    """Everything is split by rows, but for the temperature and the known positives."""
    split = jax.tree.map(lambda _: _split(plan), p)
    whole = PartitionSpec()
    return split._replace(temperature=whole, known=jax.tree.map(lambda _: whole, p.known))


def _shard(plan, function, inward, outward):
    """`function(plan, *local arrays)` on every device of the mesh."""
    local = functools.partial(function, plan)
    return jax.shard_map(local, mesh=plan.mesh, in_specs=inward, out_specs=outward, check_vma=False)


def _losses(plan, p: softmax.Problem):
    """First trip: each local row's loss, and the statistics of its softmaxes."""
    rows = _rows(plan, p)
    made = []
    for directions in plan.softmaxes:
        joint = None
        for direction in directions:
            here = _statistics(plan, p, rows, direction, direction == directions[0])
            joint = here if joint is None else softmax.merge(joint, here)
        made.append(joint)
    value = sum(softmax.cross_entropy(joint, plan.options) for joint in made) / len(made)
    return jnp.where(p.queries.mask, p.queries.weight * value, 0), tuple(made)


def _statistics(plan, p, rows, direction, holds_target: bool) -> softmax.Stats:
    """Statistics of the local rows over all candidates of a direction."""

    def look(so_far, columns, fresh, back):
        value, target = _tile(plan, p, direction, rows, columns, fresh)
        here = softmax.stats(value, target if holds_target else None, plan.options)
        return softmax.merge(so_far, here), back

    zero = jnp.zeros(rows.query.shape[0], rows.query.dtype)
    nothing = softmax.Stats(zero - jnp.inf, zero, zero, zero, zero)
    columns = softmax.columns_of(p, direction)
    return _circulate(plan, columns, nothing, None, functools.partial(_blocks, plan, look))[0]


def _slopes(plan, p: softmax.Problem, stats, cotangent):
    """Second trip: the gradients of the queries, of the documents, and of the temperature."""
    rows = _rows(plan, p)
    weight = jnp.where(p.queries.mask, cotangent * p.queries.weight, 0)
    weight = (weight / (p.temperature * len(plan.softmaxes)))[:, None]
    d_query, d_document = jnp.zeros_like(p.query), jnp.zeros_like(p.document)
    d_positive, pulls = jnp.zeros_like(p.query), jnp.zeros_like(p.temperature)
    for directions, joint in zip(plan.softmaxes, stats, strict=True):
        for direction in directions:
            holds_target = direction == directions[0]
            sent, back, pull = _pull(plan, p, rows, direction, joint, weight, holds_target)
            pulls = pulls + pull
            if direction in masks.FROM_QUERY:
                d_query = d_query + sent
            else:
                d_positive = d_positive + sent
            if direction in masks.TO_QUERY:
                d_query = d_query + back
            else:
                d_document = d_document + back
    if _starts_at_positives(plan):
        d_document = d_document + _send_home(plan, p, d_positive)
    return d_query, d_document, -jax.lax.psum(pulls, plan.axes) / p.temperature


def _pull(plan, p, rows, direction, joint, weight, holds_target: bool):
    """What a direction sends to its local rows, to its candidates, and to the temperature."""
    anchor = softmax.anchors(direction, rows)

    def look(carry, columns, fresh, back):
        sent, at_target = carry
        value, target = _tile(plan, p, direction, rows, columns, fresh)
        held = target if holds_target else None
        slope = weight * softmax.gradient(value, held, joint, plan.options)
        if target is not None:
            at_target = at_target + jnp.sum(jnp.where(target, slope, 0))
        sent = sent + inputs.dot(slope, columns.vectors.T)
        return (sent, at_target), back + inputs.dot(slope.T, anchor.T)

    columns = softmax.columns_of(p, direction)
    start = jnp.zeros_like(anchor), jnp.zeros_like(p.temperature)
    visit = functools.partial(_blocks, plan, look)
    back = jnp.zeros_like(columns.vectors)
    (sent, at_target), back = _circulate(plan, columns, start, back, visit)
    return sent, back, jnp.sum(anchor * sent) - plan.options.margin * at_target


def _tile(plan, p, direction, rows, columns, fresh):
    """A tile's logits and target, without the columns that are not `fresh`."""
    value, target = softmax.logits(direction, rows, columns, p.known, p.temperature, plan.options)
    return jnp.where(fresh, value, -jnp.inf), None if target is None else target & fresh


def _circulate(plan, columns, carry, back, visit):
    """Brings all devices' `columns` to `visit`, and home again what it adds to `back`.

    Args:
        plan: the ring.
        columns: the local candidates.
        carry: what stays on the device.
        back: zeros, a row for each local candidate; None if nothing is sent back.
        visit: (carry, columns, back) -> (carry, back).

    Returns:
        carry and back.
    """
    if plan.exchange == "gather":
        collect = functools.partial(jax.lax.all_gather, axis_name=plan.axes, tiled=True)
        carry, back = visit(carry, *jax.tree.map(collect, (columns, back)))
        scatter = functools.partial(jax.lax.psum_scatter, axis_name=plan.axes, tiled=True)
        return carry, jax.tree.map(scatter, back)
    steps = [(k, (k + 1) % plan.size) for k in range(plan.size)]
    forward = functools.partial(jax.lax.ppermute, axis_name=plan.axes, perm=steps)

    def hop(_, state):
        carry, columns, back = state
        carry, back = visit(carry, columns, back)
        return carry, *jax.tree.map(forward, (columns, back))

    carry, _, back = jax.lax.fori_loop(0, plan.size, hop, (carry, columns, back))
    return carry, back


def _blocks(plan, look, carry, columns, back):
    """Shows a device's candidates to `look`, a block at a time; the last overlaps its neighbour."""
    number = columns.vectors.shape[0]
    block = min(plan.block, number)

    def step(k, state):
        carry, back = state
        first = jnp.minimum(k * block, number - block)
        cut = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=first, slice_size=block)
        fresh = (first + jnp.arange(block) >= k * block)[None, :]
        part = jax.tree.map(cut, (columns, back))
        carry, grown = look(carry, part[0], fresh, part[1])
        if back is not None:
            back = jax.lax.dynamic_update_slice_in_dim(back, grown, first, 0)
        return carry, back

    return jax.lax.fori_loop(0, -(-number // block), step, (carry, back))


def _rows(plan, p: softmax.Problem) -> softmax.Rows:
    """The local queries, each with its positive fetched from wherever it is."""
    guide = None if p.guide is None else p.guide[1]
    wanted = p.document if _needs_positives(plan) else None

    def visit(found, columns, back):
        place = p.queries.positive - columns[0][0]
        here = ((place >= 0) & (place < columns[0].shape[0]))[:, None]
        take = jnp.clip(place, 0, columns[0].shape[0] - 1)
        held = jax.tree.map(lambda f, c: jnp.where(here, c[take], f), found, columns[1])
        return held, back

    empty = jax.tree.map(
        lambda x: jnp.zeros((p.query.shape[0], x.shape[1]), x.dtype), (wanted, guide)
    )
    document, positive_guide = empty
    if wanted is not None or guide is not None:
        columns = p.documents.index, (wanted, guide)
        (document, positive_guide), _ = _circulate(plan, columns, empty, None, visit)
    both = None if guide is None else (p.guide[0], positive_guide)
    return softmax.Rows(p.query, document, both, p.queries)


def _send_home(plan, p: softmax.Problem, sent):
    """[local candidates, dim]: `sent` [local queries, dim], each to its positive's device."""

    def visit(carry, index, back):
        place = p.queries.positive - index[0]
        outside = index.shape[0]
        place = jnp.where((place >= 0) & (place < outside), place, outside)
        return carry, back.at[place].add(sent, mode="drop")

    return _circulate(plan, p.documents.index, (), jnp.zeros_like(p.document), visit)[1]


def _starts_at_positives(plan) -> bool:
    return any(d not in masks.FROM_QUERY for directions in plan.softmaxes for d in directions)


def _needs_positives(plan) -> bool:
    return plan.options.drop_margin is not None or _starts_at_positives(plan)
