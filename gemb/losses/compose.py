"""Combines losses: evaluates them, weights and adds them, with a name for each term.

The training step uses this module to run any loss that a config names.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from gemb.checks import ArgumentError, suggest
from gemb.losses.fields import NO_FIELDS, Fields


def weighted_sum(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    terms: Mapping[str, Callable],
    term_weights: Mapping[str, float | None] | None = None,
    fields: Fields = NO_FIELDS,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Named losses, weighted and added: sum_k c_k loss_k.

    Args:
        query: [batch, dim] floats.
        document: [candidates, dim] floats.
        positive: [batch] int32.
        terms: name -> loss.
        term_weights: name -> c_k; 1 for names left out or given as None.
        fields: passed on to each loss as they are.

    Returns:
        [batch] total, and name -> [batch] value without its weight. The terms of a loss that is
        itself a weighted sum are named "name/term".

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
    loss: Callable, query, document, positive, fields: Fields | Mapping = NO_FIELDS
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Calls a loss and gives its value and its terms, whether it has terms or not.

    Args:
        loss: called as loss(query, document, positive, fields=...); a partial or a gin reference
            will do. Returns [batch] nats, or a pair of [batch] nats and a dict of [batch] terms.
        query: [batch, dim] floats.
        document: [candidates, dim] floats.
        positive: [batch] int32.
        fields: `Fields`, or a dict with names of theirs.

    Returns:
        [batch] loss, and name -> [batch] term, empty for a loss of one term.

    Raises:
        ValueError: if a name is not a field, or the loss does not return [batch] values.

    Example:
        >>> import jax.numpy as jnp
        >>> from gemb.losses import alignment
        >>> evaluate(alignment, jnp.eye(2), -jnp.eye(2), jnp.arange(2))
        (Array([4., 4.], dtype=float32), {})
    """
    returned = loss(query, document, positive, fields=Fields.of(fields))
    value, terms = returned if isinstance(returned, tuple) else (returned, {})
    if jnp.shape(value) != jnp.shape(positive):
        name = getattr(loss, "__name__", repr(loss))
        raise ArgumentError(
            f"{name}: expected the loss of each query, shape {jnp.shape(positive)}, "
            f"got {jnp.shape(value)}"
        )
    return value, terms
