"""Whether a training run converged, over- or underfits: its loss curve against held-out figures."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

STATES = ("diverged", "overfits", "underfits", "converged", "unclear")
RULE = (
    "Rule: the logged steps are cut into quarters. The loss still falls if the last quarter's mean "
    "is below the third's by more than two standard errors and by more than a tenth of the whole "
    "fall. A run diverged if its last quarter is above its first by two standard errors; it "
    "overfits if the last held-out figure is more than 1 % below the best one; it underfits if the "
    "loss still falls and the last held-out figure is more than 1 % above the one before; else it "
    "converged."
)
_FEWEST, _ERRORS, _FALL, _TOLERANCE = 8, 2.0, 0.1, 0.01


class Convergence(NamedTuple):
    """What the curves of a run say.

    Attributes:
        state: one of `STATES`.
        reason: one line with figures, and what to do.
        falling: the fall of the loss from the third quarter to the last, as a share of that from
            the first to the last; 0 where it did not fall.
        best_step: of the highest held-out figure; None without held-out figures.
    """

    state: str
    reason: str
    falling: float
    best_step: int | None


def judge_training(
    losses: Sequence[float], held_out: Sequence[tuple[int, float]] = ()
) -> Convergence:
    """Judges a run by `RULE`.

    Args:
        losses: training losses in order of their steps.
        held_out: (step, figure) in order of steps; a higher figure is better.

    Example:
        >>> losses = [1 / (1 + step) for step in range(40)]
        >>> judge_training(losses, [(0, 0.5), (20, 0.7), (40, 0.6)]).state
        'overfits'
    """
    losses = np.asarray(losses, np.float64)
    best = max(held_out, key=lambda pair: pair[1])[0] if held_out else None
    if len(losses) < _FEWEST:
        return Convergence("unclear", f"{len(losses)} logged steps are too few to judge", 0.0, best)
    if not np.isfinite(losses).all():
        return Convergence("diverged", "the loss is not finite: lower the learning rate", 0.0, best)
    first, _, third, last = (_quarter(part) for part in np.array_split(losses, 4))
    whole, end = first[0] - last[0], third[0] - last[0]
    if -whole > _ERRORS * math.hypot(first[1], last[1]):
        reason = f"the loss rose from {first[0]:.4g} to {last[0]:.4g}: lower the learning rate"
        return Convergence("diverged", reason, 0.0, best)
    falling = max(end / whole, 0.0) if whole > 0 else 0.0
    falls = falling > _FALL and end > _ERRORS * math.hypot(third[1], last[1])
    state, reason = _judged(falls, falling, held_out)
    return Convergence(state, reason, float(falling), best)


def _judged(falls: bool, falling: float, held_out) -> tuple[str, str]:
    curve = (
        f"the loss still falls ({falling:.0%} of its fall is in the last quarter)"
        if falls
        else "the loss is flat in the last quarter"
    )
    if len(held_out) < 2:
        advice = "train longer" if falls else "held-out figures would show whether it overfits"
        return "underfits" if falls else "converged", f"{curve}; {advice}"
    step, best = max(held_out, key=lambda pair: pair[1])
    before, now = held_out[-2][1], held_out[-1][1]
    if best - now > _TOLERANCE * abs(best):
        advice = f"stop at step {step}" if step else "the model before training is better"
        figures = f"held-out figures fell from {best:.4f} at step {step} to {now:.4f}"
        return "overfits", f"{figures}: {advice}, or train on more data"
    rose = f"held-out figures went from {before:.4f} to {now:.4f}"
    if falls and now - before > _TOLERANCE * abs(before):
        return "underfits", f"{curve} and {rose}: train longer"
    return "converged", f"{curve}, and {rose}: more steps are unlikely to help"


def _quarter(losses: np.ndarray) -> tuple[float, float]:
    """Mean, and its standard error around a straight line."""
    steps = np.arange(len(losses), dtype=np.float64)
    steps -= steps.mean()
    mean = float(losses.mean())
    spread = float(steps @ steps)
    slope = float(steps @ losses) / spread if spread else 0.0
    left = losses - mean - slope * steps
    free = max(len(losses) - 2, 1)
    return mean, math.sqrt(float(left @ left) / free / len(losses))
