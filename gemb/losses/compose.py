"""Losses put together: called with the fields that they take, weighted, and told apart in metrics.

Here belongs what the training step needs to run whichever loss a config names. Arithmetic on
embeddings does not.
"""

import inspect
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from gemb.checks import ArgumentError, suggest


def call(loss: Callable, query, document, positive, fields: Mapping):
    """Calls a loss with those of `fields` that it takes and that are not None.

    Args:
        loss: an in-batch loss, a partial of one, or a gin reference to one. A `**fields`
            parameter takes everything.
        query: [batch, dim] floats.
        document: [candidates, dim] floats.
        positive: [batch] int32.
        fields: name -> array or None.

    Returns:
        What the loss returns.

    Example:
        >>> def count(query, document, positive, *, query_mask=None):
        ...     return query_mask
        >>> call(count, 0, 0, 0, {"query_mask": 3, "document_id": 4})
        3
    """
    parameters = inspect.signature(loss).parameters
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    chosen = {
        name: value
        for name, value in fields.items()
        if value is not None and (takes_all or name in parameters)
    }
    return loss(query, document, positive, **chosen)


def weighted_sum(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    terms: Mapping[str, Callable],
    term_weights: Mapping[str, float | None] | None = None,
    **fields,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Named losses, weighted and added: sum_k c_k loss_k.

    Args:
        query: [batch, dim] floats.
        document: [candidates, dim] floats.
        positive: [batch] int32.
        terms: name -> loss.
        term_weights: name -> c_k; 1 for names left out or given as None.
        **fields: passed on to each loss, as far as it takes them.

    Returns:
        [batch] total, and name -> [batch] value without its weight. The terms of a loss that is
        itself a weighted sum stand under "name/term".

    Raises:
        ValueError: if `terms` is empty or `term_weights` names no term.

    Example:
        >>> import jax.numpy as jnp
        >>> from gemb.losses import info_nce, spread_out
        >>> rows = jnp.eye(2)
        >>> total, parts = weighted_sum(rows, rows, jnp.arange(2), term_weights={"spread": 0.5},
        ...                             terms={"contrast": info_nce, "spread": spread_out})
        >>> sorted(parts)
        ['contrast', 'spread']
    """
    if not terms:
        raise ArgumentError("terms: expected at least one named loss, got none")
    term_weights = dict(term_weights or {})
    for name in term_weights:
        if name not in terms:
            raise ArgumentError(
                f"term_weights: {name!r} is no term; terms are {sorted(terms)}."
                f"{suggest(name, terms)}"
            )
    total, values = 0.0, {}
    for name, loss in terms.items():
        value, inner = evaluate(loss, query, document, positive, fields)
        weight = term_weights.get(name)
        total = total + (value if weight is None else weight * value)
        values[name] = value
        values |= {f"{name}/{part}": array for part, array in inner.items()}
    return total, values


def evaluate(
    loss: Callable, query, document, positive, fields: Mapping
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Calls a loss and brings both kinds of return to one.

    Args:
        loss: returns [batch] nats, or a pair of [batch] nats and a dict of [batch] terms.
        query: [batch, dim] floats.
        document: [candidates, dim] floats.
        positive: [batch] int32.
        fields: name -> array or None; the loss gets those that it takes.

    Returns:
        [batch] loss, and name -> [batch] term, empty for a loss of one term.

    Raises:
        ValueError: if the loss does not return [batch] values.

    Example:
        >>> import jax.numpy as jnp
        >>> evaluate(lambda q, d, p: q[:, 0], jnp.eye(2), jnp.eye(2), jnp.arange(2), {})
        (Array([1., 0.], dtype=float32), {})
    """
    returned = call(loss, query, document, positive, fields)
    value, terms = returned if isinstance(returned, tuple) else (returned, {})
    if jnp.shape(value) != jnp.shape(positive):
        name = getattr(loss, "__name__", repr(loss))
        raise ArgumentError(
            f"{name}: expected the loss of each query, shape {jnp.shape(positive)}, "
            f"got {jnp.shape(value)}"
        )
    return value, terms
