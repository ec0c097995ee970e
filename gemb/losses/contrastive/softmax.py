"""The masked softmax that every contrastive loss shares, one tile of rows and columns at a time.

This module has the logits of a tile, the running statistics of a row's softmax, the resulting loss
and its gradient. The callers choose the tiles and their order: `dense` makes one tile
of everything, `blockwise` loops over blocks of rows, `ring` over devices.

A loss is a list of softmaxes, each over the union of one or more directions (see
gemb.losses.candidates); row i of each belongs to query i and its positive, and the loss of a row is
the mean over its softmaxes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gemb import checks
from gemb.losses import candidates as masks
from gemb.losses import inputs
from gemb.losses.fields import Fields
from gemb.losses.inputs import Prepared

# the fields that softmax losses read
READS = (*masks.READS, "known_positives", "log_q", "temperature")
Softmaxes = tuple[tuple[str, ...], ...]


class Options(NamedTuple):
    """The numbers of a softmax loss; `info_nce` and `gist` say what they mean."""

    margin: float = 0.0
    label_smoothing: float = 0.0
    hardness: float = 0.0
    drop_margin: float | None = None
    guide_margin: float = 0.0
    guide_relative: bool = False
    share_negatives: bool = True
    log_q_positive: bool = True


class Problem(NamedTuple):
    """All arrays of a softmax loss."""

    query: jax.Array
    document: jax.Array
    temperature: jax.Array
    guide: tuple[jax.Array, jax.Array] | None
    queries: masks.Queries
    documents: masks.Documents
    known: masks.Known | None


class Rows(NamedTuple):
    """The rows of a tile: a query each, with its positive."""

    query: jax.Array
    document: jax.Array
    guide: tuple[jax.Array, jax.Array] | None
    masks: masks.Queries


class Columns(NamedTuple):
    """The columns of a tile: documents or queries."""

    vectors: jax.Array
    guide: jax.Array | None
    masks: masks.Queries | masks.Documents


class Stats(NamedTuple):
    """A row's softmax so far; every field [rows]."""

    top: jax.Array  # the largest logit
    total: jax.Array  # sum of exp(logit - top)
    target: jax.Array  # the logit of the positive
    sum: jax.Array  # sum of the logits
    count: jax.Array  # how many logits


def problem(p: Prepared, softmaxes: Softmaxes, options: Options, temperature) -> Problem:
    """Works out the masks of a softmax loss.

    Args:
        p: the loss's arguments.
        softmaxes: the directions of each softmax.
        options: the loss's numbers.
        temperature: the loss's option.
    """
    fields, dtype = p.fields, p.query.dtype
    temperature = jnp.asarray(p.temperature(temperature)).astype(dtype)
    guide = (fields.guide_query, fields.guide_document)
    missing = any(g is None for g in guide)
    guide = None if missing else tuple(g.astype(inputs.compute_dtype(g)) for g in guide)
    queries, known = _queries(p)
    size = p.document.shape[0]
    documents = masks.Documents(
        jnp.arange(size, dtype=jnp.int32),
        p.real_documents,
        fields.document_id,
        masks.owners(p.positive, size) if _needs_owner(softmaxes, options, fields) else None,
        None if fields.log_q is None else jax.lax.stop_gradient(fields.log_q.astype(dtype)),
    )
    return Problem(p.query, p.document, temperature, guide, queries, documents, known)


def _queries(p: Prepared) -> tuple[masks.Queries, masks.Known | None]:
    batch, fields, real = p.query.shape[0], p.fields, p.real
    known = own = first = count = None
    if fields.known_positives is not None and fields.document_id is None:
        raise checks.ArgumentError("known_positives: they are ids, and there is no document_id")
    if fields.document_id is not None:
        own = fields.document_id[p.positive]
        names = fields.query_id
        names = jnp.arange(batch, dtype=jnp.int32) if names is None else names
        known, first, count = masks.known_positives(names, own, real)
    queries = masks.Queries(
        index=jnp.arange(batch, dtype=jnp.int32),
        positive=jnp.asarray(p.positive, jnp.int32),
        mask=real,
        weight=p.weights,
        in_batch=fields.in_batch,
        positive_id=own,
        first=first,
        count=count,
        elsewhere=fields.known_positives,
    )
    return queries, known


