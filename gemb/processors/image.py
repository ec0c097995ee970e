"""Pictures to Images: decode, resize, crop, scale, normalise."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gemb.checks import UserError, check
from gemb.processors.decoding import VERSION, WHITE, decode
from gemb.processors.processor import Example, Unprompted
from gemb.structs import Image, Images

RESIZES = ("squash", "crop")
# Names of Pillow's filters, each antialiased but "nearest", by their number in its own enumeration.
METHODS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
PREPROCESSOR = "preprocessor_config.json"
_LONGEST = 32_768  # pixels of the longer side before a cut


@dataclasses.dataclass(frozen=True)
class ImageProcessor(Unprompted):
    """The processor of pictures of one size.

    A pixel becomes (value * scale - mean) / std; how a file becomes pixels is in
    `gemb.processors.decoding`.

    Attributes:
        height, width: of the picture that the encoder reads.
        resize: "squash" to height and width, whatever the sides' ratio; or "crop": the shortest
            side is resized to `shortest`, then the middle is cut out.
        shortest: the shortest side before the cut; 0 for the larger of height and width.
        method: one of METHODS.
        scale: what values 0 to 255 are multiplied by.
        mean, std: of red, green and blue, after scaling.
        background: the colour that transparent pictures are composed on.
    """

    height: int = 224
    width: int = 224
    resize: str = "squash"
    shortest: int = 0
    method: str = "bicubic"
    scale: float = 1 / 255
    mean: tuple[float, float, float] = HALF[0]
    std: tuple[float, float, float] = HALF[1]
    background: tuple[int, int, int] = WHITE

    modality: ClassVar[str] = "image"

    def __post_init__(self):
        for name in ("height", "width"):
            size = getattr(self, name)
            check(isinstance(size, int) and size > 0, f"{name}: expected 1 or more, got {size}")
        check(self.resize in RESIZES, f"resize: expected one of {RESIZES}, got {self.resize!r}")
        check(self.method in METHODS, f"method: expected one of {METHODS}, got {self.method!r}")
        if self.resize == "crop" and not self.shortest:
            object.__setattr__(self, "shortest", max(self.height, self.width))
        check(
            self.resize == "squash" or self.shortest >= max(self.height, self.width),
            f"shortest: {self.shortest} pixels are less than {self.height} x {self.width}",
        )
        for name in ("mean", "std", "background"):
            value = tuple(getattr(self, name))
            check(len(value) == 3, f"{name}: expected red, green and blue, got {value}")
            object.__setattr__(self, name, value)
        check(min(self.std) > 0, f"std: expected numbers above 0, got {self.std}")

    @property
    def limit(self) -> int:
        """Positions of a picture: squares of 32 x 32 pixels, by which batches are sized."""
        return max(1, self.height * self.width // 1024)

    def check_encoder(self, encoder) -> None:
        """Checks the sizes against an encoder.

        Raises:
            ValueError: naming what does not fit.
        """
        check(
            encoder.modality == self.modality,
            f"processor: it makes inputs of pictures, the encoder reads {encoder.modality!r}",
        )
        flexible = getattr(encoder, "flexible", False)
        check(not flexible, "processor: it makes pictures of one size, the encoder reads patches")
        size = getattr(encoder, "size", None)
        check(
            size is None or tuple(size) == (self.height, self.width),
            f"processor: it makes pictures of {self.height} x {self.width} pixels, the encoder "
            f"reads {size}",
        )

    def identity(self) -> tuple[str, dict]:
        """The version of the decoder, and the settings."""
        return VERSION, {"image_processor": dataclasses.asdict(self)}

    def prepare(self, values: Sequence[Image], side: str | Sequence[float] = "") -> list[Example]:
        """Decodes and resizes pictures.

        Returns:
            Examples whose content is [height, width, 3] uint8.

        Raises:
            UserError: naming the picture that cannot be read.
        """
        return [
            Example(value, self.pixels(value, name=f"values[{place}]"), self.limit)
            for place, value in enumerate(values)
        ]

    def pixels(self, value: Image, *, name: str = "picture") -> np.ndarray:
        """The picture that the encoder sees, before values are scaled: [height, width, 3] uint8."""
        picture = decode(value, self.background, name=name).picture
        return np.asarray(self.framed(picture))

    def framed(self, picture):
        """Resizes and cuts a Pillow image in mode RGB to height and width."""
        method = METHODS.index(self.method)
        if self.resize == "squash":
            size = (self.width, self.height)
            return picture if picture.size == size else picture.resize(size, method)
        wide, high = self.resized(picture.size)
        picture = picture if picture.size == (wide, high) else picture.resize((wide, high), method)
        left, top = (wide - self.width) // 2, (high - self.height) // 2
        return picture.crop((left, top, left + self.width, top + self.height))

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) to which a picture of a (width, height) is resized before the cut."""
        if self.resize == "squash":
            return self.width, self.height
        short, long = min(size), int(self.shortest * max(size) / min(size))
        if long > _LONGEST:
            raise UserError(
                f"picture: {size[0]} x {size[1]} pixels are too long and thin for a cut of "
                f"{self.width} x {self.height}"
            )
        return (self.shortest, long) if size[0] == short else (long, self.shortest)

    def bucket(self, size: int) -> int:
        """The same for every picture."""
        return self.limit

    def collate(
        self, examples: Sequence[Example | None], size: int = 0, rows: int | None = None
    ) -> Images:
        """Scales and normalises; see `gemb.processors.processor.Processor.collate`."""
        rows = len(examples) if rows is None else rows
        pixels = np.zeros((rows, self.height, self.width, 3), np.float32)
        mask = np.zeros(rows, bool)
        for row, example in enumerate(examples):
            if example is not None:
                self.scaled(example.content, pixels[row])
                mask[row] = True
        return Images(pixels, mask)

    def scaled(self, pixels: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """[..., 3] uint8 -> [..., 3] float32 that the encoder reads."""
        out = np.empty(pixels.shape, np.float32) if out is None else out
        for channel, table in enumerate(self._tables):
            out[..., channel] = table[pixels[..., channel]]
        return out

    @functools.cached_property
    def _tables(self) -> np.ndarray:
        """[3, 256] float32: each value of each colour, rounded as transformers does."""
        values = (np.arange(256, dtype=np.float64) * self.scale).astype(np.float32)
        mean, std = (np.array(part, np.float32)[:, None] for part in (self.mean, self.std))
        return (values - mean) / std

    def describe(self, inputs: Images, row: int) -> str:
        """The size of a row and the range of its values."""
        pixels = inputs.pixels[row]
        shape = " x ".join(map(str, pixels.shape[:2]))
        return f"picture of {shape}, values {pixels.min():.2f} to {pixels.max():.2f}"

    def explain(self, value: Image) -> tuple[dict[str, str], Any]:
        """What the model sees of a picture.

        Returns:
            (facts, by name; the picture as a Pillow image, before values are scaled).

        Raises:
            UserError: if it cannot be read.
        """
        picture, facts = decode(value, self.background)
        seen = self.framed(picture)
        wide, high = self.resized(picture.size)
        facts["decoded"] = "{} x {}, red green blue".format(*picture.size)
        facts["resized"] = f"to {wide} x {high} by {self.method}"
        cut = f"{self.width} x {self.height} from the middle"
        facts["cropped"] = cut if (wide, high) != seen.size else "no"
        pixels = np.asarray(seen)
        ends = zip(pixels.min((0, 1)).tolist(), pixels.max((0, 1)).tolist(), strict=True)
        facts["pixels"] = ", ".join(f"{low} to {high}" for low, high in ends)
        scaled = self.scaled(pixels)
        ends = zip(scaled.min((0, 1)).tolist(), scaled.max((0, 1)).tolist(), strict=True)
        facts["values"] = ", ".join(f"{low:.3f} to {high:.3f}" for low, high in ends)
        return facts, seen

    def save(self, folder: Path, base: Path | None = None, *, cut: bool = False) -> None:
        """Writes preprocessor_config.json, which transformers reads too."""
        text = json.dumps(self.config(), indent=2) + "\n"
        (folder / PREPROCESSOR).write_text(text, encoding="utf-8")

    def config(self) -> dict:
        """The content of preprocessor_config.json."""
        crop = self.resize == "crop"
        sides = {"height": self.height, "width": self.width}
        return {
            "image_processor_type": "CLIPImageProcessor" if crop else "SiglipImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": self.shortest} if crop else sides,
            "resample": METHODS.index(self.method),
            "do_center_crop": crop,
            **({"crop_size": sides} if crop else {}),
            "do_rescale": True,
            "rescale_factor": self.scale,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "background": list(self.background),
        }
