"""What every processor is to the rest of gemb. The files of modalities implement it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from gemb.checks import UserError
from gemb.structs import Inputs


class Example(NamedTuple):
    """One value, prepared.

    Attributes:
        value: the raw value, without a prompt.
        content: what the processor made of it, such as token ids; only the processor looks into it.
        size: positions that it takes in a row of Inputs.
        unpooled: leading positions that the pooler does not see, such as those of a prompt.
    """

    value: Any
    content: Any
    size: int
    unpooled: int = 0


class TaskProcessor(Protocol):
    """A processor with the settings of one side of a training task.

    Attributes:
        limit: positions of the longest row.
        prompts: what is put in front of values; one of them is drawn for each value.
    """

    limit: int
    prompts: tuple[str, ...]

    def prepare(self, values: Sequence, drawn: Sequence[float]) -> list[Example]:
        """Prepares values; `drawn` in [0, 1) chooses what is random in each of them."""


class Processor(Protocol):
    """Turns raw values of one modality into Inputs: a frozen dataclass that compares by value.

    Attributes:
        modality: the same as of the encoder that it feeds.
        limit: positions of the longest row; longer values are cut.
    """

    modality: ClassVar[str]

    @property
    def limit(self) -> int: ...

    def check_encoder(self, encoder) -> None:
        """Checks that an encoder can read the Inputs.

        Args:
            encoder: an `EncoderSpec`.

        Raises:
            ValueError: naming what does not fit.
        """

    def identity(self) -> tuple[str, dict]:
        """(definition, settings): all of it that can change a vector, for fingerprints."""

    def prompt(self, side: str) -> str:
        """What is put in front of the values of a side; "" for modalities without prompts."""

    def with_limit(self, limit: int) -> "Processor":
        """The processor that cuts values to another number of positions."""

    def with_prompts(self, prompts: Mapping[str, str]) -> "Processor":
        """The processor with other prompts.

        Raises:
            UserError: for a modality without prompts.
        """

    def count_cut(self, examples: Sequence[Example], side: str) -> int:
        """How many of the values of prepared examples were cut."""

    def save(self, folder: Path, base: Path | None = None) -> None:
        """Writes the processor's files into a model folder.

        Args:
            folder: the model folder.
            base: the folder that the model was read from; None for a model from scratch.
        """

    def prepare(self, values: Sequence, side: str) -> list[Example]:
        """Prepares values for a model's "query" or "document" side.

        Raises:
            UserError: naming the value that cannot be read.
        """

    def bucket(self, size: int) -> int:
        """The number of positions that a batch is padded to if its largest example has `size`."""

    def collate(
        self, examples: Sequence[Example | None], size: int, rows: int | None = None
    ) -> Inputs:
        """Pads examples to arrays.

        Args:
            examples: none with more than `size` positions; None becomes a row without any.
            size: positions of each row.
            rows: rows; default one per example. Rows beyond the examples are empty.

        Returns:
            Inputs of numpy arrays, first axis `rows`.
        """

    def for_task(self, side: str, *, length: int, prompts: Sequence[str] | None) -> TaskProcessor:
        """The processor for one side of a training task.

        Args:
            side: "query" or "document".
            length: positions that values are cut to, where the modality has variable lengths.
            prompts: in place of the model's own prompt; None for the model's.

        Raises:
            UserError: for a setting that the modality does not have.
        """

    def describe(self, inputs: Inputs, row: int) -> str:
        """One row as a person reads it, for `gemb inspect-data`."""


class Unprompted:
    """What processors of modalities without prompts and lengths share."""

    prompts: ClassVar[tuple[str, ...]] = ("",)

    def prompt(self, side: str) -> str:
        """Nothing."""
        return ""

    def with_limit(self, limit: int) -> "Unprompted":
        """The same: values are not cut."""
        return self

    def with_prompts(self, prompts: Mapping[str, str]) -> "Unprompted":
        """The same, for prompts that are empty.

        Raises:
            UserError: for others.
        """
        if any(prompts.values()):
            raise UserError("prompts: only texts have prompts")
        return self

    def count_cut(self, examples: Sequence[Example], side: str) -> int:
        """None."""
        return 0

    def for_task(
        self, side: str, *, length: int = 0, prompts: Sequence[str] | None = None
    ) -> "Unprompted":
        """The same for every task; a length does not count.

        Raises:
            UserError: for prompts.
        """
        if prompts and any(prompts):
            raise UserError(f"{side}_prompts: only texts have prompts")
        return self
