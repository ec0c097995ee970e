"""Rows of a plan to the numpy Batch: read, tokenize, corrupt, pad. Many rows at a time."""

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gemb.checks import UserError
from gemb.data.forms import Texts
from gemb.data.mixing import Task
from gemb.data.preprocess.spans import windows
from gemb.data.preprocess.texts import pick
from gemb.data.randomness import uniform
from gemb.data.selection import Selection
from gemb.processors.padding import pad, text_ids
from gemb.structs import Batch
from gemb.tokenizers.tokenizer import Tokenizer

_MASKS = ("[MASK]", "<mask>", "<extra_id_0>", "<|mask|>")
_PROMPTS, _WINDOW, _CUT, _VIEWS = 8, 9, 10, (16, 24)  # streams of random numbers
Annotate = Callable[[Sequence[str], Sequence[str]], dict[str, Any]]
_CHARACTERS = 16  # a text is cut to this many characters a token before it is tokenized


class Rows(list):
    """Token ids of one side of some pairs, a list a row; the texts they were made of beside them.

    Attributes:
        texts: one a row, without prompts.
        prompts: the leading tokens of each row that belong to its prompt.
    """

    def __init__(
        self,
        ids: Sequence[Sequence[int]],
        texts: Sequence[str],
        prompts: Sequence[int] | None = None,
    ):
        super().__init__(ids)
        self.texts = texts
        self.prompts = [0] * len(self) if prompts is None else prompts

    def part(self, rows: slice) -> "Rows":
        """Some of the rows."""
        return Rows(self[rows], self.texts[rows], self.prompts[rows])


class TaskRows:
    """Makes the rows of one task.

    Args:
        task: the task.
        selection: its records.
        tokenizer_json: the model's tokenizer.
        seed: of everything random in its rows.
        pool_prompts: whether the model's pooler sees the tokens of prompts; else they are counted.
    """

    def __init__(
        self,
        task: Task,
        selection: Selection,
        tokenizer_json: str,
        seed: int,
        pool_prompts: bool = True,
    ):
        self.task, self._selection, self._seed = task, selection, seed
        self.pool_prompts = pool_prompts
        self.negatives = task.form.negatives
        self.in_batch = task.form.in_batch if task.in_batch is None else task.in_batch
        self._tokenizers = [
            Tokenizer(tokenizer_json, n) for n in (task.query_length, task.document_length)
        ]
        self._prompt_lengths = [
            [0 if pool_prompts else Tokenizer(tokenizer_json, n, p).prompt_length for p in prompts]
            for n, prompts in (
                (task.query_length, task.query_prompts),
                (task.document_length, task.document_prompts),
            )
        ]
        self._corrupts = hasattr(task.form, "corrupt")
        if self._corrupts:
            self._prepare_corruption(tokenizer_json)
        else:
            self._check_prompts()

    def make(
        self, numbers: np.ndarray, places: np.ndarray
    ) -> tuple[Rows, Rows, list[Rows], list[float] | None]:
        """The rows of some records.

        Args:
            numbers: [rows] records.
            places: [rows] their places in the task's order, which decide what is drawn.

        Returns:
            Queries, documents, the negatives of each row, and scores or None.
        """

        def draw(stream: int, columns: int) -> np.ndarray:
            return uniform(self._seed, stream, places[:, None], np.arange(columns))

        texts = self.task.form.make([self._selection[int(number)] for number in numbers], draw)
        if self._corrupts:
            return (*self._views(texts, draw), [Rows([], []) for _ in numbers], None)
        drawn = draw(_PROMPTS, 2)
        query = self._encode(0, texts.query, drawn[:, 0])
        document = self._encode(1, texts.document, drawn[:, 1])
        counts = [len(negatives) for negatives in texts.negatives]
        flat = list(itertools.chain.from_iterable(texts.negatives))
        each = self._encode(1, flat, np.repeat(drawn[:, 1], counts))
        ends = np.cumsum([0, *counts]).tolist()
        negatives = [each.part(slice(a, b)) for a, b in itertools.pairwise(ends)]
        return query, document, negatives, texts.scores

    def _encode(self, side: int, texts: Sequence[str], drawn: np.ndarray) -> Rows:
        prompts = (self.task.query_prompts, self.task.document_prompts)[side]
        with_prompts = [pick(prompts, u) + text for text, u in zip(texts, drawn, strict=True)]
        ids = self._tokenizers[side].encode(with_prompts) if texts else []
        return Rows(ids, texts, [pick(self._prompt_lengths[side], u) for u in drawn])

    def _check_prompts(self) -> None:
        """Each must leave room for a text, else all texts would be the same."""
        for name, tokenizer in zip(("query", "document"), self._tokenizers, strict=True):
            length = getattr(self.task, f"{name}_length")
            for prompt in getattr(self.task, f"{name}_prompts"):
                if prompt and len(tokenizer.encode([prompt])[0]) >= length:
                    raise UserError(
                        f"{name}_length: {length} tokens leave no room for a text behind the "
                        f"prompt {prompt!r}"
                    )

    def _prepare_corruption(self, tokenizer_json: str) -> None:
        """What stands around a text's own ids, the sentinels, and room for them."""
        task, form = self.task, self.task.form
        # Wide enough for a stretch in the middle of a long text.
        self._wide = Tokenizer(tokenizer_json, 8 * max(task.query_length, task.document_length))
        self._around = _special_ids(self._wide)
        self._sentinels = ()
        if form.replace == "sentinel":
            self._sentinels = _sentinel_ids(tokenizer_json, form.sentinels)
        special = sum(map(len, self._around))
        self._prompt_ids = [
            [self._own_ids([prompt])[0] if prompt else [] for prompt in prompts]
            for prompts in (task.query_prompts, task.document_prompts)
        ]
        longest = [max(map(len, ids)) for ids in self._prompt_ids]
        lengths = (task.query_length, task.document_length)
        self._room = min(n - special - p for n, p in zip(lengths, longest, strict=True))
        if self._room < 2:
            raise UserError(
                f"query_length, document_length: {lengths} leave no room for a text beside prompts "
                "and special tokens"
            )

    def _views(self, texts: Texts, draw) -> tuple[Rows, Rows]:
        stretches = [
            _stretch(text, self._room * _CHARACTERS, place)
            for text, place in zip(texts.query, draw(_CUT, 1)[:, 0], strict=True)
        ]
        own = self._own_ids(stretches)
        lengths = np.array([len(ids) for ids in own])
        flat = np.fromiter(itertools.chain.from_iterable(own), np.int32, lengths.sum())
        inside, lengths = windows(lengths, self._room, draw(_WINDOW, 1)[:, 0])
        flat, views, drawn = flat[inside], [], draw(_PROMPTS, 2)
        for side, stream in enumerate(_VIEWS):
            ids, sizes = self.task.form.corrupt(
                flat, lengths, lambda i, n, stream=stream: draw(stream + i, n), self._sentinels
            )
            pieces = np.split(ids, np.cumsum(sizes)[:-1])
            before, after = self._around
            chosen = [pick(self._prompt_ids[side], u) for u in drawn[:, side]]
            rows = [
                [*before, *prompt, *piece.tolist(), *after]
                for prompt, piece in zip(chosen, pieces, strict=True)
            ]
            counts = [pick(self._prompt_lengths[side], u) for u in drawn[:, side]]
            views.append(Rows(rows, texts.query, counts))
        return views[0], views[1]

    def _own_ids(self, texts: Sequence[str]) -> list[list[int]]:
        before, after = map(len, self._around)
        return [ids[before : len(ids) - after] for ids in self._wide.encode(texts)]


