"""An exponential moving average of the weights, kept in the optimizer's state."""

from typing import NamedTuple

import jax
import optax

from gemb.checks import check
from gemb.training.state import TrainState


class EmaState(NamedTuple):
    """Attributes:
    inner: the state of the wrapped optimizer.
    averaged_weights: the averaged parameters, in the structure of the parameters.
    """

    inner: optax.OptState
    averaged_weights: optax.Params


def with_ema(optimizer: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """Also averages the updated weights: ema = decay ema + (1 - decay) params.

    The average starts at the initial weights, so it needs no bias correction.

    Args:
        optimizer: the optimizer that updates the weights.
        decay: in [0, 1); 0.999 averages over about the last thousand steps.

    Raises:
        ValueError: if decay is out of its range.
    """
    check(0 <= decay < 1, f"ema_decay: expected a number in [0, 1), got {decay}")

    def init(params):
        return EmaState(optimizer.init(params), jax.tree.map(lambda x: x.copy(), params))

    def update(gradients, state, params):
        updates, inner = optimizer.update(gradients, state.inner, params)
        new = optax.apply_updates(params, updates)
        return updates, EmaState(
            inner, optax.incremental_update(new, state.averaged_weights, 1 - decay)
        )

    return optax.GradientTransformation(init, update)


def averaged(state: TrainState) -> dict:
    """The averaged parameters if the state has them, else the parameters."""
    return optax.tree_utils.tree_get(state.optimizer, "averaged_weights", default=state.params)