def _needs_owner(softmaxes: Softmaxes, options: Options, fields: Fields) -> bool:
    between = {masks.DOCUMENT_TO_DOCUMENT, masks.POSITIVE_TO_POSITIVE} & set().union(*softmaxes)
    chosen = options.hardness or not options.share_negatives or fields.in_batch is not None
    return bool(between or chosen)


def rows_at(p: Problem, queries: masks.Queries, query, guide_query) -> Rows:
    """The rows of `queries`, whose positives are looked up among all documents."""
    guide = None if p.guide is None else (guide_query, p.guide[1][queries.positive])
    return Rows(query, p.document[queries.positive], guide, queries)


def columns_of(p: Problem, direction: str) -> Columns:
    """All columns of a direction."""
    if direction in masks.TO_QUERY:
        return Columns(p.query, None if p.guide is None else p.guide[0], p.queries)
    return Columns(p.document, None if p.guide is None else p.guide[1], p.documents)


def anchors(direction: str, rows: Rows) -> jax.Array:
    """[rows, dim]: the side of the rows that a direction starts from."""
    return rows.query if direction in masks.FROM_QUERY else rows.document


def logits(direction, rows: Rows, columns: Columns, known, temperature, options: Options):
    """The logits of a tile.

    Returns:
        [rows, columns] logits, -inf for what does not compete, and the target mask or None.
    """
    scores = inputs.dot(anchors(direction, rows), columns.vectors)
    if direction in masks.TO_QUERY:
        keep, target = masks.to_queries(direction, rows.masks, columns.masks, known)
    else:
        share = options.share_negatives
        keep, target = masks.to_documents(direction, rows.masks, columns.masks, known, share)
    easy = _below_thresholds(direction, rows, columns, scores, options)
    if easy is not None:
        keep = keep & (easy if target is None else easy | target)
    value = scores
    if options.margin and target is not None:
        value = value - jnp.where(target, options.margin, 0).astype(scores.dtype)
    value = value / temperature
    if options.hardness and direction == masks.QUERY_TO_DOCUMENT:
        mine = columns.masks.owner[None, :] == rows.masks.index[:, None]
        value = value + jnp.where(mine, options.hardness * jax.lax.stop_gradient(scores), 0)
    if direction not in masks.TO_QUERY and columns.masks.log_q is not None:
        value = value - _correction(columns.masks.log_q, target, options)
    return jnp.where(keep, value, -jnp.inf), target


def _correction(log_q: jax.Array, target, options: Options) -> jax.Array:
    """What is subtracted from a tile's logits: log q of each column, 0 for a spared positive."""
    if options.log_q_positive or target is None:
        return log_q[None, :]
    return jnp.where(target, 0, log_q[None, :])


def _below_thresholds(direction, rows: Rows, columns: Columns, scores, options: Options):
    """[rows, columns] bool: scores that no margin calls suspicious; None without margins."""
    easy = None
    if options.drop_margin is not None:
        limit = jnp.sum(rows.query * rows.document, axis=1) + options.drop_margin
        easy = jax.lax.stop_gradient(scores <= limit[:, None])
    if rows.guide is not None:
        anchor = rows.guide[0] if direction in masks.FROM_QUERY else rows.guide[1]
        positive = jnp.sum(rows.guide[0] * rows.guide[1], axis=1)
        slack = jnp.abs(positive) if options.guide_relative else 1.0
        limit = (positive - options.guide_margin * slack)[:, None]
        likely = jax.lax.stop_gradient(inputs.dot(anchor, columns.guide)) <= limit
        easy = likely if easy is None else easy & likely
    return easy


