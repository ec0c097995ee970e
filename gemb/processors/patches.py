"""Pictures of any size to Patches: the sides' ratio is kept (NaFlex, Gemma 4)."""

import dataclasses
import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gemb.checks import UserError, check
from gemb.processors.decoding import VERSION, WHITE, decode
from gemb.processors.image import HALF, METHODS, PREPROCESSOR, ImageProcessor
from gemb.processors.padding import bucket
from gemb.processors.processor import Example, Unprompted
from gemb.structs import Image, Patches


@dataclasses.dataclass(frozen=True)
class PatchProcessor(Unprompted):
    """The processor of pictures whose sides' ratio is kept.

    A picture is resized to the largest size of whole patches that has at most `most` of them; its
    sides are rounded up to patches.

    Attributes:
        patch: height and width of a patch.
        most: patches of a picture.
        method, scale, mean, std, background: as of `ImageProcessor`.

    Reference: Tschannen et al., "SigLIP 2", 2025, arXiv 2502.14786, as in transformers.
    """

    patch: int = 16
    most: int = 256
    method: str = "bilinear"
    scale: float = 1 / 255
    mean: tuple[float, float, float] = HALF[0]
    std: tuple[float, float, float] = HALF[1]
    background: tuple[int, int, int] = WHITE

    modality: ClassVar[str] = "image"

    def __post_init__(self):
        for name in ("patch", "most"):
            check(getattr(self, name) > 0, f"{name}: expected 1 or more, got {getattr(self, name)}")
        for name in ("mean", "std", "background"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _ = self._values  # checks the rest

    @property
    def limit(self) -> int:
        """The same as most."""
        return self.most

    @functools.cached_property
    def _values(self) -> ImageProcessor:
        shared = ("method", "scale", "mean", "std", "background")
        return ImageProcessor(**{name: getattr(self, name) for name in shared})

    def check_encoder(self, encoder) -> None:
        """Checks the patches against an encoder.

        Raises:
            ValueError: naming what does not fit.
        """
        fits = encoder.modality == self.modality and getattr(encoder, "flexible", False)
        check(fits, "processor: it makes patches of pictures, which the encoder does not read")
        check(
            encoder.patch == self.patch,
            f"patch: {self.patch} is not the encoder's {encoder.patch}",
        )

    def identity(self) -> tuple[str, dict]:
        """The version of the decoder, and the settings."""
        return VERSION, {"patch_processor": dataclasses.asdict(self)}

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of patches of a picture of (width, height) pixels.

        The scale is found by bisection between 1e-6 and 100, to 1e-5, as in transformers.
        """

        def patches(side: int, scale: float) -> int:
            return max(1, math.ceil(side * scale / self.patch))

        low, high = 1e-6, 100.0
        while high - low >= 1e-5:
            middle = (low + high) / 2
            fits = patches(size[1], middle) * patches(size[0], middle) <= self.most
            low, high = (middle, high) if fits else (low, middle)
        return patches(size[1], low), patches(size[0], low)

    def prepare(self, values: Sequence[Image], side: str | Sequence[float] = "") -> list[Example]:
        """Decodes, resizes and cuts pictures.

        Returns:
            Examples whose content is [rows, columns, patch * patch, 3] uint8.

        Raises:
            UserError: naming the picture that cannot be read.
        """
        made = []
        for place, value in enumerate(values):
            picture = decode(value, self.background, name=f"values[{place}]").picture
            pixels = np.asarray(self.framed(picture))
            rows, columns = (side // self.patch for side in pixels.shape[:2])
            cut = pixels.reshape(rows, self.patch, columns, self.patch, 3).swapaxes(1, 2)
            made.append(Example(value, cut.reshape(rows, columns, -1, 3), rows * columns))
        return made

    def framed(self, picture):
        """Resizes a Pillow image in mode RGB to whole patches."""
        rows, columns = self.grid(picture.size)
        size = (columns * self.patch, rows * self.patch)
        return picture if picture.size == size else picture.resize(size, METHODS.index(self.method))

    def order(self, rows: int, columns: int) -> np.ndarray:
        """[patches] int: in which order the patches of a grid stand, counted row by row."""
        return np.arange(rows * columns)

    def bucket(self, size: int) -> int:
        """See `gemb.processors.padding.bucket`."""
        return bucket(size, self.most)

    def collate(
        self, examples: Sequence[Example | None], size: int, rows: int | None = None
    ) -> Patches:
        """Scales and pads, see `gemb.processors.processor.Processor.collate`."""
        rows = len(examples) if rows is None else rows
        values = np.zeros((rows, size, self.patch * self.patch, 3), np.float32)
        row, column, frame = (np.zeros((rows, size), np.int32) for _ in range(3))
        mask = np.zeros((rows, size), bool)
        for number, example in enumerate(examples):
            if example is not None:
                count, (rows_of, columns) = example.size, example.content.shape[:2]
                order = self.order(rows_of, columns)
                cut = example.content.reshape(count, -1, 3)[order]
                self._values.scaled(cut, values[number, :count])
                row[number, :count], column[number, :count] = np.divmod(order, columns)
                mask[number, :count] = True
        return Patches(values.reshape(rows, size, -1), row, column, frame, mask)

    def describe(self, inputs: Patches, row: int) -> str:
        """The number of patches of a row."""
        return f"{int(inputs.mask[row].sum())} patches of {self.patch} x {self.patch}"

    def explain(self, value: Image) -> tuple[dict[str, str], Any]:
        """What the model sees of a picture, see `ImageProcessor.explain`."""
        picture, facts = decode(value, self.background)
        seen = self.framed(picture)
        rows, columns = self.grid(picture.size)
        facts["decoded"] = "{} x {}, red green blue".format(*picture.size)
        facts["resized"] = "to {} x {} by {}".format(*seen.size, self.method)
        facts["patches"] = f"{rows} rows of {columns}"
        return facts, seen

    def save(self, folder: Path, base: Path | None = None, *, cut: bool = False) -> None:
        """Writes preprocessor_config.json, which transformers reads too."""
        text = json.dumps(self.config(), indent=2) + "\n"
        (folder / PREPROCESSOR).write_text(text, encoding="utf-8")

    def config(self) -> dict:
        """The content of preprocessor_config.json."""
        return {
            "image_processor_type": "Siglip2ImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "resample": METHODS.index(self.method),
            "do_rescale": True,
            "rescale_factor": self.scale,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "patch_size": self.patch,
            "max_num_patches": self.most,
            "background": list(self.background),
        }


@dataclasses.dataclass(frozen=True)
class CellProcessor(PatchProcessor):
    """The processor of pictures whose sides are whole cells of merge x merge patches.

    A picture is resized to the largest size of whole cells that has at most `most` patches and
    nearly the ratio of its sides; they are rounded down. The patches of a cell are
    consecutive.

    Attributes:
        merge: patches on each side of a cell.
        patch, most, method, scale, mean, std, background: as of `PatchProcessor`.

    Reference: Gemma 4, as in transformers.
    """

    method: str = "bicubic"
    most: int = 280 * 9
    merge: int = 3

    def __post_init__(self):
        check(self.merge > 0, f"merge: expected 1 or more, got {self.merge}")
        whole = self.most % self.merge**2 == 0
        check(whole, f"most: {self.most} patches are not whole cells of {self.merge**2}")
        super().__post_init__()

    @property
    def cells(self) -> int:
        """The most cells of a picture."""
        return self.most // self.merge**2

    def check_encoder(self, encoder) -> None:
        """Checks the patches against an encoder.

        Raises:
            ValueError: naming what does not fit.
        """
        super().check_encoder(encoder)
        theirs = encoder.merge
        check(theirs == self.merge, f"merge: {self.merge} is not the encoder's {theirs}")
        side = self.cells * self.merge
        places = min(encoder.grid)
        check(side <= places, f"most: {side} patches on a side exceed the {places} positions")

    def identity(self) -> tuple[str, dict]:
        """The version of the decoder, and the settings."""
        return VERSION, {"cell_processor": dataclasses.asdict(self)}

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of patches of a picture of (width, height) pixels.

        Raises:
            UserError: for a picture of which nothing would be left.
        """
        width, height = size
        factor = math.sqrt(self.most * self.patch**2 / (width * height))
        side = self.merge * self.patch
        rows, columns = (math.floor(factor * length / side) for length in (height, width))
        if not rows and not columns:
            raise UserError(f"picture: {width} x {height} pixels do not fill one cell")
        if not rows:
            rows, columns = 1, min(width // height, self.cells)
        elif not columns:
            rows, columns = min(height // width, self.cells), 1
        return rows * self.merge, columns * self.merge

    def order(self, rows: int, columns: int) -> np.ndarray:
        """[patches] int: cell by cell, row by row in each."""
        places = np.arange(rows * columns)
        cells = places.reshape(rows // self.merge, self.merge, columns // self.merge, self.merge)
        return cells.swapaxes(1, 2).ravel()

    def bucket(self, size: int) -> int:
        """Whole cells, see `gemb.processors.padding.bucket`."""
        area = self.merge**2
        return bucket(-(-size // area), self.cells) * area

    def explain(self, value: Image) -> tuple[dict[str, str], Any]:
        """What the model sees of a picture, see `ImageProcessor.explain`."""
        facts, seen = super().explain(value)
        area = (self.merge * self.patch) ** 2
        facts["tokens"] = str(seen.size[0] * seen.size[1] // area)
        return facts, seen

    def config(self) -> dict:
        """The content of preprocessor_config.json.

        Raises:
            UserError: for values that the encoder of Gemma 4 does not scale so.
        """
        if (self.mean, self.std) != HALF:
            raise UserError(f"mean, std: Gemma 4 has {HALF[0]} and {HALF[1]}; others are not saved")
        return {
            "image_processor_type": "Gemma4ImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "resample": METHODS.index(self.method),
            "do_rescale": True,
            "rescale_factor": self.scale,
            "do_normalize": False,
            "image_mean": [0.0] * 3,
            "image_std": [1.0] * 3,
            "patch_size": self.patch,
            "pooling_kernel_size": self.merge,
            "max_soft_tokens": self.cells,
            "image_seq_length": self.cells,
            "background": list(self.background),
        }
