"""The thread that encodes, and the door to it from the event loop."""

import asyncio
import collections
import threading
import time
from collections.abc import Sequence

import numpy as np

from gemb.processors.processor import Example
from gemb.serving.batching.lanes import BULK, INTERACTIVE, LANES, Entry, Job, Lanes
from gemb.serving.http.errors import ApiError

_QUEUE_SECONDS = 4.0  # of interactive work that may wait
_SAFETY = 0.7  # share of a deadline that the estimated wait may take
_MEMORY = 0.1  # weight of the newest batch in the estimate of speed
_BULK_TIMES = 5.0  # of the smallest batch: a bulk batch while there is interactive traffic


class Batcher:
    """Encodes the texts of many requests together, on one thread.

    When the thread is idle a batch starts at once with what there is; while one runs, the next
    gathers, and that is the only wait. Nothing is computed whose deadline has passed or whose
    client has gone.

    Args:
        ahead: batches that are dispatched before the oldest is read: 1 on a CPU, 2 on an
            accelerator.
        observe: called after each batch with (batch, seconds).
        begin: called once on the thread, before its first batch.

    Attributes:
        lanes: what waits.
        expired: jobs whose deadline passed before they were computed.
    """

    def __init__(self, *, ahead: int = 1, observe=None, begin=None):
        self.lanes, self.expired = Lanes(), 0
        self._ahead, self._observe = ahead, observe or (lambda batch, seconds: None)
        self._begin = begin or (lambda: None)
        self._ready, self._stopped = threading.Condition(), False
        self._reserved = dict.fromkeys(LANES, 0)
        self._slowness, self._rate = 1.0, 10_000.0
        self._running = 0  # padded positions of the batches that run
        self._thread = threading.Thread(target=self._work, name="gemb-device", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the batch that runs; jobs that still wait fail."""
        with self._ready:
            self._stopped = True
            self._ready.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=30)
        while (batch := self.lanes.pop(float("-inf"))) is not None:
            self._fail(batch, ApiError(503, "the server is stopping", "stopping", retry_after=1))

    def expect(self, tower) -> None:
        """Takes the speeds that were measured when a tower was warmed."""
        self._rate = tower.rate
        most = _BULK_TIMES * min(tower.seconds.values(), default=0.0)
        short = [rows * length for (rows, length), taken in tower.seconds.items() if taken <= most]
        self.lanes.bulk_budget = max(short, default=tower.shapes.lengths[0])

    @property
    def rate(self) -> float:
        """Padded positions per second, as batches go now."""
        return self._rate / self._slowness

    def waiting(self, lane: str) -> int:
        """Padded positions that wait, those of requests that are being tokenized included."""
        return self.lanes.positions[lane] + self._reserved[lane]

    def admit(self, positions: int, lane: str, seconds: float) -> "Permit":
        """Admits work, by positions, before anything is done for it.

        Args:
            positions: about as many as the texts will have.
            lane: where they will wait.
            seconds: until the deadline.

        Raises:
            ApiError: 429, if the answer would come too late.
        """
        before = self.waiting(INTERACTIVE) / 0.9
        if lane == BULK:
            before = sum(map(self.waiting, LANES))
        before += self._running
        wait = before / self.rate
        late = wait + positions / self.rate > _SAFETY * seconds
        if before and (late or (lane == INTERACTIVE and wait > _QUEUE_SECONDS)):
            raise ApiError(
                429,
                f"{wait:.1f} s of work come first, which is too long for a deadline of "
                f"{seconds:g} s; try again later",
                "overloaded",
                retry_after=wait,
            )
        return Permit(self._reserved, lane, positions)

    async def encode(
        self, tower, examples: Sequence[Example], *, lane: str, deadline: float
    ) -> Job:
        """Encodes tokenized texts.

        Args:
            tower: from `gemb.serving.batching.towers`.
            examples: of its processor.
            lane: INTERACTIVE or BULK.
            deadline: on the clock of `time.monotonic`.

        Returns:
            The job, whose `vectors` are [examples, dim] float32.

        Raises:
            ApiError: 504 after the deadline, 500 for numbers that are not finite.
        """
        loop = asyncio.get_running_loop()
        answer = loop.create_future()

        def done(job: Job) -> None:
            loop.call_soon_threadsafe(_settle, answer, job)

        job = Job(lane, deadline, np.empty((len(examples), tower.dim), np.float32), done)
        job.left, job.queued = len(examples), time.monotonic()
        entries = [
            Entry(job, row, example, tower, tower.shapes.length(example.size))
            for row, example in enumerate(examples)
        ]
        with self._ready:
            if self._stopped:
                raise ApiError(503, "the server is stopping", "stopping", retry_after=1)
            self.lanes.push(entries, job.queued)
            self._ready.notify()
        try:
            async with asyncio.timeout(max(0.0, deadline - job.queued)):
                await answer
        except TimeoutError:
            self.expired += not job.started
            raise _too_late() from None
        finally:
            job.cancelled = True  # no effect on a job that is done
        if job.error is not None:
            raise job.error
        return job

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _work(self) -> None:
        self._begin()
        running = collections.deque()
        while True:
            batch = self._next(wait=not running)
            if batch is not None:
                self._running += batch.positions
                running.append((batch, time.monotonic(), self._dispatch(batch)))
            elif not running:
                return
            if batch is None or len(running) >= self._ahead:
                self._finish(*running.popleft())

    def _next(self, wait: bool):
        """The next batch; None where nothing waits, or the thread has to end."""
        with self._ready:
            while True:
                if self._stopped:
                    return None
                batch = self.lanes.pop(time.monotonic())
                if batch is not None or not wait:
                    return batch
                self._ready.wait()

    @staticmethod
    def _dispatch(batch):
        now = time.monotonic()
        for entries in batch.entries.values():
            for entry in entries:
                entry.job.started = entry.job.started or now
        try:
            return batch.tower.dispatch(batch.examples, batch.length, batch.rows)
        except Exception as error:  # of this batch alone: the thread goes on
            return error

    def _finish(self, batch, started: float, output) -> None:
        self._running -= batch.positions
        try:
            if isinstance(output, Exception):
                raise output
            vectors = batch.tower.read(output)
        except Exception as error:
            self._fail(batch, error)
            return
        now = time.monotonic()
        seconds = now - started
        expected = batch.tower.seconds.get((batch.rows, batch.length))
        if expected:
            self._slowness += _MEMORY * (min(seconds / expected, 20.0) - self._slowness)
        finite = np.isfinite(vectors).all(axis=1)
        for vector, sound, entries in zip(vectors, finite, batch.entries.values(), strict=False):
            for entry in entries:
                self._deliver(entry, vector, sound, now)
        self._observe(batch, seconds)

    @staticmethod
    def _deliver(entry: Entry, vector: np.ndarray, sound: bool, now: float) -> None:
        job = entry.job
        job.vectors[entry.row] = vector
        job.left -= 1
        if not sound and job.error is None:
            job.error = ApiError(
                500, "the model gave numbers that are not finite for a text", "not_finite"
            )
        if job.left == 0:
            job.finished = now
            job.done(job)

    @staticmethod
    def _fail(batch, error: Exception) -> None:
        jobs = {entry.job for entries in batch.entries.values() for entry in entries}
        for job in jobs:
            if job.error is None:
                job.error = error
                job.done(job)


class Permit:
    """Admitted work that is not in a lane yet; used as a context."""

    def __init__(self, reserved: dict[str, int], lane: str, positions: int):
        self._reserved, self._lane, self._positions = reserved, lane, positions

    def __enter__(self) -> "Permit":
        self._reserved[self._lane] += self._positions
        return self

    def __exit__(self, *_) -> None:
        self.release()

    def release(self) -> None:
        """The work waits in its lane now, or was given up."""
        self._reserved[self._lane] -= self._positions
        self._positions = 0


def _settle(answer: asyncio.Future, job: Job) -> None:
    if not answer.done():
        answer.set_result(job)


def _too_late() -> ApiError:
    return ApiError(
        504, "the deadline passed before the texts were encoded", "deadline_exceeded", retry_after=1
    )
