"""Two corrupted views of a text, for forms that change token ids (span corruption)."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from gemb.checks import UserError
from gemb.data.mixing import Task
from gemb.data.preprocess.spans import windows
from gemb.data.preprocess.texts import pick
from gemb.processors.processor import Example
from gemb.processors.text import TaskTexts
from gemb.structs import SIDES

_MASKS = ("[MASK]", "<mask>", "<extra_id_0>", "<|mask|>")
_PROMPTS, _WINDOW, _CUT, _VIEWS = 8, 9, 10, (16, 24)  # streams of random numbers
_CHARACTERS = 16  # a text is cut to this many characters per token before it is tokenized


class Corruption:
    """Makes both sides of the pairs of one task from one text each.

    Args:
        task: the task; its form has `corrupt`.
        sides: the processors of its query and document.

    Raises:
        UserError: if both sides do not have one tokenizer, the tokenizer has no sentinel, or the
            lengths leave no room for a text.
    """

    def __init__(self, task: Task, sides: Sequence[TaskTexts]):
        self._form, self._sides = task.form, sides
        first, second = (side.processor for side in sides)
        if first.identity()[0] != second.identity()[0]:
            raise UserError("form: span corruption needs one tokenizer for queries and documents")
        lengths = tuple(side.limit for side in sides)
        # Wide enough for a stretch in the middle of a long text.
        self._wide = first.with_limit(8 * max(lengths)).tokenizer()
        self._around = self._wide.around
        self._sentinels = ()
        if task.form.replace == "sentinel":
            self._sentinels = _sentinel_ids(self._wide.added, task.form.sentinels)
        special = sum(map(len, self._around))
        self._prompt_ids = [
            [self._own_ids([prompt])[0] if prompt else [] for prompt in side.prompts]
            for side in sides
        ]
        longest = [max(map(len, ids)) for ids in self._prompt_ids]
        self._room = min(n - special - p for n, p in zip(lengths, longest, strict=True))
        if self._room < 2:
            raise UserError(
                f"query_length, document_length: {lengths} leave no room for a text with prompts "
                "and special tokens"
            )

    def views(self, texts: Sequence[str], draw: Callable) -> tuple[list[Example], list[Example]]:
        """The corrupted queries and documents of some texts.

        Args:
            texts: one per pair.
            draw: (stream, columns) -> [texts, columns] uniform numbers.
        """
        stretches = [
            _stretch(text, self._room * _CHARACTERS, place)
            for text, place in zip(texts, draw(_CUT, 1)[:, 0], strict=True)
        ]
        own = self._own_ids(stretches)
        lengths = np.array([len(ids) for ids in own])
        flat = np.fromiter(itertools.chain.from_iterable(own), np.int32, lengths.sum())
        inside, lengths = windows(lengths, self._room, draw(_WINDOW, 1)[:, 0])
        flat, drawn = flat[inside], draw(_PROMPTS, 2)
        before, after = self._around
        made = []
        for number in range(len(SIDES)):
            pieces = self._pieces(flat, lengths, draw, _VIEWS[number])
            chosen = [pick(self._prompt_ids[number], u) for u in drawn[:, number]]
            hidden = [pick(self._sides[number].prompt_lengths, u) for u in drawn[:, number]]
            rows = [
                [*before, *prompt, *piece, *after]
                for prompt, piece in zip(chosen, pieces, strict=True)
            ]
            made.append(
                [
                    Example(text, row, len(row), unpooled)
                    for text, row, unpooled in zip(texts, rows, hidden, strict=True)
                ]
            )
        return made[0], made[1]

    def _pieces(self, flat: np.ndarray, lengths: np.ndarray, draw: Callable, stream: int) -> list:
        """The corrupted ids of each text."""
        ids, sizes = self._form.corrupt(
            flat, lengths, lambda i, n: draw(stream + i, n), self._sentinels
        )
        return [piece.tolist() for piece in np.split(ids, np.cumsum(sizes)[:-1])]

    def _own_ids(self, texts: Sequence[str]) -> list[list[int]]:
        before, after = map(len, self._around)
        return [ids[before : len(ids) - after] for ids in self._wide.encode(texts)]


def _sentinel_ids(added: dict[str, int], names: Sequence[str]) -> list[int]:
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
