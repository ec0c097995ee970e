"""Rows of a plan to the numpy Batch: read, prepare, pad. Many rows at a time."""

import itertools
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.data.corruption import Corruption
from gemb.data.mixing import Task
from gemb.data.randomness import uniform
from gemb.data.selection import Selection
from gemb.data.workers import Workers
from gemb.processors.processor import Example
from gemb.structs import SIDES, Batch, Image, Inputs, Processors, Video

_PROMPTS = 8  # a stream of random numbers
Annotate = Callable[[Sequence[Any], Sequence[Any]], dict[str, Any]]
Collate = Callable[[Sequence[Example | None], int], Inputs]


class Row(NamedTuple):
    """One pair, prepared.

    Attributes:
        query, document: the pair.
        negatives: its hard negatives.
        score: its grade; 1 where the form gives none.
    """

    query: Example
    document: Example
    negatives: list[Example]
    score: float


class TaskRows:
    """Makes the rows of one task.

    Args:
        task: the task.
        selection: its records.
        processors: the model's.
        seed: of everything random in its rows.
        workers: what prepares pictures and videos.

    Attributes:
        task: the same.
        limits: positions of the longest query and document.
        prompts: {side: the prompts that are put in front of its values}.
        negatives: hard negatives of a query, at most.
        in_batch: whether documents of other pairs compete.
    """

    def __init__(
        self,
        task: Task,
        selection: Selection,
        processors: Processors,
        seed: int,
        workers: Workers | None = None,
    ):
        self.task, self._selection, self._seed = task, selection, seed
        self._workers = workers or Workers()
        self.negatives = task.form.negatives
        self.in_batch = task.form.in_batch if task.in_batch is None else task.in_batch
        self._sides = [
            getattr(processors, side).for_task(
                side,
                length=getattr(task, f"{side}_length"),
                prompts=getattr(task, f"{side}_prompts"),
            )
            for side in SIDES
        ]
        self.limits = tuple(side.limit for side in self._sides)
        self.prompts = dict(zip(SIDES, (side.prompts for side in self._sides), strict=True))
        self._corruption = None
        if hasattr(task.form, "corrupt"):
            _check_texts(processors)
            self._corruption = Corruption(task, self._sides)

    def make(self, numbers: np.ndarray, places: np.ndarray) -> list[Row]:
        """The rows of some records.

        Args:
            numbers: [rows] records.
            places: [rows] their places in the task's order, which decide what is drawn.

        Raises:
            UserError: naming the record whose picture or video cannot be read.
        """

        def draw(stream: int, columns: int) -> np.ndarray:
            return uniform(self._seed, stream, places[:, None], np.arange(columns))

        made = self.task.form.make([self._selection[int(number)] for number in numbers], draw)
        if self._corruption:
            sides = zip(*self._corruption.views(made.query, draw), strict=True)
            return [Row(query, document, [], 1.0) for query, document in sides]
        drawn = draw(_PROMPTS, 2)
        query = self._prepared(0, made.query, drawn[:, 0], numbers)
        document = self._prepared(1, made.document, drawn[:, 1], numbers)
        counts = [len(negatives) for negatives in made.negatives]
        flat = list(itertools.chain.from_iterable(made.negatives))
        own = np.repeat(numbers, counts)
        each = self._prepared(1, flat, np.repeat(drawn[:, 1], counts), own)
        ends = np.cumsum([0, *counts]).tolist()
        negatives = [each[a:b] for a, b in itertools.pairwise(ends)]
        scores = [1.0] * len(query) if made.scores is None else made.scores
        return list(map(Row, query, document, negatives, scores))

    def _prepared(
        self, side: int, values: Sequence, drawn: np.ndarray, numbers: np.ndarray
    ) -> list[Example]:
        """Prepared values; of a value that cannot be read the error names the record."""
        processor = self._sides[side]
        try:
            return self._workers.prepare(processor, values, drawn)
        except UserError:
            for value, number, share in zip(values, numbers, drawn, strict=True):
                try:
                    processor.prepare([value], [share])
                except UserError as error:
                    text = re.sub(r"^(values\[0\]|picture): ", "", str(error))
                    place = self._selection.where(int(number))
                    raise UserError(f"{place}: {text}") from None
            raise


def to_batch(
    rows: Sequence[Row],
    *,
    collate: tuple[Collate, Collate],
    lengths: tuple[int, int],
    count: int,
    offset: int,
    fields: dict[str, np.ndarray] | None,
    annotate: Annotate | None = None,
) -> Batch:
    """Pads the rows of this host to a Batch: positives first, then the hard negatives.

    Args:
        rows: the pairs, each with at most `count` hard negatives; what is missing is masked.
        collate: what pads queries and documents, see `gemb.processors.processor.Processor`.
        lengths: positions that queries and documents are padded to.
        count: hard negatives of a row.
        offset: index of this host's first document among all candidates.
        fields: further fields of the batch, [rows] each.
        annotate: (queries, documents) -> more fields; a document that is missing is "".
    """
    queries, documents = [row.query for row in rows], [row.document for row in rows]
    real = np.ones((len(rows), 1 + count), bool)
    for number, row in enumerate(rows):
        missing = count - len(row.negatives)
        real[number, 1 + len(row.negatives) :] = False
        documents += [*row.negatives, *[None] * missing]
    real = np.concatenate([real[:, 0], real[:, 1:].ravel()])
    values = [example.value for example in queries]
    candidates = ["" if example is None else example.value for example in documents]
    if annotate is not None:
        fields = (fields or {}) | annotate(values, candidates)
    return Batch(
        query=collate[0](queries, lengths[0]),
        document=collate[1](documents, lengths[1]),
        positive=np.arange(len(rows), dtype=np.int32) + offset,
        query_id=value_ids(values),
        document_id=value_ids(candidates),
        query_mask=np.ones(len(rows), bool),
        document_mask=real,
        fields=fields,
    )


def value_ids(values: Sequence[Any]) -> np.ndarray:
    """A 31-bit hash of each raw value, by which losses recognise equal ones.

    Example:
        >>> a, b, c = value_ids(["x", "x", "y"])
        >>> bool(a == b), bool(a == c)
        (True, False)
    """
    return np.array([zlib.crc32(_content(value)) & 0x7FFFFFFF for value in values], np.int32)


def _content(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, Image | Video):
        return value.content()
    return value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()


def _check_texts(processors: Processors) -> None:
    kinds = {processor.modality for processor in processors}
    if kinds != {"text"}:
        raise UserError(f"form: span corruption is for texts; the model reads {sorted(kinds)}")
