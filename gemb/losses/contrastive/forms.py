"""The forms of a contrastive loss: the same value and gradient, computed in different ways.

The settings of the forms and the choice between them. They are implemented in
`softmax.dense`, `blockwise` and `ring`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax

from gemb import checks
from gemb.losses.contrastive import softmax
from gemb.losses.contrastive.blockwise import blockwise
from gemb.losses.contrastive.ring import ring
from gemb.losses.inputs import Prepared


@dataclasses.dataclass(frozen=True)
class Blockwise:
    """A block of rows at a time, without the [batch, candidates] matrix.

    Attributes:
        block: rows at a time.

    Example:
        >>> import jax.numpy as jnp
        >>> from gemb import losses
        >>> rows = jnp.eye(4)
        >>> loss = losses.info_nce(rows, rows, jnp.arange(4), form=Blockwise(block=2))
        >>> bool(jnp.allclose(loss, losses.info_nce(rows, rows, jnp.arange(4))))
        True
    """

    block: int = 384


@dataclasses.dataclass(frozen=True)
class Ring:
    """Over a mesh: the queries stay on their devices, and the documents travel.

    Logits on a device never exceed block * (batch / devices). Call the loss under `jax.set_mesh`;
    its [batch] values are split over the axes.

    Attributes:
        block: candidates at a time.
        axis_names: the mesh axes that the rows are split over; their devices divide both the batch
            and the candidates.
        exchange: "ring" passes the documents on from device to device; "gather" first collects them
            all on each device: more memory, fewer and larger messages.

    Example:
        >>> import jax.numpy as jnp
        >>> from gemb import losses
        >>> rows, auto = jnp.eye(4), (jax.sharding.AxisType.Auto,)
        >>> with jax.set_mesh(jax.make_mesh((1,), ("fsdp",), axis_types=auto)):
        ...     loss = losses.info_nce(rows, rows, jnp.arange(4), form=Ring(axis_names=("fsdp",)))
        >>> bool(jnp.allclose(loss, losses.info_nce(rows, rows, jnp.arange(4))))
        True

    Reference: Liu et al., Ring Attention with Blockwise Transformers, 2023, arXiv 2310.01889, with
        candidates for keys.
    """

    block: int = 1024
    axis_names: Sequence[str] = ("replica", "fsdp")
    exchange: Literal["ring", "gather"] = "ring"


OneDevice = Literal["dense", "blockwise"] | Blockwise
Form = Literal["dense", "blockwise", "ring"] | Blockwise | Ring


def softmax_loss(p: Prepared, softmaxes, options, temperature, form: Form) -> jax.Array:
    """[batch] nats of a softmax loss in the form that is asked for.

    Args:
        p: the loss's arguments.
        softmaxes: the directions of each softmax.
        options: the loss's numbers.
        temperature: the loss's option.
        form: how to compute it.

    Raises:
        ValueError: if the form is unknown, or does not fit the mesh or the batch.
    """
    how = settings(form)
    if isinstance(temperature, int | float):
        checks.check(temperature > 0, f"temperature: expected above 0, got {temperature}")
    problem = softmax.problem(p, softmaxes, options, temperature)
    if isinstance(how, Ring):
        return ring(problem, softmaxes, options, how.block, how.axis_names, how.exchange)
    if isinstance(how, Blockwise):
        return blockwise(problem, softmaxes, options, how.block)
    return softmax.dense(problem, softmaxes, options)


def settings(form: Form, known: Sequence[type] = (Blockwise, Ring)) -> Blockwise | Ring | None:
    """The settings of a form; None for the dense one, which has none.

    Args:
        form: "dense", the name of a form, or its settings.
        known: the other forms that the loss has.

    Raises:
        ValueError: for a form that the loss does not have, or a block of no rows.
    """
    if form == "dense":
        return None
    by_name = {kind.__name__.lower(): kind for kind in known}
    how = by_name[form]() if isinstance(form, str) and form in by_name else form
    if not isinstance(how, tuple(known)):
        names = ["'dense'", *map(repr, by_name), *(f"losses.{k.__name__}(...)" for k in known)]
        raise checks.ArgumentError(f"form: expected {' or '.join(names)}, got {form!r}")
    checks.check(how.block >= 1, f"block: expected at least 1, got {how.block}")
    return how
