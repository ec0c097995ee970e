"""What a server holds while it runs: models, chains of indexes, the batcher, pools of threads."""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gemb.inference.cross_encoder import CrossEncoder
from gemb.processors.processor import Example
from gemb.serving import tracing
from gemb.serving.batching.batcher import Batcher
from gemb.serving.batching.lanes import BULK, INTERACTIVE, Job
from gemb.serving.batching.towers import Compiles, ServedModel
from gemb.serving.http.errors import ApiError
from gemb.serving.http.wire import MOST_TOKENS
from gemb.serving.metrics import Metrics
from gemb.serving.retrieval import Chain
from gemb.store.keyed import KeyedStore

_INLINE = 2_000  # characters that are tokenized in the event loop: a thread would take longer
_INTERACTIVE_TEXTS = 4


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Attributes:
        deadline: seconds of an interactive request.
        bulk_deadline: seconds of a bulk request.
        chain: versions of a release that are kept loaded.
        drain_delay: seconds between saying "not ready" and refusing connections.
        swap: "keep" loads a new release next to the old one; "stop" lets the old one go first,
            for machines without memory for both.
        watch: seconds between two looks at a store.
    """

    deadline: float = 1.0
    bulk_deadline: float = 60.0
    chain: int = 3
    drain_delay: float = 5.0
    swap: str = "keep"
    watch: float = 1.0


class State:
    """What all requests share; replaced in parts, never changed in place while it is read.

    Attributes:
        models: by fingerprint.
        aliases: name -> model or name of a chain, for requests.
        chains: by name.
        users: key store of vectors by user id; None for none.
        rerankers: cross-encoders by name.
        popular: scores of items by id, for all indexes; None for none.
        classifiers: by name, see `gemb.serving.classifying`.
        tracing: makes spans; None where the environment does not ask for them.
        warm: whether everything is compiled.
        draining: whether the server is about to stop.
        unfit: why a model must not answer, by name; empty where stored vectors agree.
    """

    def __init__(self, settings: Settings = Settings()):
        import jax

        self.settings, self.metrics = settings, Metrics()
        ahead = 1 if jax.default_backend() == "cpu" else 2
        self.compiles = Compiles.counter()
        serving = self.compiles.serving
        self.batcher = Batcher(ahead=ahead, observe=self.metrics.batch, begin=serving)
        self.models: dict[str, ServedModel] = {}
        self.chains: dict[str, Chain] = {}
        self.users: KeyedStore | None = None
        self.rerankers: dict[str, CrossEncoder] = {}
        self.popular: Mapping[str, float] | None = None
        self.classifiers: dict[str, Any] = {}
        self.tracing = tracing.of_environment()
        self.warm, self.draining = False, False
        self.unfit: dict[str, str] = {}
        self.started = time.time()
        # One thread for searches and one for cross-encoders: more would fight for the same cores.
        self.search_pool = ThreadPoolExecutor(1, "gemb-search", initializer=serving)
        self.rerank_pool = ThreadPoolExecutor(1, "gemb-rerank")
        self.tokenize_pool = ThreadPoolExecutor(2, "gemb-tokenize")
        self.store_pool = ThreadPoolExecutor(4, "gemb-store")
        self.load_pool = ThreadPoolExecutor(1, "gemb-load")
        self._watch_gauges()

    def _watch_gauges(self) -> None:
        made = self.metrics
        waiting = self.batcher.lanes.positions
        for lane in (INTERACTIVE, BULK):
            made.queue_tokens.labels(lane).set_function(lambda lane=lane: waiting[lane])
        made.compiles.set_function(lambda: self.compiles.late)
        made.ready.set_function(lambda: float(not self.why_not_ready()))

    def why_not_ready(self) -> str:
        """Why requests must go to another server; "" if this one is ready."""
        if self.draining:
            return "draining"
        if not self.warm:
            return "compiling"
        if not self.batcher.alive:
            return "the thread that encodes has ended"
        if self.unfit:
            return f"stored vectors differ: {next(iter(self.unfit))}"
        stores = [chain for chain in self.chains.values() if not chain.steps and not chain.others]
        return f"nothing published: {stores[0].name}" if stores else ""

    def chain(self, name: str) -> Chain:
        """An index by its name; the first one for "".

        Raises:
            ApiError: 404, naming the indexes.
        """
        if not name and self.chains:
            return next(iter(self.chains.values()))
        if name not in self.chains:
            known = ", ".join(self.chains) or "none"
            raise ApiError(
                404, f"index: not known; served are: {known}", "unknown_index", param="index"
            )
        return self.chains[name]

    def names(self) -> dict[str, ServedModel]:
        """Every name of a model: its own, and that of a chain for the chain's newest."""
        found = {model.name: model for model in list(self.models.values())}
        for name, chain in self.chains.items():
            newest = next((step.model for step in chain.steps if step.model), None)
            if newest is not None:
                found.setdefault(name, newest)
        return found

    def model(self, name: str) -> ServedModel:
        """A model by its name or a chain's; the first one for "".

        Raises:
            ApiError: 404, naming the models; another is never taken instead.
        """
        names = self.names()
        if not name and names:
            return next(iter(names.values()))
        if name not in names:
            known = ", ".join(names) or "none"
            raise ApiError(
                404, f"model: not known; served are: {known}", "unknown_model", param="model"
            )
        return names[name]

    def lane(self, texts: int) -> str:
        """The lane of a request of so many texts."""
        return INTERACTIVE if texts <= _INTERACTIVE_TEXTS else BULK

    def seconds(self, lane: str) -> float:
        """The deadline of a lane."""
        settings = self.settings
        return settings.deadline if lane == INTERACTIVE else settings.bulk_deadline

    async def encode(
        self,
        model: ServedModel,
        values: Sequence,
        side: str,
        *,
        lane: str,
        deadline: float,
        tokens: bool = False,
        seconds: dict[str, float] | None = None,
    ) -> tuple[Job, list[Example]]:
        """Encodes texts or rows of token ids.

        Args:
            model: that encodes.
            values: texts, or lists of ids where `tokens` is true.
            side: "query" or "document".
            lane, deadline: see `Batcher.encode`.
            tokens: whether values are token ids.
            seconds: stage -> seconds, which this adds to.

        Returns:
            The job with [values, dim] full vectors, and the tokenized values.

        Raises:
            ApiError: 413 for too many tokens, 429 if there is too much to do, 504 after the
                deadline.
        """
        tower, start = model.tower(side), time.monotonic()
        limit = tower.processor.limit
        sizes = (len(each) if tokens else len(each) // 4 + 3 for each in values)
        about = sum(tower.shapes.length(min(size, limit)) for size in sizes)
        with self.batcher.admit(about, lane, deadline - start):
            if tokens:
                examples = model.given(values, side)
            elif sum(map(len, values)) <= _INLINE:
                examples = model.prepare(values, side)
            else:
                examples = await self.run(self.tokenize_pool, model.prepare, values, side)
            total = sum(example.size for example in examples)
            if total > MOST_TOKENS:
                raise ApiError(
                    413, f"input: {total:,} tokens; at most {MOST_TOKENS:,} fit into a request",
                    "too_many_tokens", param="input",
                )  # fmt: skip
            empty = next((i for i, each in enumerate(examples) if not each.size), None)
            if empty is not None:
                raise ApiError(
                    400, f"input: number {empty} has no token that the model knows", "no_tokens",
                    param="input",
                )  # fmt: skip
        tokenized = time.monotonic()
        job = await self.batcher.encode(tower, examples, lane=lane, deadline=deadline)
        stages = {
            "tokenize": (start, tokenized),
            "queue": (job.queued, job.started),
            "encode": (job.started, job.finished),
        }
        for stage, (began, ended) in stages.items():
            self.stage(stage, ended - began, seconds, end=ended)
        return job, examples

    def stage(
        self,
        name: str,
        taken: float,
        seconds: dict[str, float] | None = None,
        *,
        end: float | None = None,
    ) -> None:
        """Counts the seconds of a stage that ended now, or at a time of `time.monotonic`."""
        self.metrics.stage_seconds.labels(name).observe(taken)
        if self.tracing is not None:
            self.tracing.stage(name, taken, time.monotonic() if end is None else end)
        if seconds is not None:
            seconds[name] = round(seconds.get(name, 0.0) + taken, 6)

    @staticmethod
    async def run(pool: ThreadPoolExecutor, function: Callable, *arguments) -> Any:
        """Runs a function outside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)

    def close(self) -> None:
        """Ends the threads."""
        self.batcher.stop()
        pools = (self.search_pool, self.rerank_pool, self.tokenize_pool, self.store_pool)
        for pool in (*pools, self.load_pool):
            pool.shutdown(wait=False, cancel_futures=True)
        if self.users is not None:
            self.users.close()
        if self.tracing is not None:
            self.tracing.close()
