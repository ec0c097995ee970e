"""In place of a processor of pictures or videos where no encoder runs: nothing is decoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gemb.processors.image import ImageProcessor
from gemb.processors.processor import Example
from gemb.processors.video import VideoProcessor
from gemb.structs import Images

PICTURES = ("image", "vision_language")  # modalities whose processors read pictures


@dataclass(frozen=True)
class Undecoded:
    """Makes Inputs of one pixel per value.

    Attributes:
        processor: the model's.
    """

    processor: ImageProcessor | VideoProcessor

    limit: ClassVar[int] = 1
    prompts: ClassVar[tuple[str, ...]] = ("",)

    @property
    def modality(self) -> str:
        """That of the model's processor."""
        return self.processor.modality

    def prompt(self, side: str) -> str:
        """Nothing: pictures and videos have no prompts."""
        return ""

    def for_task(self, side: str, *, length: int, prompts: Sequence[str] | None) -> "Undecoded":
        """The same, once the model's own processor has checked the settings."""
        self.processor.for_task(side, length=length, prompts=prompts)
        return self

    def prepare(self, values: Sequence, drawn: Sequence[float]) -> list[Example]:
        """The values as they are."""
        return [Example(value, None, 1) for value in values]

    def bucket(self, size: int) -> int:
        """1."""
        return 1

    def collate(
        self, examples: Sequence[Example | None], size: int, rows: int | None = None
    ) -> Images:
        """Zeros, with the mask of the examples."""
        rows = len(examples) if rows is None else rows
        mask = np.zeros(rows, bool)
        mask[: len(examples)] = [example is not None for example in examples]
        return Images(np.zeros((rows, 1, 1, 3), np.float32), mask)

    def describe(self, inputs: Images, row: int) -> str:
        """That nothing was decoded."""
        return f"a value of {self.modality!r}, not decoded"
