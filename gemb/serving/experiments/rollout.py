"""A new release takes over step by step, and goes back by itself when it does worse."""

from typing import NamedTuple

import numpy as np

from gemb.serving.experiments.arms import Rollout

_KEPT = 5_000  # answers of each side that are judged


class Outcome(NamedTuple):
    """One answer.

    Attributes:
        seconds: that it took.
        failed: whether it was a 5xx.
        fallback: whether something else than the version asked for answered.
        empty: whether it had no hits.
    """

    seconds: float
    failed: bool = False
    fallback: bool = False
    empty: bool = False


def worse(new: list[Outcome], old: list[Outcome]) -> str:
    """Why a new release has to go back; "" where it may stay.

    Args:
        new, old: answers of the same time.

    Returns:
        What is worse: errors by more than a point, p95 by more than half, more than 5 % answered
        by something else, or more than twice as many empty answers.
    """

    def share(of: list[Outcome], what: str) -> float:
        return float(np.mean([getattr(each, what) for each in of])) if of else 0.0

    errors = share(new, "failed"), share(old, "failed")
    if errors[0] > errors[1] + 0.01:
        return f"errors {errors[0]:.1%}, before {errors[1]:.1%}"
    if share(new, "fallback") > 0.05:
        return f"fallbacks {share(new, 'fallback'):.1%}"
    empty = share(new, "empty"), share(old, "empty")
    if empty[0] > max(2 * empty[1], 0.001):
        return f"empty answers {empty[0]:.1%}, before {empty[1]:.1%}"
    if len(old) >= 50:
        slow = [float(np.quantile([each.seconds for each in side], 0.95)) for side in (new, old)]
        if slow[0] > 1.5 * slow[1] and slow[0] > slow[1] + 0.005:
            return f"p95 {slow[0] * 1000:.0f} ms, before {slow[1] * 1000:.0f} ms"
    return ""


class Progress:
    """Where a roll-out is.

    Args:
        plan: its versions and steps.

    Attributes:
        share: of the units that get the new version.
        stopped: why it went back; "" if it did not.
    """

    def __init__(self, plan: Rollout):
        self.plan, self._step, self.stopped = plan, 0, ""
        self._new: list[Outcome] = []
        self._old: list[Outcome] = []

    @property
    def share(self) -> float:
        """0 after it went back."""
        return 0.0 if self.stopped else self.plan.steps[self._step]

    @property
    def done(self) -> bool:
        """Whether the new version has all units."""
        return not self.stopped and self.share == 1.0

    def add(self, version: str, outcome: Outcome) -> str:
        """Counts an answer, and judges when there are enough.

        Returns:
            What changed, for the log; "" for nothing.
        """
        side = self._new if version == self.plan.new else self._old
        side.append(outcome)
        del side[:-_KEPT]
        if self.stopped or side is not self._new or len(side) < self.plan.requests:
            return ""
        reason = worse(self._new, self._old)
        if reason:
            self.stopped = reason
            return f"went back to {self.plan.old}: {reason}"
        if self.done:
            del side[: -self.plan.requests + 1]  # judged on, with the newest answers
            return ""
        self._step += 1
        self._new, self._old = [], []
        return f"{self.plan.new} has {self.share:.0%}"
