"""Classification at every width of a nested embedding.

Here belongs the cross-entropy of nested classifiers; their weights are arguments, and belong to the
model. Losses between texts do not.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from gemb import checks
from gemb.losses import inputs
from gemb.losses.matryoshka import weighted_widths


def nested_classification(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    widths: Sequence[int] | None = None,
    width_weights: Sequence[float] | None = None,
    kernels: Sequence[jax.Array] | None = None,
    label_smoothing: float = 0.0,
    query_mask: jax.Array | None = None,
    document_mask: jax.Array | None = None,
    weights: jax.Array | None = None,
) -> jax.Array:
    """The cross-entropy of classifiers on leading coordinates (MRL-E and MRL).

    loss_i = sum_k c_k CE( W_k z_i[:m_k], label_i );  MRL-E: W_k = W[:, :m_k];  MRL: W_k of its own

    Args:
        query: [batch, dim] floats, the features z; not made unit-length.
        document: [classes, dim] floats, W: the rows of the shared classifier.
        positive: [batch] int32, the labels.
        widths: m_k; None is dim alone.
        width_weights: c_k in the order of `widths`; all 1 if None.
        kernels: one [classes, m_k] array for each width, in the order of `widths`: a classifier per
            width (MRL). None uses `document` at all widths (MRL-E).
        label_smoothing: the fraction of the target spread evenly over the classes.
        query_mask: [batch] bool.
        document_mask: [classes] bool, False for classes that do not exist.
        weights: [batch] floats.

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
    fields = {"query_mask": query_mask, "document_mask": document_mask, "weights": weights}
    query, document = inputs.prepare(query, document, positive, **fields)
    widths = (query.shape[1],) if widths is None else tuple(widths)
    own = {}
    if kernels is not None:
        checks.check(
            len(kernels) == len(widths),
            f"kernels: expected one for each of {widths}, got {len(kernels)}",
        )
        for width, kernel in zip(widths, kernels, strict=True):
            checks.check_shape(f"kernels of width {width}", kernel, (document.shape[0], width))
            own[width] = kernel.astype(query.dtype)
    real = inputs.real_rows(positive, query_mask, document_mask)
    label = jnp.arange(document.shape[0])[None, :] == positive[:, None]
    exists = label if document_mask is None else label | document_mask[None, :]
    exists = jnp.ones_like(label) if document_mask is None else exists
    smooth = label_smoothing / jnp.sum(exists, axis=1, keepdims=True)
    target = jnp.where(label, 1 - label_smoothing, 0) + smooth
    total = jnp.zeros(query.shape[0], query.dtype)
    for width, weight in weighted_widths(widths, width_weights, query.shape[1]):
        logit = inputs.dot(query[:, :width], own.get(width, document[:, :width]))
        log_p = jax.nn.log_softmax(jnp.where(exists, logit, -jnp.inf), axis=1)
        total = total - weight * jnp.sum(jnp.where(exists, target * log_p, 0), axis=1)
    return jnp.where(real, total * inputs.row_weights(real, weights, query.dtype), 0)
