"""Whether a run fits on named chips, what a step takes there, and what to change if it does not.

The figures are those of `gemb.training.planning.estimate`; here they are held against a chip.
"""

import dataclasses
from collections.abc import Iterator

from gemb.training.planning import estimate
from gemb.training.planning.chips import Chip
from gemb.training.planning.workload import Settings, Workload, check_divides

USABLE = 0.9  # of a chip's memory: the rest is the runtime's, and what lies between arrays
_GIN = {
    "replica": "mesh.make_mesh.replica",
    "fsdp": "mesh.make_mesh.fsdp",
    "tensor": "mesh.make_mesh.tensor",
    "query_microbatches": "experiment.Experiment.query_microbatches",
    "document_microbatches": "experiment.Experiment.document_microbatches",
    "dtype": "execution.Execution.dtype",
    "matmul_dtype": "execution.Execution.matmul_dtype",
    "layers": "execution.Execution.layers",
    "remat": "execution.Execution.remat",
}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A run on chips.

    Attributes:
        memory: bytes of a device by what they are for.
        usable: bytes that there are.
        executed, useful: FLOPs of a step and device, with and without what is computed again.
        traffic: bytes that a device receives in a step, by what they are.
        arithmetic_seconds, traffic_seconds: of a step; a step takes at least the longer one.
        mfu: share of the peak that useful FLOPs come to in a step.
    """

    memory: dict[str, float]
    usable: float
    executed: float
    useful: float
    traffic: dict[str, float]
    arithmetic_seconds: float
    traffic_seconds: float
    mfu: float

    @property
    def fits(self) -> bool:
        """Whether the memory does."""
        return sum(self.memory.values()) <= self.usable

    @property
    def seconds(self) -> float:
        """Of a step, if traffic hides behind arithmetic as far as it can."""
        return max(self.arithmetic_seconds, self.traffic_seconds)


def judge(work: Workload, settings: Settings, chip: Chip, utilisation: float) -> Verdict:
    """A run on as many chips as the settings' mesh has.

    Args:
        work: what is computed.
        settings: how.
        chip: on what.
        utilisation: share of the chip's peak at which matrix products run, recomputed ones
            included.
    """
    executed, useful = estimate.flops(work, settings)
    traffic = estimate.traffic(work, settings)
    arithmetic = executed / (chip.flops * utilisation)
    moving = sum(traffic.values()) / chip.bandwidth(settings.devices)
    return Verdict(
        estimate.memory(work, settings),
        USABLE * chip.memory,
        executed,
        useful,
        traffic,
        arithmetic,
        moving,
        useful / (chip.flops * max(arithmetic, moving)),
    )


def fits(work: Workload, settings: Settings, chip: Chip) -> bool:
    """Whether the memory of a chip is enough."""
    return sum(estimate.memory(work, settings).values()) <= USABLE * chip.memory


def advise(work: Workload, settings: Settings, chip: Chip) -> Settings:
    """The settings nearest to these that fit; where none were found, the smallest of those tried.

    What costs least is tried first: bfloat16, looped layers that are recomputed, parameters split
    over more chips, smaller microbatches, and splitting heads and columns at last. What turns out
    not to be needed is taken back.
    """
    if fits(work, settings, chip):
        return settings
    tried, changes, smallest = settings, [], settings
    for change in _changes(work, settings):
        after = dataclasses.replace(tried, **change(tried))
        if after.devices != settings.devices or not check_divides(work, after):
            continue
        tried = after
        changes.append(change)
        if fits(work, tried, chip):
            return _fewest(work, settings, chip, changes)
        smallest = min(smallest, tried, key=lambda one: sum(estimate.memory(work, one).values()))
    return smallest


def bindings(before: Settings, after: Settings) -> list[str]:
    """What to bind to go from some settings to others.

    Example:
        >>> bindings(Settings(8, 1, 1), Settings(1, 8, 1))
        ['mesh.make_mesh.replica = 1', 'mesh.make_mesh.fsdp = 8']
    """
    old, new = _flat(before), _flat(after)
    changes = [f"{_GIN[name]} = {new[name]!r}" for name in _GIN if new[name] != old[name]]
    if after.execution != before.execution:
        changes.insert(0, "from gemb.models import execution")
        changes.append("experiment.Experiment.execution = @execution.Execution()")
    return changes


def _flat(settings: Settings) -> dict:
    values = dataclasses.asdict(settings)
    return values | values.pop("execution")


def _changes(work: Workload, settings: Settings) -> Iterator:
    """Functions Settings -> fields to replace, the cheapest first."""

    def execution(**fields):
        return lambda s: {"execution": dataclasses.replace(s.execution, **fields)}

    def split(**parts):
        return lambda s: parts

    if settings.execution.dtype == "float32":
        yield execution(dtype="bfloat16", matmul_dtype="")
    yield execution(layers="scan", remat="full")
    fsdp = settings.fsdp
    while fsdp * 2 <= settings.devices // settings.tensor:
        fsdp *= 2
        yield split(fsdp=fsdp, replica=settings.devices // settings.tensor // fsdp)
    (_, queries, _), (_, documents, _) = work.sides
    parts = 2
    while parts <= max(queries, documents) // settings.ways:
        yield _microbatches(parts)
        parts *= 2
    tensor = settings.tensor
    while tensor * 2 <= min(8, settings.devices):
        tensor *= 2
        yield split(tensor=tensor, replica=1, fsdp=settings.devices // tensor)


def _microbatches(parts: int):
    def change(settings):
        names = ("query_microbatches", "document_microbatches")
        return {name: max(getattr(settings, name), parts) for name in names}

    return change


def _fewest(work, settings: Settings, chip: Chip, changes: list) -> Settings:
    """What is left when every change without which it fits as well is taken back."""

    def made(some) -> Settings:
        now = settings
        for change in some:
            now = dataclasses.replace(now, **change(now))
        return now

    needed = list(changes)
    for change in changes:
        fewer = [one for one in needed if one is not change]
        after = made(fewer)
        whole = after.devices == settings.devices
        if whole and check_divides(work, after) and fits(work, after, chip):
            needed = fewer
    return made(needed)
