"""Forms of pictures and videos with captions, and pictures changed at random for training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gemb.checks import UserError, needs
from gemb.data.forms import Texts
from gemb.data.preprocess.spans import Draw
from gemb.data.preprocess.texts import pick, texts_of
from gemb.processors.decoding import decode
from gemb.structs import Image, Video

_CAPTION, _CHANGES = 0, 2  # streams of random numbers
_DRAWS = 12  # numbers that a picture's changes read at most, besides those of RandAugment
_OPERATIONS = (
    "autocontrast", "equalize", "posterize", "solarize", "colour", "contrast", "brightness",
    "sharpness", "rotate", "shear_x", "shear_y", "translate_x", "translate_y",
)  # fmt: skip


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a picture, each of them a function of the seed and the record's place.

    Attributes:
        crop: (low, high) share of the area that is cut out, with a side ratio of 3/4 to 4/3; (1, 1)
            for the whole picture.
        flip: how often left and right are exchanged.
        colour: brightness, contrast and saturation change by a factor of up to 1 +- this.
        operations: of RandAugment, so many one after the other; 0 for none.
        magnitude: of RandAugment, 0 to 10.

    Reference: Szegedy et al., 2014, arXiv 1409.4842 (crops); Cubuk et al., RandAugment, 2019, arXiv
        1909.13719.
    """

    crop: tuple[float, float] = (0.5, 1.0)
    flip: float = 0.5
    colour: float = 0.0
    operations: int = 0
    magnitude: float = 5.0

    def __post_init__(self):
        low, high = self.crop
        if not 0 < low <= high <= 1:
            raise UserError(f"crop: expected 0 < low <= high <= 1, got {self.crop}")
        for name, most in (("flip", 1), ("colour", 1), ("magnitude", 10), ("operations", 13)):
            if not 0 <= getattr(self, name) <= most:
                raise UserError(f"{name}: expected 0 to {most}, got {getattr(self, name)}")

    @property
    def draws(self) -> int:
        """Random numbers that one picture needs."""
        return _DRAWS + 3 * self.operations

    def apply(self, picture, drawn: Sequence[float]):
        """Changes a Pillow image in mode RGB.

        Args:
            picture: the image.
            drawn: `draws` numbers in [0, 1).
        """
        pillow = _pillow()
        picture = self._cropped(picture, drawn[:4])
        if drawn[4] < self.flip:
            picture = pillow.ImageOps.mirror(picture)
        if self.colour:
            for name, number in zip(("Brightness", "Contrast", "Color"), drawn[5:8], strict=True):
                kind = getattr(pillow.ImageEnhance, name)
                picture = kind(picture).enhance(1 + self.colour * (2 * number - 1))
        for first in range(_DRAWS, _DRAWS + 3 * self.operations, 3):
            which, sign, _ = drawn[first : first + 3]
            name = _OPERATIONS[int(which * len(_OPERATIONS))]
            strength = self.magnitude / 10 * (1 if sign < 0.5 else -1)
            picture = _operation(name, picture, strength)
        return picture

    def _cropped(self, picture, drawn: Sequence[float]):
        if self.crop == (1, 1):
            return picture
        width, height = picture.size
        area = width * height * (self.crop[0] + drawn[0] * (self.crop[1] - self.crop[0]))
        ratio = math.exp((2 * drawn[1] - 1) * math.log(4 / 3))
        wide = min(width, max(1, round(math.sqrt(area * ratio))))
        high = min(height, max(1, round(math.sqrt(area / ratio))))
        left, top = int(drawn[2] * (width - wide + 1)), int(drawn[3] * (height - high + 1))
        return picture.crop((left, top, left + wide, top + high))


class AugmentedImage(Image):
    """A changed picture, which still counts as the one that it is made of.

    It is decoded and changed when its source is read, which a worker process may do.

    Args:
        original: the picture.
        augmentation: how it is changed.
        drawn: the random numbers of the change.
    """

    __slots__ = ("augmentation", "drawn", "original")

    def __init__(self, original: Image, augmentation: Augmentation, drawn: Sequence[float]):
        self.original, self.augmentation, self.drawn = original, augmentation, drawn

    @property
    def source(self):
        """The changed picture, a Pillow image."""
        return self.augmentation.apply(decode(self.original).picture, self.drawn)

    def __reduce__(self):
        return AugmentedImage, (self.original, self.augmentation, self.drawn)

    def content(self) -> bytes:
        """That of the original."""
        return self.original.content()


