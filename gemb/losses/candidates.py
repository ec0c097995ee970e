"""Masks that decide which candidates compete for each query, computed tile by tile.

They cover equal texts (false negatives), owners of hard negatives, rows without in-batch
negatives, score margins and guides. Everything is a function of a few
rows and a few columns, so that the dense, the blockwise and the ring form share it.

A candidate is a known positive of query i when some query of the global batch with i's text has a
positive with the candidate's text. This covers equal queries, equal documents, and a hard negative
that is a positive elsewhere.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gemb import checks

QUERY_TO_DOCUMENT = "query_to_document"
QUERY_TO_QUERY = "query_to_query"
DOCUMENT_TO_QUERY = "document_to_query"
DOCUMENT_TO_DOCUMENT = "document_to_document"
POSITIVE_TO_POSITIVE = "positive_to_positive"
DIRECTIONS = (
    QUERY_TO_DOCUMENT,
    QUERY_TO_QUERY,
    DOCUMENT_TO_QUERY,
    DOCUMENT_TO_DOCUMENT,
    POSITIVE_TO_POSITIVE,
)
TO_QUERY = (QUERY_TO_QUERY, DOCUMENT_TO_QUERY)
FROM_QUERY = (QUERY_TO_DOCUMENT, QUERY_TO_QUERY)
READS = ("query_id", "document_id", "in_batch")  # the fields that decide who competes


class Queries(NamedTuple):
    """What masks know of the queries; every field [batch] or None."""

    index: jax.Array
    positive: jax.Array
    mask: jax.Array
    weight: jax.Array
    in_batch: jax.Array | None
    positive_id: jax.Array | None
    first: jax.Array | None  # the query's slice of `Known.document_id`
    count: jax.Array | None
    elsewhere: jax.Array | None = None  # [batch, known] ids of positives beyond the batch, or -1


class Documents(NamedTuple):
    """What masks know of the documents; every field [candidates] or None."""

    index: jax.Array
    mask: jax.Array
    id: jax.Array | None
    owner: jax.Array | None  # the query of a hard negative, -1 for a positive
    log_q: jax.Array | None = None  # log-probability of being a candidate


class Known(NamedTuple):
    """Distinct (query text, positive text) pairs of the batch, sorted by query."""

    document_id: jax.Array  # [batch]
    longest: jax.Array  # [], positives of the query that has most


def owners(positive: jax.Array, candidates: int) -> jax.Array:
    """The query that each hard negative belongs to, -1 for documents that are positives.

    The documents that are not the positive of any query belong, in their order, to the queries in
    theirs, negatives-per-query at a time, wherever in the array the positives are.

    Args:
        positive: [batch] integers, all different.
        candidates: batch * (1 + negatives).

    Returns:
        [candidates] int32.

    Raises:
        ValueError: if `candidates` is no multiple of the batch.
    """
    batch = positive.shape[0]
    if candidates % batch:
        raise checks.ArgumentError(
            f"document: expected batch * (1 + negatives) rows, a multiple of {batch}, so that each "
            f"hard negative has its query; got {candidates}"
        )
    negatives = max(candidates // batch - 1, 1)
    taken = jnp.zeros(candidates, bool).at[positive].set(True)
    rank = jnp.cumsum(~taken) - 1
    return jnp.where(taken, -1, rank // negatives).astype(jnp.int32)


def negatives_of(positive: jax.Array, candidates: int) -> jax.Array:
    """[batch, negatives] int32: the places of each query's own hard negatives.

    Raises:
        ValueError: if `candidates` is no multiple of the batch, or there are no hard negatives.
    """
    batch = positive.shape[0]
    if candidates == batch:
        raise checks.ArgumentError(
            f"document: expected hard negatives, batch * (1 + negatives) rows; got {candidates} "
            f"rows for {batch} queries"
        )
    order = jnp.argsort(owners(positive, candidates), stable=True)
    return order[batch:].reshape(batch, -1).astype(jnp.int32)


def known_positives(query_id, positive_id, real) -> tuple[Known, jax.Array, jax.Array]:
    """Sorts the batch's distinct (query, positive) pairs; gives each query its slice of them."""
    batch = query_id.shape[0]
    masked = jnp.iinfo(query_id.dtype).max
    pairs = jax.lax.sort((jnp.where(real, query_id, masked), positive_id), num_keys=2)
    fresh = jnp.concatenate([jnp.ones(1, bool), jnp.any(jnp.diff(jnp.stack(pairs)) != 0, axis=0)])
    slot = jnp.cumsum(fresh) - 1
    names = jnp.full(batch, masked, query_id.dtype).at[slot].set(pairs[0])
    texts = jnp.zeros(batch, positive_id.dtype).at[slot].set(pairs[1])
    first = jnp.searchsorted(names, query_id).astype(jnp.int32)
    count = jnp.searchsorted(names, query_id, side="right").astype(jnp.int32) - first
    return Known(texts, jnp.max(jnp.where(real, count, 0))), first, count


def is_known(queries: Queries, document_id: jax.Array, known: Known) -> jax.Array:
    """[queries, documents] bool: True where the document's text is a positive of the query's."""

    def look(k, hit):
        text = known.document_id[jnp.minimum(queries.first + k, known.document_id.shape[0] - 1)]
        return hit | ((k < queries.count)[:, None] & (text[:, None] == document_id[None, :]))

    own = queries.positive_id[:, None] == document_id[None, :]
    hit = jax.lax.fori_loop(0, known.longest, look, own)
    if queries.elsewhere is None:
        return hit

    def look_elsewhere(k, hit):
        text = jax.lax.dynamic_slice_in_dim(queries.elsewhere, k, 1, axis=1)
        return hit | ((text >= 0) & (text == document_id[None, :]))

    return jax.lax.fori_loop(0, queries.elsewhere.shape[1], look_elsewhere, hit)


def to_documents(direction, rows: Queries, columns: Documents, known: Known | None, share: bool):
    """Masks of a tile whose columns are documents.

    Args:
        direction: one of `DIRECTIONS` that ends at documents.
        rows: the queries of the tile.
        columns: the documents of the tile.
        known: the batch's known positives, or None to look at no ids.
        share: whether hard negatives of other queries compete.

    Returns:
        keep [rows, columns] bool, and target [rows, columns] bool: the row's positive, or None
        where the direction holds none.
    """
    own = rows.positive[:, None] == columns.index[None, :]
    keep = columns.mask[None, :]
    if known is not None:
        keep = keep & ~is_known(rows, columns.id, known)
    if columns.owner is not None:
        mine = columns.owner[None, :] == rows.index[:, None]
        if rows.in_batch is not None:
            keep = keep & (rows.in_batch[:, None] | mine)
        if not share:
            keep = keep & ((columns.owner < 0)[None, :] | mine)
    if direction == QUERY_TO_DOCUMENT:
        return keep | own, own
    if direction == POSITIVE_TO_POSITIVE:
        keep = keep & (columns.owner < 0)[None, :]
    return keep & ~own & ~mine, None


def to_queries(direction, rows: Queries, columns: Queries, known: Known | None):
    """Masks of a tile whose columns are queries; see `to_documents`."""
    own = rows.index[:, None] == columns.index[None, :]
    keep = columns.mask[None, :]
    if known is not None:
        keep = keep & ~is_known(columns, rows.positive_id, known).T
    if rows.in_batch is not None:
        keep = keep & rows.in_batch[:, None]
    if direction == DOCUMENT_TO_QUERY:
        return keep | own, own
    return keep & ~own, None
