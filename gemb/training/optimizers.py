"""Optimizers, as optax builds them, chosen and bound in gin."""

import re
from collections.abc import Callable

import optax

# No decay for biases, norms and position tables: pulling those to zero regularises nothing.
NO_DECAY = r"(^|/)(bias|scale)$|/position/|/type/"


def adamw(
    steps: int,
    *,
    schedule: Callable[..., optax.Schedule],
    weight_decay: float = 0.01,
    b1: float = 0.9,
    b2: float = 0.999,
    clip_norm: float = 1.0,
    frozen: str = "",
) -> optax.GradientTransformation:
    """AdamW with gradient clipping, decay on matrices only, and frozen parameters by path.

    Args:
        steps: steps of the whole run, given by the training loop to the schedule.
        schedule: steps -> optax schedule; bind the rest of its arguments.
        weight_decay: decoupled decay per unit of learning rate.
        b1: decay of the first moment.
        b2: decay of the second moment.
        clip_norm: gradients of a larger global norm are scaled down to it.
        frozen: regular expression; parameters whose path it matches stay as they are, and have no
            moments. '' freezes none.

    Reference: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019,
        arXiv 1711.05101.
    """
    train = optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.adamw(
            schedule(steps=steps),
            b1=b1,
            b2=b2,
            weight_decay=weight_decay,
            mask=lambda params: {path: not re.search(NO_DECAY, path) for path in params},
        ),
    )
    if not frozen:
        return train
    return optax.partition(
        {"train": train, "frozen": optax.set_to_zero()},
        lambda params: {path: "frozen" if re.search(frozen, path) else "train" for path in params},
    )
