"""`gemb teach`: goes through the texts of a run's batches and fills the teacher's cache."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from gemb.checks import UserError
from gemb.runs.interruption import sole_run
from gemb.training.distillation.cache import RowCache

SHARD_ROWS = 2048  # a kill loses at most this many answers


class Lesson:
    """The questions that one model has not answered yet.

    Args:
        cache: where the answers are stored.
        questions: (query texts, document texts) -> ([n] uint64 keys, n questions).
        answer: questions -> [n, dim] floats.
    """

    def __init__(self, cache: RowCache, questions: Callable, answer: Callable):
        self.cache, self._questions, self._answer = cache, questions, answer
        self._waiting: dict[int, Any] = {}
        self._done: set[int] = set()

    @property
    def answered(self) -> int:
        """Rows made by this lesson."""
        return len(self._done)

    def take(self, queries: Sequence[str], documents: Sequence[str]) -> None:
        """Adds the questions that the cache cannot answer yet."""
        keys, questions = self._questions(queries, documents)
        for place in np.flatnonzero(self.cache.missing(keys)):
            key = int(keys[place])
            if key not in self._done:
                self._waiting.setdefault(key, questions[place])

    def work(self, least: int) -> None:
        """Answers waiting questions in shards of `least`; with 0, all that remain."""
        while self._waiting and len(self._waiting) >= least:
            keys = list(self._waiting)[: least or SHARD_ROWS]
            rows = self._answer([self._waiting[key] for key in keys])
            self.cache.add(np.array(keys, np.uint64), rows)
            for key in keys:
                del self._waiting[key]
            self._done.update(keys)


def teach(teacher, batches, steps: int, shard_rows: int = SHARD_ROWS) -> dict[Path, int]:
    """Fills a teacher's cache with the answers that a run's batches need; resumable.

    Args:
        teacher: `cached` or `scored`.
        batches: the run's `PairBatches` for a single host, which cover what all hosts read.
        steps: steps of the run.
        shard_rows: answers written at a time; a kill loses at most this many.

    Returns:
        Folder of each cache -> rows added.

    Raises:
        UserError: if the teacher has no cache, or another process or another teacher uses it.
    """
    lessons = getattr(teacher, "lessons", None)
    if lessons is None:
        raise UserError(
            "teacher: this teacher has no cache to fill; for a cached teacher give "
            "--gin_param='TEACHER = @teachers.cached()'"
        )
    with contextlib.ExitStack() as held:
        for folder in teacher.folders():  # before existing shards are read
            held.enter_context(sole_run(folder))
        lessons = lessons()

        def collect(queries, documents) -> dict:
            for lesson in lessons:
                lesson.take(queries, documents)
            return {}

        batches.annotate_with(collect, "")
        with tqdm(batches.plans(steps), desc="teach", unit="batch") as bar:
            for plan in bar:
                batches.build(plan)
                for lesson in lessons:
                    lesson.work(shard_rows)
                bar.set_postfix(new=sum(lesson.answered for lesson in lessons), refresh=False)
        for lesson in lessons:
            lesson.work(0)
    teacher.report_cuts()
    return {lesson.cache.folder: lesson.answered for lesson in lessons}
