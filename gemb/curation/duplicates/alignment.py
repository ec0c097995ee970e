"""How well two pictures match, once one is moved, scaled, mirrored or turned a little."""

import numpy as np
from scipy.signal import fftconvolve

from gemb.checks import needs
from gemb.processors.decoding import decode, pillow
from gemb.structs import Image

_SIDE = 64  # pixels of the longer side
_SCALES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6)  # of one picture's width to the other's
_ANGLES = (-5, 5)
_SMALLEST = 12  # pixels of a side that a part may have
_BLUR = 1.5  # pixels, so that a turn of a few degrees does not part edges
_FLAT = 4.0  # standard deviation of grey values below which a part says nothing


def outline(image: Image):
    """A picture as `alignment` reads it: a small grey Pillow image, its sides' ratio kept.

    Raises:
        UserError: for a picture that cannot be read.
    """
    grey = decode(image).picture.convert("L")
    factor = _SIDE / max(grey.size)
    size = [max(1, round(side * factor)) for side in grey.size]
    return grey.resize(size, pillow().Image.Resampling.LANCZOS)


def alignment(first, second) -> float:
    """The highest correlation of the grey values of one picture with a part of the other.

    Args:
        first, second: of `outline`.

    Returns:
        -1 to 1, of normalised cross-correlation over all places, a few scales, the mirror image and
        small turns; brightness and contrast do not count. Equal pictures have 1; otherwise -1 where
        one has hardly any contrast.

    Reference: Lewis, Fast normalized cross-correlation, 1995.
    """
    if first.size == second.size and first.tobytes() == second.tobytes():
        return 1.0
    best = -1.0
    for whole, part in ((first, second), (second, first)):
        field = _blurred(whole)
        for scale in _SCALES:
            width = round(scale * whole.width)
            size = (width, round(part.height * width / part.width))
            if (
                (scale < 1 and min(size) < _SMALLEST)
                or size[0] > whole.width
                or size[1] > whole.height + 3
            ):
                continue
            small = part.resize(size, pillow().Image.Resampling.BOX)
            shown = [small, small.transpose(pillow().Image.Transpose.FLIP_LEFT_RIGHT)]
            if scale >= 0.9:
                shown += [_turned(small, angle) for angle in _ANGLES]
            for one in shown:
                template = _blurred(one)[: field.shape[0]]
                best = max(best, correlation(field, template))
    return best


def _turned(picture, angle: float):
    """A turned picture without the corners that are then empty."""
    made = picture.rotate(angle, pillow().Image.Resampling.BILINEAR)
    left, top = (round(0.06 * side) for side in made.size)
    return made.crop((left, top, made.width - left, made.height - top))


def _blurred(picture) -> np.ndarray:
    with needs("pictures", extra="images"):
        from PIL.ImageFilter import GaussianBlur
    return np.asarray(picture.filter(GaussianBlur(_BLUR)), np.float64)


def correlation(field: np.ndarray, template: np.ndarray) -> float:
    """The highest normalised correlation of a template with the parts of a field."""
    count = template.size
    centred = template - template.mean()
    length = np.sqrt(np.square(centred).sum())
    if length < _FLAT * np.sqrt(count):
        return -1.0
    products = fftconvolve(field, centred[::-1, ::-1], mode="valid")
    ones = np.ones_like(template)
    sums = fftconvolve(field, ones, mode="valid")
    squares = fftconvolve(np.square(field), ones, mode="valid")
    spread = np.sqrt(np.maximum(squares - np.square(sums) / count, 0))
    sure = spread > _FLAT * np.sqrt(count)
    return float((products / np.where(sure, spread * length, np.inf)).max())
