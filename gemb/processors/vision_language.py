"""Texts and pictures for one encoder: each value goes to the processor of its kind."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from gemb.checks import UserError, check
from gemb.processors.image import ImageProcessor
from gemb.processors.patches import PatchProcessor
from gemb.processors.processor import Example
from gemb.processors.text import TaskTexts, TextProcessor
from gemb.structs import Image, Images, Inputs, Patches, Tokens


@dataclasses.dataclass(frozen=True)
class VisionLanguageProcessor:
    """The processor of an encoder that reads texts and pictures.

    Attributes:
        text: of texts.
        image: of pictures.
    """

    text: TextProcessor
    image: ImageProcessor | PatchProcessor

    modality: ClassVar[str] = "vision_language"

    @property
    def max_length(self) -> int:
        """Tokens that a text is cut to."""
        return self.text.max_length

    @property
    def limit(self) -> int:
        """Positions of the longest row."""
        return max(self.text.limit, self.image.limit)

    @property
    def prompts(self):
        """Those of texts."""
        return self.text.prompts

    def check_encoder(self, encoder) -> None:
        """Checks that the encoder's parts can read the Inputs.

        Raises:
            ValueError: naming what does not fit.
        """
        check(
            encoder.modality == self.modality,
            f"processor: it makes inputs of texts and pictures, the encoder reads "
            f"{encoder.modality!r}",
        )
        self.text.check_encoder(encoder.text)
        self.image.check_encoder(encoder.image)

    def identity(self) -> tuple[str, dict]:
        """Both definitions, and the settings of both."""
        (tokenizer, own), (decoder, seen) = self.text.identity(), self.image.identity()
        return f"{tokenizer}\n{decoder}", own | seen

    def prompt(self, side: str) -> str:
        """What is put in front of the texts of a side."""
        return self.text.prompt(side)

    def with_limit(self, limit: int) -> "VisionLanguageProcessor":
        """The processor that cuts texts to another number of tokens."""
        return dataclasses.replace(self, text=self.text.with_limit(limit))

    def with_prompts(self, prompts: Mapping[str, str]) -> "VisionLanguageProcessor":
        """The processor with other prompts before texts."""
        made = self.text.with_prompts(prompts)
        return self if made is self.text else dataclasses.replace(self, text=made)

    def count_cut(self, examples: Sequence[Example], side: str) -> int:
        """How many of the texts were cut."""
        return self.text.count_cut([e for e in examples if not _is_picture(e.value)], side)

    def save(self, folder: Path, base: Path | None = None) -> None:
        """Writes the files of both."""
        self.text.save(folder, base)
        self.image.save(folder)

    def prepare(self, values: Sequence, side: str) -> list[Example]:
        """Prepares texts and pictures.

        Raises:
            UserError: naming the value that cannot be read.
        """
        return _prepared(
            values, lambda texts, _: self.text.prepare(texts, side), self.image, range(len(values))
        )

    def groups(self, examples: Sequence[Example]) -> list[list[int]]:
        """The places of texts, and those of pictures: what may share a batch."""
        kinds: tuple[list[int], list[int]] = ([], [])
        for place, example in enumerate(examples):
            kinds[_is_picture(example.value)].append(place)
        return [places for places in kinds if places]

    def bucket(self, size: int) -> int:
        """Of texts; pictures have one size."""
        return self.text.bucket(min(size, self.text.limit))

    def collate(
        self, examples: Sequence[Example | None], size: int, rows: int | None = None
    ) -> Tokens | Images | Patches:
        """Pads examples of one kind to arrays, see `gemb.processors.processor.Processor.collate`.

        Raises:
            UserError: for texts and pictures in one batch.
        """
        kinds = {_is_picture(example.value) for example in examples if example is not None}
        if len(kinds) > 1:
            raise UserError("a batch holds texts or pictures, not both on one side")
        if kinds == {True}:
            return self.image.collate(examples, self.image.limit, rows)
        return self.text.collate(examples, size, rows)

    def for_task(
        self, side: str, *, length: int, prompts: Sequence[str] | None
    ) -> "TaskTextsAndPictures":
        """The processor for one side of a task."""
        return TaskTextsAndPictures(
            self.text.for_task(side, length=length, prompts=prompts), self.image
        )

    def describe(self, inputs: Inputs, row: int) -> str:
        """The text of a row, or the size of its picture."""
        part = self.text if isinstance(inputs, Tokens) else self.image
        return part.describe(inputs, row)

    def explain(self, value: Image):
        """What the model sees of a picture, see `ImageProcessor.explain`."""
        return self.image.explain(value)


@dataclasses.dataclass(frozen=True)
class TaskTextsAndPictures:
    """The texts and pictures of one side of a training task.

    Attributes:
        text: the task's processor of texts.
        image: the processor of pictures.
    """

    text: TaskTexts
    image: ImageProcessor | PatchProcessor

    @property
    def limit(self) -> int:
        """Positions of the longest row."""
        return max(self.text.limit, self.image.limit)

    @property
    def prompts(self) -> tuple[str, ...]:
        """One of them is drawn for each text."""
        return self.text.prompts

    def prepare(self, values: Sequence, drawn: Sequence[float]) -> list[Example]:
        """Prepares values; `drawn` chooses the prompts of texts."""
        return _prepared(values, self.text.prepare, self.image, drawn)


def _is_picture(value) -> bool:
    return isinstance(value, Image)


def _prepared(values: Sequence, texts: Callable, image, drawn: Sequence) -> list[Example]:
    """Examples in the order of the values; an error names a value by its place.

    Args:
        values: texts and pictures.
        texts: (texts, their part of `drawn`) -> Examples.
        image: the processor of pictures.
        drawn: one for each value.
    """
    made: list = [None] * len(values)
    for place, value in enumerate(values):
        if not isinstance(value, str | Image):
            kind = type(value).__name__
            raise UserError(
                f"values[{place}]: the model reads texts and gemb.Image values, not {kind}"
            )
    for picture in (False, True):
        places = [place for place, value in enumerate(values) if _is_picture(value) == picture]
        own = [values[place] for place in places]
        if not own:
            continue
        try:
            found = image.prepare(own) if picture else texts(own, [drawn[p] for p in places])
        except UserError as error:
            raise UserError(_named(str(error), places)) from None
        for place, example in zip(places, found, strict=True):
            made[place] = example
    return made


def _named(message: str, places: Sequence[int]) -> str:
    """An error's text with the place of its value among all."""
    start, _, rest = message.partition("]")
    number = start.removeprefix("values[")
    named = start != message and number.isdigit()
    return f"values[{places[int(number)]}]{rest}" if named else message
