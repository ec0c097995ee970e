"""Processes that decode pictures and videos for training, next to the thread that makes batches."""

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from gemb.checks import UserError
from gemb.processors.processor import Example, TaskProcessor

DECODED = ("image", "video")  # modalities that take time to prepare
_PARTS = 2  # parts of a batch for each worker, so that none waits long for the slowest


class Workers:
    """Prepares values in several processes; the result is that of one process, in its order.

    The processes are new ones (never forked), started at the first batch that needs them. They end
    with this process, however it ends.

    Args:
        count: of processes; 0 to prepare in the calling thread.

    Raises:
        UserError: for a count below 0.
    """

    def __init__(self, count: int = 0):
        if count < 0:
            raise UserError(f"workers: expected 0 or more processes, got {count}")
        self._count = count
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None

    def prepare(
        self, processor: TaskProcessor, values: Sequence[Any], drawn: Sequence[float]
    ) -> list[Example]:
        """As `processor.prepare`, by the workers where values are pictures or videos.

        Raises:
            UserError: as of the processor; or if a worker was killed.
        """
        if not self._count or getattr(processor, "modality", "text") not in DECODED:
            return processor.prepare(values, drawn)
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = concurrent.futures.ProcessPoolExecutor(self._count, context, _begin)
        size = max(1, -(-len(values) // (_PARTS * self._count)))
        parts = [slice(start, start + size) for start in range(0, len(values), size)]
        try:
            waiting = [
                self._pool.submit(_prepare, processor, values[part], drawn[part]) for part in parts
            ]
            made = [example for future in waiting for example in future.result()]
        except BrokenProcessPool:
            raise UserError(
                "a process that decodes pictures has ended: not enough memory, or it was killed; "
                "bind fewer workers in pipeline.mixture"
            ) from None
        return [example._replace(value=value) for example, value in zip(made, values, strict=True)]


def _prepare(processor: TaskProcessor, values: Sequence[Any], drawn: Sequence[float]) -> list:
    """Examples without their values, which the caller has."""
    return [example._replace(value=None) for example in processor.prepare(values, drawn)]


def _begin() -> None:
    """Leaves Ctrl-C to the main process, and ends when that has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