def stats(value: jax.Array, target: jax.Array | None, options: Options) -> Stats:
    """Statistics of one tile; `target` None where the softmax has its positive in another tile.

    Without log_q_positive the positive is in `target` alone.
    """
    zero = jnp.zeros(value.shape[0], value.dtype)
    top = jax.lax.stop_gradient(jnp.max(value, axis=1))
    safe = jnp.where(jnp.isfinite(top), top, 0)
    keep = value > -jnp.inf
    total = jnp.sum(jnp.exp(value - safe[:, None]), axis=1)
    at = zero if target is None else jnp.sum(jnp.where(target, value, 0), axis=1)
    if target is not None and not options.log_q_positive:
        rest = jnp.where(target, -jnp.inf, value)
        return stats(rest, None, options)._replace(target=at)
    return Stats(
        top,
        total,
        at,
        jnp.sum(jnp.where(keep, value, 0), axis=1),
        jnp.sum(keep, axis=1).astype(value.dtype),
    )


def merge(a: Stats, b: Stats) -> Stats:
    """Statistics of two tiles side by side."""
    top = jnp.maximum(a.top, b.top)
    safe = jnp.where(jnp.isfinite(top), top, 0)
    total = a.total * jnp.exp(a.top - safe) + b.total * jnp.exp(b.top - safe)
    return Stats(top, total, a.target + b.target, a.sum + b.sum, a.count + b.count)


def logsum(s: Stats) -> jax.Array:
    """[rows]: the logarithm of the softmax's denominator."""
    return s.top + jnp.log(s.total)


def cross_entropy(s: Stats, options: Options) -> jax.Array:
    """[rows] nats: -log softmax of the positive, or of the smoothed target."""
    if not options.log_q_positive:
        estimate = logsum(s) - jnp.log(jnp.maximum(s.count, 1))
        value = jax.lax.stop_gradient(_share_of_others(s)) * (estimate - s.target)
        return jnp.where(s.count > 0, value, 0)
    value = logsum(s) - s.target
    if options.label_smoothing:
        value = value + options.label_smoothing * (s.target - s.sum / s.count)
    return value


def _share_of_others(s: Stats) -> jax.Array:
    """[rows]: 1 - P of the positive, the rest of the softmax being estimated by the negatives."""
    estimate = logsum(s) - jnp.log(jnp.maximum(s.count, 1))
    return jnp.where(s.count > 0, jax.nn.sigmoid(estimate - s.target), 0)


def gradient(value, target, s: Stats, options: Options) -> jax.Array:
    """d cross_entropy / d value, [rows, columns]; `s` are the statistics of the whole rows."""
    if not options.log_q_positive:
        slope = jnp.exp(value - jnp.where(s.count > 0, logsum(s), 0)[:, None])
        slope = slope if target is None else jnp.where(target, -1, slope)
        return slope * _share_of_others(s)[:, None]
    slope = jnp.exp(value - logsum(s)[:, None])
    if target is not None:
        slope = slope - jnp.where(target, 1 - options.label_smoothing, 0).astype(value.dtype)
    if options.label_smoothing:
        share = (options.label_smoothing / s.count)[:, None]
        slope = slope - jnp.where(value > -jnp.inf, share, 0)
    return slope


def tiles(p: Problem, rows: Rows, softmax: tuple[str, ...], options: Options):
    """A (logits, target) tile of all columns for each direction, and their joint statistics.

    The first direction that holds the positive supplies the target; a later one repeats it as a
    mere candidate.
    """
    made, joint = [], None
    for direction in softmax:
        columns = columns_of(p, direction)
        value, target = logits(direction, rows, columns, p.known, p.temperature, options)
        made.append((value, target))
        here = stats(value, target if direction == softmax[0] else None, options)
        joint = here if joint is None else merge(joint, here)
    return made, joint


def dense(p: Problem, softmaxes: Softmaxes, options: Options) -> jax.Array:
    """[batch] nats with whole [batch, candidates] matrices, differentiated by JAX."""
    rows = rows_at(p, p.queries, p.query, None if p.guide is None else p.guide[0])
    made = [cross_entropy(tiles(p, rows, softmax, options)[1], options) for softmax in softmaxes]
    return jnp.where(p.queries.mask, p.queries.weight * sum(made) / len(made), 0)
