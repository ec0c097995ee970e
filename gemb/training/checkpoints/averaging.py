"""An exponential moving average of the weights, kept in the optimizer's state."""

from typing import NamedTuple

import jax
import optax

from gemb.checks import check
from gemb.training.state import TrainState


class EmaState(NamedTuple):
    """Attributes:
    inner: the state of the wrapped optimizer.
    averaged_weights: the averaged parameters, as the parameters.
    """

    inner: optax.OptState
    averaged_weights: optax.Params


def with_ema(optimizer: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """Also averages the weights that the optimizer leaves: ema = decay ema + (1 - decay) params.

    It starts at the first weights, so there is no bias to correct.

    Args:
        optimizer: what updates the weights.
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
    """The averaged parameters where there are such, else the parameters."""
    return optax.tree_utils.tree_get(state.optimizer, "averaged_weights", default=state.params)
