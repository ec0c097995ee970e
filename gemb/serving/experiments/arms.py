"""Experiments as a file says them, and the arm of a unit: sticky, and without any state."""

import hashlib
import json
import re
from pathlib import Path

import msgspec

from gemb.checks import UserError

BUCKETS = 10_000
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,60}")


class Arm(msgspec.Struct, forbid_unknown_fields=True):
    """One arm.

    Attributes:
        name: in the log.
        share: of the units, 0 to 1.
        answer: a version such as "7.3" or the name of another retriever such as "bm25"; "" for
            the newest version.
        interleave: what the arm's ranking is interleaved with, likewise; None for nothing.
    """

    name: str
    share: float
    answer: str = ""
    interleave: str | None = None


class Rollout(msgspec.Struct, forbid_unknown_fields=True):
    """How a new release takes over; see `gemb.serving.experiments.rollout`.

    Attributes:
        new: the version that gets more and more requests.
        old: the version before.
        steps: shares, rising.
        requests: answers of the new version after which a step is judged.
    """

    new: str
    old: str
    steps: list[float] = msgspec.field(default_factory=lambda: [0.01, 0.1, 0.5, 1.0])
    requests: int = 500


class Experiment(msgspec.Struct, forbid_unknown_fields=True):
    """One experiment on one index.

    Attributes:
        name: in the log.
        index: that it is on; "" for the first.
        salt: that its hashes begin with; another salt draws the units again.
        arms: whose shares sum to at most 1; what is left is not in the experiment.
        shadow: a version that is asked as well, without its answer being shown; "" for none.
        shadow_share: of the requests that are shadowed.
        rollout: instead of arms.
    """

    name: str
    index: str = ""
    salt: str = ""
    arms: list[Arm] = []
    shadow: str = ""
    shadow_share: float = 0.0
    rollout: Rollout | None = None

    def arm(self, unit: str) -> Arm | None:
        """The arm of a unit; None for a unit that is not in the experiment.

        Example:
            >>> halves = [Arm("old", 0.5, "6.1"), Arm("new", 0.5, "7.1")]
            >>> test = Experiment("ranking", arms=halves)
            >>> test.arm("user-1").name == test.arm("user-1").name
            True
        """
        place, end = bucket(self.salt or self.name, unit), 0.0
        for arm in self.arms:
            end += arm.share * BUCKETS
            if place < round(end):
                return arm
        return None


def bucket(salt: str, unit: str) -> int:
    """BLAKE2b(salt, unit) mod 10,000: even, and independent from salt to salt.

    Example:
        >>> bucket("a", "user-1") == bucket("a", "user-1"), 0 <= bucket("b", "user-1") < 10_000
        (True, True)
    """
    text = f"{len(salt)}:{salt}{unit}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") % BUCKETS


def unit_hash(salt: str, unit: str) -> str:
    """What the log holds in place of a unit."""
    text = f"{len(salt)}:{salt}{unit}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16, person=b"gemb unit").hexdigest()


def read(file: str | Path) -> list[Experiment]:
    """Reads a file of experiments: {"experiments": [...]}.

    Raises:
        UserError: naming what is wrong.
    """
    try:
        tree = json.loads(Path(file).expanduser().read_text(encoding="utf-8"))
        found = msgspec.convert(tree, dict[str, list[Experiment]])
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from None
    if set(found) != {"experiments"}:
        raise UserError(f'{file}: expected {{"experiments": [...]}}')
    names = set()
    for each in found["experiments"]:
        _check(each, f"{file}: {each.name!r}")
        if each.name in names:
            raise UserError(f"{file}: the experiment {each.name!r} is there twice")
        names.add(each.name)
    return found["experiments"]


def _check(experiment: Experiment, where: str) -> None:
    if not _NAME.fullmatch(experiment.name):
        raise UserError(f"{where}: use lower-case letters, digits, '.', '_' and '-' for a name")
    arms = [each.name for each in experiment.arms]
    shares = [each.share for each in experiment.arms]
    if len(set(arms)) < len(arms) or not all(map(_NAME.fullmatch, arms)):
        raise UserError(f"{where}: arms need different names of such letters, got {arms}")
    if any(not 0 <= share <= 1 for share in shares) or sum(shares) > 1 + 1e-9:
        raise UserError(f"{where}: shares are from 0 to 1 and sum to at most 1, got {shares}")
    if not 0 <= experiment.shadow_share <= 1:
        raise UserError(f"{where}: shadow_share: expected 0 to 1")
    rollout = experiment.rollout
    if rollout is not None:
        rising = sorted(set(rollout.steps))
        if experiment.arms or rollout.steps != rising or not rising or rising[-1] != 1.0:
            raise UserError(f"{where}: rollout: needs rising steps up to 1, and no arms")
        if rising[0] <= 0 or rollout.requests < 1:
            raise UserError(f"{where}: rollout: steps and requests are above 0")
