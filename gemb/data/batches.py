"""The iterator of batches: plans to host-local numpy, ahead of time, with its position.

Made by `gemb.data.pipeline`, which checks what a config says and puts the parts together.
"""

import hashlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.data.assembly import Annotate, Row, TaskRows, to_batch
from gemb.data.forms import Labelled
from gemb.data.mixing import Plan, Schedule, Task, record_numbers, windowed
from gemb.data.selection import Selection
from gemb.processors.processor import Example
from gemb.structs import SIDES, Batch, Processors


class Part(NamedTuple):
    """One task of a mixture, ready to read."""

    name: str
    task: Task
    selection: Selection
    rows: TaskRows
    seed: int
    batch_size: int


class PairBatches:
    """An endless iterator of Batch over a mixture of tasks; made by `mixture` and `pairs`.

    Global batches are functions of the seed and their number; a host takes its rows of each. So a
    run resumes exactly, on any number of hosts that divides the batch.

    Attributes:
        description: what the data is: "folder", "fingerprint", and for each task its records, the
            bad ones among them, and its rate.
        parts: the tasks, with their records.
        processors: the model's.
        names: of the tasks.
        homogeneous: whether a batch holds one task.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        processors: Processors,
        schedule: Schedule,
        shard: tuple[int, int],
        homogeneous: bool,
        buckets: Sequence[int],
        prefetch: int,
        description: dict,
    ):
        self.description, self.names = description, [part.name for part in parts]
        self.parts, self.processors = parts, processors
        self._schedule, self._shard = schedule, shard
        self.homogeneous, self._buckets, self._prefetch = homogeneous, sorted(buckets), prefetch
        self._ahead: deque = deque()
        self._executor: ThreadPoolExecutor | None = None
        self._annotate: Annotate | None = None
        self._state = self._position()
        labelled = [isinstance(part.task.form, Labelled) for part in parts]
        if any(labelled) and not all(labelled):
            raise UserError("tasks: forms.Labelled does not mix with other forms")
        self._fields = {
            "temperature": any(part.task.temperature is not None for part in parts),
            "in_batch": not all(part.rows.in_batch for part in parts),
            "scores": any("score" in part.task.form.columns for part in parts),
            "labels": all(labelled),
        }

    @property
    def warnings(self) -> list[str]:
        """Where the model will embed values differently from how it is trained on them."""
        found = []
        for side, processor in zip(SIDES, self.processors, strict=True):
            own = processor.prompt(side)
            prompts = {prompt for part in self.parts for prompt in part.rows.prompts[side]}
            if own not in prompts:
                found.append(
                    f"the model embeds each {side} with the prompt {own!r}, but training reads "
                    f"it with {' or '.join(map(repr, sorted(prompts)))}: a {side} prompt of the "
                    "data replaces the model's; unbind it, or bind adapt.load.prompts to the same"
                )
        return found

    def __iter__(self):
        return self

    def __next__(self) -> Batch:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "gemb-data")
        while len(self._ahead) <= self._prefetch:
            plan = self._schedule.next()
            future = self._executor.submit(self.build, plan)
            self._ahead.append((future, self._position()))
        future, state = self._ahead.popleft()
        batch = future.result()
        self._state = state
        return batch

    def plans(self, count: int) -> list[Plan]:
        """The plans of the next batches, without making them."""
        here = self.get_state()
        self.set_state(here)
        plans = [self._schedule.next() for _ in range(count)]
        self.set_state(here)
        return plans

    def build(self, plan: Plan) -> Batch:
        """This host's part of the batch of a plan."""
        index, count = self._shard
        rows = len(plan.places) // count
        own = slice(index * rows, (index + 1) * rows)
        # Hosts must agree on a bucket, so each looks at the whole batch then.
        seen = slice(None) if self._buckets else own
        made = self._make(plan, seen)
        parts = [self.parts[plan.tasks[0]]] if self.homogeneous else self.parts
        limits = [max(sizes) for sizes in zip(*(part.rows.limits for part in parts), strict=True)]
        queries = [row.query for row in made]
        candidates = [one for row in made for one in (row.document, *row.negatives)]
        lengths = self._bucket(queries, limits[0]), self._bucket(candidates, limits[1])
        if self._buckets:
            made = made[own]
        hard = max(part.rows.negatives for part in parts)
        return to_batch(
            made,
            collate=tuple(processor.collate for processor in self.processors),
            lengths=lengths,
            count=hard,
            offset=index * rows * (1 + hard),
            fields=self._batch_fields(plan.tasks[own], [row.score for row in made]),
            annotate=self._annotate,
        )

    def annotate_with(self, annotate: Annotate, identity: str) -> None:
        """Adds fields to every batch, such as a teacher's; to be called before the first.

        Args:
            annotate: (this host's query texts, its document texts) -> {name: arrays, rows first},
                called in the thread that makes batches. A document that is missing is "".
            identity: of what decides the fields; a resume with another is refused.
        """
        self._annotate = annotate
        self.description = self.description | {
            "fingerprint": f"{self.description['fingerprint']}+{identity}"
        }
        self._state = self._position()

    def get_state(self) -> dict[str, int]:
        """The position, as integers that a checkpoint holds."""
        return dict(self._state)

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to a position: the next batch is the one that followed it.

        Raises:
            UserError: if the state was made with other data or another mixture.
        """
        if state["data"] != self._state["data"]:
            raise UserError(
                f"{self.description['folder'] or 'data'}: the data has changed since the "
                "checkpoint was written, or the teacher, so the run cannot go on exactly; start a "
                "new --workdir"
            )
        self._ahead.clear()
        self._schedule.number = state["batches"]
        self._schedule.taken = np.array([state[f"taken_{name}"] for name in self.names], np.int64)
        self._state = self._position()

    def _position(self) -> dict[str, int]:
        taken = zip(self.names, self._schedule.taken.tolist(), strict=True)
        content = hashlib.sha256(self.description["fingerprint"].encode()).digest()
        return {
            "batches": self._schedule.number,
            "data": int.from_bytes(content[:7], "big"),
        } | {f"taken_{name}": count for name, count in taken}

    def _make(self, plan: Plan, seen: slice) -> list[Row]:
        """Rows of the plan in its order, whichever tasks they are of."""
        tasks = plan.tasks[seen]
        made: list = [None] * len(tasks)
        for number in np.unique(tasks):
            part, here = self.parts[number], np.flatnonzero(tasks == number)
            places = self._places(part, plan)[seen][here]
            numbers = self._numbers(part, places)
            for place, row in zip(here, part.rows.make(numbers, places), strict=True):
                made[place] = row
        return made

    def _places(self, part: Part, plan: Plan) -> np.ndarray:
        if part.task.length_window == 1:
            return plan.places
        return windowed(
            plan.places,
            part.batch_size,
            part.task.length_window,
            part.seed,
            lambda places: part.selection.sizes(self._numbers(part, places)),
        )

    @staticmethod
    def _numbers(part: Part, places: np.ndarray) -> np.ndarray:
        size = len(part.selection)
        return record_numbers(places, size, part.seed, neighbours=part.task.neighbours)

    def _bucket(self, examples: Sequence[Example], limit: int) -> int:
        if not self._buckets:
            return limit
        longest = max((example.size for example in examples), default=0)
        return min((b for b in self._buckets if longest <= b < limit), default=limit)

    def _batch_fields(self, tasks: np.ndarray, scores: Sequence[float]) -> dict | None:
        """The same fields in every batch of a mixture, so that the step is compiled once."""
        temperatures = [np.nan if (t := p.task.temperature) is None else t for p in self.parts]
        values = {
            "temperature": np.array(temperatures, np.float32)[tasks],
            "in_batch": np.array([part.rows.in_batch for part in self.parts])[tasks],
            "scores": np.array(scores, np.float32),
            "labels": np.array(scores, np.int32),
        }
        return {name: values[name] for name, used in self._fields.items() if used} or None
