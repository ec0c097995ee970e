"""Learning-rate schedules: step -> rate. Each is a function of the run's total steps."""

import optax

from gemb.checks import check


def warmup_linear(peak_rate: float, steps: int, warmup_fraction: float = 0.1) -> optax.Schedule:
    """Rises linearly from 0 to the peak, then falls linearly to 0 at the last step.

    Args:
        peak_rate: the highest learning rate.
        steps: total number of steps.
        warmup_fraction: share of the steps spent rising, in [0, 1).

    Raises:
        ValueError: if warmup_fraction is out of range.

    Example:
        >>> schedule = warmup_linear(1.0, steps=10, warmup_fraction=0.2)
        >>> [round(float(schedule(step)), 3) for step in (0, 1, 2, 6, 10)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    warmup = _warmup_steps(steps, warmup_fraction)
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, peak_rate, warmup),
            optax.linear_schedule(peak_rate, 0.0, max(1, steps - warmup)),
        ],
        [warmup],
    )


def warmup_cosine(
    peak_rate: float, steps: int, warmup_fraction: float = 0.1, final_fraction: float = 0.0
) -> optax.Schedule:
    """Rises linearly from 0 to the peak, then follows half a cosine down.

    Args:
        peak_rate: the highest learning rate.
        steps: total number of steps.
        warmup_fraction: share of the steps spent rising, in [0, 1).
        final_fraction: the final rate as a share of the peak.

    Raises:
        ValueError: if warmup_fraction is out of range.
    """
    warmup = _warmup_steps(steps, warmup_fraction)
    return optax.warmup_cosine_decay_schedule(
        0.0, peak_rate, warmup, steps, end_value=peak_rate * final_fraction
    )


def warmup_stable_decay(
    peak_rate: float, steps: int, warmup_fraction: float = 0.05, decay_fraction: float = 0.2
) -> optax.Schedule:
    """Rises linearly to the peak, stays there, then falls linearly to 0 at the last step (WSD).

    Args:
        peak_rate: the highest learning rate.
        steps: total number of steps.
        warmup_fraction: share of the steps spent rising, in [0, 1).
        decay_fraction: share of the steps spent falling, in (0, 1 - warmup_fraction].

    Raises:
        ValueError: if a fraction is out of range.

    Example:
        >>> schedule = warmup_stable_decay(1.0, 10, warmup_fraction=0.2, decay_fraction=0.4)
        >>> [round(float(schedule(step)), 3) for step in (0, 1, 2, 6, 8, 10)]
        [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]

    Reference: Hu et al., "MiniCPM", 2024, arXiv 2404.06395.
    """
    warmup = _warmup_steps(steps, warmup_fraction)
    check(
        0 < decay_fraction <= 1 - warmup_fraction,
        f"decay_fraction: expected a value in (0, {1 - warmup_fraction:g}], got {decay_fraction}",
    )
    decay = max(1, round(steps * decay_fraction))
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, peak_rate, warmup),
            optax.constant_schedule(peak_rate),
            optax.linear_schedule(peak_rate, 0.0, decay),
        ],
        [warmup, steps - decay],
    )


def _warmup_steps(steps: int, fraction: float) -> int:
    check(0 <= fraction < 1, f"warmup_fraction: expected a value in [0, 1), got {fraction}")
    return round(steps * fraction)
