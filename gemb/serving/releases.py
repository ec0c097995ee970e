"""Stores that are followed: a published version is loaded next to the old one and swapped in."""

import asyncio
import contextlib
import time
from collections.abc import Callable

from gemb.checks import UserError
from gemb.identity import Listed
from gemb.serving import spot_check
from gemb.serving.http.web import log_line
from gemb.serving.popular import FILE, others, read_popular
from gemb.serving.retrieval import Chain, Step, open_release
from gemb.serving.state import State
from gemb.store import VersionStore
from gemb.store.chain import make_plan

_AGAIN = 30.0  # seconds after which a release that could not be loaded is tried again


class Follow:
    """Keeps one chain at what its store says.

    Args:
        state: whose chain is replaced.
        store: the folder.
        **options: see `ServedModel.load`.
    """

    def __init__(self, state: State, store: str, **options):
        self._state, self._store, self._options = state, VersionStore(store), options
        self.name = self._store.folder.resolve().name
        self._seen: object = None
        self._failed: tuple[object, float] = (None, 0.0)
        self.error = ""
        if self.name in state.chains:
            raise UserError(f"{store}: another index is named {self.name}; rename one of them")
        state.chains[self.name] = Chain(self.name)

    @property
    def store(self) -> VersionStore:
        """The store."""
        return self._store

    def look(self) -> bool:
        """Loads what is new, and swaps the chain; not in the event loop.

        Returns:
            Whether the chain was replaced.
        """
        try:
            listed = self._store.versions()
            seen = [(e.version, e.state, e.published, e.space) for e in listed]
            failed, when = self._failed
            if seen == self._seen or (seen == failed and time.monotonic() - when < _AGAIN):
                return False
            self._failed = seen, time.monotonic()  # until it is loaded
            self._replace(listed)
            self._seen, self._failed, self.error = seen, (None, 0.0), ""
            return True
        except UserError as error:  # the old chain stays; the next look tries again
            if str(error) != self.error:
                self._state.metrics.swap_failed.inc()
                log_line({"event": "swap failed", "index": self.name, "error": str(error)})
            self.error = str(error)
            return False

    def _replace(self, listed: list[Listed]) -> None:
        state, start = self._state, time.monotonic()
        old = state.chains[self.name]
        plan = make_plan(listed, listed, chain=state.settings.chain)
        wanted = [step.index for step in plan.steps]
        if state.settings.swap == "stop":
            kept = tuple(step for step in old.steps if step.version in wanted)
            state.chains[self.name] = old = Chain(self.name, kept, {}, ("loading",))
        have = {step.version: step for step in old.steps}
        made = {each.version: each.made for each in listed}
        steps, reasons = [], list(plan.reasons)
        for number, version in enumerate(wanted):
            try:
                steps.append(have.get(version) or self._load(version, made[version]))
            except UserError as error:
                reasons.append(f"{version}: {error}")
                if number == 0 and old.steps:  # what answers now goes on until the newest opens
                    raise
        if wanted and not steps:
            raise UserError("; ".join(reasons))
        first = steps[0] if steps else None
        same = first is not None and old.steps and old.steps[0] is first and old.others
        scores = first.popular if first and first.popular else state.popular
        kept = old.others if same else others(first, scores)
        for other in kept.values():
            other.warm()
        state.chains[self.name] = Chain(self.name, tuple(steps), kept, tuple(reasons))
        _forget(state)
        describe(state)
        seconds = time.monotonic() - start
        state.metrics.swap_seconds.observe(seconds)
        log_line(
            {
                "event": "swapped",
                "index": self.name,
                "versions": [str(step.version) for step in steps],
                "seconds": round(seconds, 2),
            }
        )

    def _load(self, version, made: float) -> Step:
        opened = self._store.open(version)
        step = open_release(opened, made, self._state.models, **self._options)
        if (opened.folder / FILE).is_file():
            step.popular = read_popular(opened.folder / FILE)
        step.warm()
        for tower in step.model.towers if step.model else ():
            self._state.batcher.expect(tower)
        found = spot_check.cosine(step)
        if found is not None and found < spot_check.LEAST:
            raise UserError(
                f"{self.name} {version}: its model gives other vectors here than are stored "
                f"(cosine {found:.4f}); it was not swapped in"
            )
        return step


def _forget(state: State) -> None:
    """Drops models of releases that no chain needs any more; their last requests keep them."""
    used = {id(step.model) for chain in state.chains.values() for step in chain.steps}
    for fingerprint, model in list(state.models.items()):
        if "@" in model.name and id(model) not in used:
            del state.models[fingerprint]


def describe(state: State) -> None:
    """Sets the gauges of what is loaded."""
    metrics = state.metrics
    metrics.release_info.clear()
    for name, chain in state.chains.items():
        for step in chain.steps:
            space = step.space
            metrics.release_info.labels(
                name, str(step.version or ""), space.document[:16], space.dim
            ).set(1)
        if chain.steps:
            metrics.index_rows.labels(name).set(chain.steps[0].searcher.documents)
            if chain.steps[0].made:
                metrics.aged(name, chain.steps[0].made)


async def watch(state: State, look: Callable[[], bool], seconds: float) -> None:
    """Looks again and again, outside the event loop, until it is cancelled."""
    while True:
        await asyncio.sleep(seconds)
        with contextlib.suppress(RuntimeError):  # the pool is closed
            await state.run(state.load_pool, look)