def to_batch(
    query: Rows,
    document: Rows,
    negatives: Sequence[Rows],
    *,
    lengths: tuple[int, int],
    count: int,
    offset: int,
    fields: dict[str, np.ndarray] | None,
    annotate: Annotate | None = None,
    pool_prompts: bool = True,
) -> Batch:
    """Pads the rows of this host to a Batch: positives first, then the hard negatives.

    Args:
        query: one a row.
        document: one a row.
        negatives: of each row at most `count`; what is missing is masked.
        lengths: tokens that queries and documents are padded to.
        count: hard negatives a row.
        offset: index of this host's first document among all candidates.
        fields: further fields of the batch, [rows] each.
        annotate: (query texts, document texts) -> more fields; a document that is missing is "".
        pool_prompts: whether the model's pooler sees the tokens of prompts.
    """
    rows = len(query)
    ids, texts, prompts = list(document), list(document.texts), list(document.prompts)
    real = np.ones((rows, 1 + count), bool)
    for row, own in enumerate(negatives):
        real[row, 1 + len(own) :] = False
        ids += [*own, *[[]] * (count - len(own))]
        texts += [*own.texts, *[""] * (count - len(own))]
        prompts += [*own.prompts, *[0] * (count - len(own))]
    real = np.concatenate([real[:, 0], real[:, 1:].ravel()])
    if annotate is not None:
        fields = (fields or {}) | annotate(query.texts, texts)
    return Batch(
        query=pad(query, lengths[0], unpooled=0 if pool_prompts else query.prompts),
        document=pad(ids, lengths[1], unpooled=0 if pool_prompts else prompts),
        positive=np.arange(rows, dtype=np.int32) + offset,
        query_id=text_ids(query.texts),
        document_id=text_ids(texts),
        query_mask=np.ones(rows, bool),
        document_mask=real,
        fields=fields,
    )


def _special_ids(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and after a text."""
    empty, some = tokenizer.encode(["", "a"])
    before = 0
    while before < min(len(empty), len(some)) and empty[before] == some[before]:
        before += 1
    return empty[:before], empty[before:]


def _sentinel_ids(tokenizer_json: str, names: Sequence[str]) -> list[int]:
    added = {t["content"]: t["id"] for t in json.loads(tokenizer_json).get("added_tokens") or ()}
    names = list(names) or [name for name in _MASKS if name in added][:1]
    missing = [name for name in names if name not in added]
    if missing or not names:
        raise UserError(
            f"sentinels: {missing or 'no mask token'} is not among the tokenizer's special tokens "
            f"{sorted(added)[:8]}; bind `sentinels`, or replace = 'drop'"
        )
    return [added[name] for name in names]


def _stretch(text: str, most: int, place: float) -> str:
    """At most that many characters, from the start of a word where the text has words."""
    if len(text) <= most:
        return text
    start = int(place * (len(text) - most))
    space = text.find(" ", start, start + 32)
    return text[space + 1 if space >= 0 else start :][:most]
