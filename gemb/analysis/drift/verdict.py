"""What is said about a window: which tests found drift, what grew, and one line of advice."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from gemb.analysis.drift.calibration import Judged
from gemb.analysis.drift.panel import TESTS
from gemb.inference.canaries import CanaryCheck


@dataclasses.dataclass(frozen=True)
class Finding:
    """One test of the panel.

    Attributes:
        value: the statistic.
        threshold: its quantile 1 - alpha in windows without drift of the same size.
        p: of this test, adjusted for all tests of the panel.
        effect: the statistic less its mean without drift.
        gate: the effect of 2 % of a topic of the reference; smaller effects are no alarm.
        drifted: whether p < alpha and effect > gate.
    """

    value: float
    threshold: float
    p: float
    effect: float
    gate: float
    drifted: bool


@dataclasses.dataclass(frozen=True)
class Topic:
    """A cluster of the reference whose share changed.

    Attributes:
        cluster: its number.
        share_before, share_now: shares of the reference and of the window.
        words: words that its texts in the window have more often than the reference.
        texts: texts of the window, those farthest from what the reference knew first.
    """

    cluster: int
    share_before: float
    share_now: float
    words: Sequence[str] = ()
    texts: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The verdict on a window.

    Attributes:
        rows: of the window.
        alpha: share of false alarms that the panel allows.
        p: the smallest adjusted p of the panel.
        tests: name -> `Finding`.
        topics: clusters that grew, the largest growth first.
        foreign: share of rows by other models than the reference's.
        canaries: how the model's canaries were found; None where no model was given.
    """

    rows: int
    alpha: float
    p: float
    tests: dict[str, Finding]
    topics: tuple[Topic, ...] = ()
    foreign: float = 0.0
    canaries: CanaryCheck | None = None

    @property
    def moved(self) -> bool:
        """Whether a test of the panel found drift of the vectors."""
        return any(finding.drifted for finding in self.tests.values())

    @property
    def broken(self) -> bool:
        """Whether canaries changed: the encoder computes something else."""
        return self.canaries is not None and self.canaries.broken

    @property
    def drifted(self) -> bool:
        """Whether anything is to be looked at: moved vectors, rows of other models, canaries."""
        return self.moved or self.broken or self.foreign > 0

    @property
    def status(self) -> int:
        """The exit status: 0 no drift, 3 drift, 4 canaries broken."""
        return 4 if self.broken else 3 if self.drifted else 0

    def tree(self) -> dict:
        """The verdict as JSON values."""
        made = dataclasses.asdict(self)
        return made | {"drifted": self.drifted, "status": self.status, "advice": advice(self)}


def findings(found: Judged, gates: np.ndarray, alpha: float) -> dict[str, Finding]:
    """The findings of the panel by the name of the test."""
    made = {}
    for number, name in enumerate(TESTS):
        p, effect = (
            float(found.adjusted[number]),
            float(found.values[number] - found.expected[number]),
        )
        gate = float(gates[number])
        values = float(found.values[number]), float(found.thresholds[number])
        made[name] = Finding(*values, p, effect, gate, p < alpha and effect > gate)
    return made


def advice(verdict: Verdict, outcomes_changed: bool = False) -> str:
    """One line: nothing, refresh or retrain, with the reason.

    Args:
        verdict: of the window.
        outcomes_changed: whether outcomes for the same inputs changed, see
            `gemb.analysis.drift.concept`.
    """
    if verdict.broken:
        return (
            "repair the encoder: its canaries changed (prompt, truncation, pooling, cleaning or "
            "weights), so the data cannot be judged"
        )
    if verdict.foreign:
        return (
            f"refresh: {verdict.foreign:.1%} of the vectors are of another model; encode these "
            "rows again with one model, or map them with `gemb adapter`"
        )
    if outcomes_changed:
        return "retrain: outcomes for the same inputs changed, so relevance itself moved"
    if not verdict.moved:
        return "nothing: the vectors did not move by more than 2 % of a topic"
    if verdict.tests["far share"].drifted:
        share = verdict.tests["far share"].value
        return (
            f"look at the texts, then retrain if they are wanted: {share:.1%} more of them than "
            "before are far from everything that the reference knows (a new topic, spam, or "
            "broken or empty texts)"
        )
    if verdict.tests["topics"].drifted and verdict.topics:
        grown = verdict.topics[0]
        return (
            f"refresh: known topics have other shares (cluster {grown.cluster} from "
            f"{grown.share_before:.1%} to {grown.share_now:.1%}); encode and index new items, and "
            "retrain if metrics on recent data fall"
        )
    if verdict.tests["directions"].drifted:
        return (
            "refresh and look at the texts: the vectors moved towards one or a few small topics; "
            "encode and index new items, and retrain if metrics on recent data fall"
        )
    return (
        "refresh and look at the texts: the vectors moved as a whole, not by one topic, as a "
        "change of format, language or cleaning moves them"
    )