@dataclass(frozen=True)
class Captioned:
    """Captions as queries, their pictures as documents: {"captions", "image"}.

    Of several captions one is drawn each time.

    Attributes:
        augmentation: random changes of the pictures; None for none.
        in_batch: whether pictures of other pairs compete.
    """

    augmentation: Augmentation | None = None
    in_batch: bool = True
    negatives: int = field(default=0, init=False)
    columns = ("captions", "image")

    def admit(self, record: dict) -> bool:
        """Whether a record has a caption and a picture; what the picture holds is not looked at."""
        if not isinstance(record["image"], Image):
            kind = type(record["image"]).__name__
            raise ValueError(f'the field "image" must be a picture, got {kind}')
        return bool(texts_of(record, "captions"))

    def make(self, records: Sequence[dict], draw: Draw) -> Texts:
        """The captions and pictures of records."""
        drawn = draw(_CAPTION, 1)[:, 0]
        captions = [pick(r["captions"], u) for r, u in zip(records, drawn, strict=True)]
        images = [record["image"] for record in records]
        if self.augmentation:
            numbers = draw(_CHANGES, self.augmentation.draws)
            images = [
                AugmentedImage(image, self.augmentation, row)
                for image, row in zip(images, numbers.tolist(), strict=True)
            ]
        return Texts(captions, images, [[] for _ in records])


@dataclass(frozen=True)
class CaptionedVideos:
    """Captions as queries, their videos as documents: {"captions", "video"}.

    Of several captions one is drawn each time.

    Attributes:
        in_batch: whether videos of other pairs compete.
    """

    in_batch: bool = True
    negatives: int = field(default=0, init=False)
    columns = ("captions", "video")

    def admit(self, record: dict) -> bool:
        """Whether a record has a caption and a video; what the video holds is not looked at."""
        if not isinstance(record["video"], Video):
            kind = type(record["video"]).__name__
            raise ValueError(f'the field "video" must be a video, got {kind}')
        return bool(texts_of(record, "captions"))

    def make(self, records: Sequence[dict], draw: Draw) -> Texts:
        """The captions and videos of records."""
        drawn = draw(_CAPTION, 1)[:, 0]
        captions = [pick(r["captions"], u) for r, u in zip(records, drawn, strict=True)]
        return Texts(captions, [record["video"] for record in records], [[] for _ in records])


def _pillow():
    with needs("changing pictures", extra="images"):
        import PIL.Image
        import PIL.ImageEnhance
        import PIL.ImageOps
    return PIL


def _operation(name: str, picture, strength: float):
    """One operation of RandAugment, with strength from -1 to 1."""
    pillow = _pillow()
    enhance, operations = pillow.ImageEnhance, pillow.ImageOps
    size, share = abs(strength), strength
    if name == "autocontrast":
        return operations.autocontrast(picture)
    if name == "equalize":
        return operations.equalize(picture)
    if name == "posterize":
        return operations.posterize(picture, 8 - round(4 * size))
    if name == "solarize":
        return operations.solarize(picture, 256 - round(255 * size))
    kinds = {
        "colour": enhance.Color,
        "contrast": enhance.Contrast,
        "brightness": enhance.Brightness,
        "sharpness": enhance.Sharpness,
    }
    if name in kinds:
        return kinds[name](picture).enhance(1 + 0.9 * share)
    fill = tuple(np.asarray(picture.resize((1, 1), pillow.Image.Resampling.BOX))[0, 0].tolist())
    if name == "rotate":
        return picture.rotate(30 * share, pillow.Image.Resampling.BILINEAR, fillcolor=fill)
    width, height = picture.size
    moved = {
        "shear_x": (1, 0.3 * share, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, 0.3 * share, 1, 0),
        "translate_x": (1, 0, 0.3 * share * width, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, 0.3 * share * height),
    }[name]
    return picture.transform(
        picture.size,
        pillow.Image.Transform.AFFINE,
        moved,
        pillow.Image.Resampling.BILINEAR,
        fillcolor=fill,
    )
