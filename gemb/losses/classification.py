"""Classification at every width of a nested embedding.

The cross-entropy of nested classifiers. Their weights are parameters of a model and arguments
here.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from gemb import checks
from gemb.losses import inputs
from gemb.losses.fields import NO_FIELDS, Fields
from gemb.losses.matryoshka import weighted_widths


def nested_classification(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    widths: Sequence[int] | None = None,
    width_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """The cross-entropy of classifiers on leading coordinates (MRL-E and MRL).

    loss_i = sum_k c_k CE( W_k z_i[:m_k], label_i );  MRL-E: W_k = W[:, :m_k];  MRL: W_k of its own

    Args:
        query: [batch, dim] floats, the features z; not made unit-length.
        document: [classes, dim] floats, W: the rows of the shared classifier.
        positive: [batch] int32, the labels.
        widths: m_k; None is dim alone.
        width_weights: c_k in the order of `widths`; all 1 if None.
        label_smoothing: the fraction of the target spread evenly over the classes.
        fields: masks (document_mask: [classes] bool, False for classes that do not exist) and
            weights; classifiers, one [classes, m_k] array for each width in the order of `widths`
            (MRL); without them `document` is used at all widths (MRL-E); see `Fields`.

    Returns:
        [batch] nats.

    Raises:
        ValueError: naming the argument at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> nested_classification(jnp.zeros((1, 4)), jnp.ones((3, 4)), jnp.zeros(1, int),
        ...                       widths=(4, 2)).round(4)  # 2 log 3
        Array([2.1972], dtype=float32)

    Reference: Kusupati et al., Matryoshka Representation Learning, 2022, arXiv 2205.13147.
    """
    p = inputs.prepare(query, document, positive, fields, reads=("classifiers",))
    dim = p.query.shape[1]
    widths = (dim,) if widths is None else tuple(widths)
    own = _own_classifiers(p, widths)
    label = jnp.arange(p.document.shape[0])[None, :] == p.positive[:, None]
    exists = label | p.real_documents[None, :]
    smooth = label_smoothing / jnp.sum(exists, axis=1, keepdims=True)
    target = jnp.where(label, 1 - label_smoothing, 0) + smooth
    total = jnp.zeros(p.query.shape[0], p.query.dtype)
    for width, weight in weighted_widths(widths, width_weights, dim):
        logit = inputs.dot(p.query[:, :width], own.get(width, p.document[:, :width]))
        log_p = jax.nn.log_softmax(jnp.where(exists, logit, -jnp.inf), axis=1)
        total = total - weight * jnp.sum(jnp.where(exists, target * log_p, 0), axis=1)
    return p.weighted(total)


def _own_classifiers(p: inputs.Prepared, widths: Sequence[int]) -> dict[int, jax.Array]:
    """The classifier of each width; empty where all share one."""
    given = p.fields.classifiers
    if given is None:
        return {}
    checks.check(
        len(given) == len(widths),
        f"classifiers: expected one for each of {widths}, got {len(given)}",
    )
    for width, kernel in zip(widths, given, strict=True):
        checks.check_shape(f"classifiers of width {width}", kernel, (p.document.shape[0], width))
        checks.check_floating(f"classifiers of width {width}", kernel)
    return {w: kernel.astype(p.query.dtype) for w, kernel in zip(widths, given, strict=True)}
