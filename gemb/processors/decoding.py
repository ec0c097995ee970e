"""One way to decode a picture: any file to red, green and blue bytes, upright, without alpha.

What is done, in this order, always before any resize:
    first frame     of an animation or a file of several pages
    16 bits         grey becomes round(value / 257); colours keep their high byte
    palette         becomes colours, with their transparency
    CMYK, LAB, YCbCr, HSV, grey, 1 bit    become red, green, blue
    alpha           is composed on a background colour
    orientation     of EXIF (or of a TIFF) is applied
Colour profiles are not applied, as no published model's own code does.
"""

import functools
import io
import os
import warnings
from typing import Any, NamedTuple

import numpy as np

from gemb.checks import UserError, needs
from gemb.processors.png import check_whole
from gemb.structs import Image

WHITE = (255, 255, 255)
MAX_BYTES = 512 << 20  # of a file
MAX_PIXELS = 89_478_485  # a quarter of a gigabyte decoded; Pillow warns above it
# Formats without code in them: not EPS, which Pillow gives to Ghostscript.
FORMATS = (
    "JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO",
    "TGA", "PCX", "SGI", "QOI",
)  # fmt: skip
VERSION = "decode 1"  # raise it when a file would give other pixels
_FACTORS = {"1": 255, "L;2": 85, "L;4": 17}  # of the grey values of a PNG, by how it stores them
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF's number -> Pillow's Transpose


class Decoded(NamedTuple):
    """A decoded picture.

    Attributes:
        picture: a Pillow image in mode RGB.
        facts: what the file was: format, size, mode, frames, orientation, alpha.
    """

    picture: Any
    facts: dict[str, str]


def decode(
    image: Image, background: tuple[int, int, int] = WHITE, *, name: str = "picture"
) -> Decoded:
    """Decodes a picture.

    Args:
        image: what to decode.
        background: the colour that transparent pictures are composed on.
        name: what errors call it if it has no path.

    Raises:
        UserError: in one line, for anything that is not a whole picture of a known format and of
            at most MAX_PIXELS pixels, or in which the meaning of values is not stated.
    """
    library = pillow()
    if not isinstance(image, Image):
        raise UserError(f"{name}: expected gemb.Image(...), got {type(image).__name__}")
    source = image.source
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else name
    name = os.fsdecode(name)
    if isinstance(source, np.ndarray):
        opened, about = _of_array(source, name), {"source": f"array {source.dtype}"}
    elif isinstance(source, library.Image.Image):
        opened, about = source, {"source": "Pillow image"}
    elif isinstance(source, str | os.PathLike | bytes | bytearray | memoryview):
        content = content_of(source, name)
        opened, about = open_picture(content, name), {"source": f"file of {len(content):,} bytes"}
    else:
        raise UserError(
            f"{name}: expected a path, bytes, a Pillow image or an array, got "
            f"{type(source).__name__}"
        )
    check_pixels(opened.size, name)
    try:
        if about["source"].startswith("file"):
            check_whole(content)
        return _upright(opened, background, about)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except MemoryError:
        raise UserError(f"{name}: not enough memory to decode it") from None
    except Exception as error:  # a hostile file may raise anything in a decoder
        raise UserError(f"{name}: cannot be decoded ({_line(error)})") from None


@functools.cache
def pillow():
    """The library that decodes and resizes.

    Raises:
        MissingExtra: if it is not installed.
    """
    with needs("pictures", extra="images"):
        import PIL.Image
    # larger pictures are refused with one line
    warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning)
    PIL.Image.init()
    return PIL


def check_pixels(size: tuple[int, int], name: str) -> None:
    """Refuses pictures that are too large to decode, or empty.

    Raises:
        UserError: naming the limit.
    """
    width, height = size
    if not (width and height):
        raise UserError(f"{name}: an empty picture of {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{name}: {width} x {height} pixels exceed the limit of {MAX_PIXELS:,}; make it smaller"
        )


def content_of(source, name: str) -> bytes:
    """The content of a path or of bytes; a file is closed again, however many there are.

    Raises:
        UserError: if it cannot be read, is empty or larger than MAX_BYTES.
    """
    if not isinstance(source, str | os.PathLike):
        content = bytes(source)
    else:
        try:
            if not os.path.isfile(source):
                kind = "not a file" if os.path.exists(source) else "no such file"
                raise UserError(f"{name}: {kind}")
            if os.path.getsize(source) > MAX_BYTES:
                raise UserError(f"{name}: larger than the limit of {MAX_BYTES:,} bytes")
            with open(source, "rb") as file:
                content = file.read()
        except (OSError, ValueError) as error:
            raise UserError(f"{name}: cannot be read ({_line(error)})") from None
    if not content:
        raise UserError(f"{name}: an empty file")
    if len(content) > MAX_BYTES:
        raise UserError(f"{name}: larger than the limit of {MAX_BYTES:,} bytes")
    return content


def open_picture(content: bytes, name: str):
    """Opens a file of one of FORMATS with Pillow; nothing is decoded yet.

    Raises:
        UserError: for anything else.
    """
    library = pillow()
    known = [form for form in FORMATS if form in library.Image.OPEN]
    try:
        return library.Image.open(io.BytesIO(content), formats=known)
    except library.Image.DecompressionBombError:
        raise UserError(f"{name}: more pixels than the limit of {MAX_PIXELS:,}") from None
    except library.UnidentifiedImageError:
        raise UserError(
            f"{name}: not a picture that gemb reads; it reads {', '.join(known)}"
        ) from None
    except Exception as error:  # a hostile file may raise anything in a decoder
        raise UserError(f"{name}: cannot be decoded ({_line(error)})") from None


def _of_array(values: np.ndarray, name: str):
    """Colours are the last axis, whatever the sizes: nothing is guessed."""
    library = pillow()
    channels = 1 if values.ndim == 2 else values.shape[-1]
    if values.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise UserError(
            f"{name}: expected an array [height, width] or [height, width, 1, 3 or 4], got shape "
            f"{values.shape}"
        )
    if values.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{name}: expected values of uint8 or uint16, got {values.dtype}")
    if 0 in values.shape:
        raise UserError(f"{name}: an empty picture of shape {values.shape}")
    if values.dtype == np.uint16:
        values = _eight_bits(values)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    values = values.reshape(values.shape[:2]) if channels == 1 else values
    return library.Image.fromarray(np.ascontiguousarray(values), mode)


def _upright(opened, background: tuple[int, int, int], about: dict) -> Decoded:
    library = pillow()
    raw = _raw_mode(opened)  # said by the file's header alone, which loading forgets
    facts = about | {
        "format": opened.format or "none",
        "size": "{} x {}".format(*opened.size),
        "mode": opened.mode,
        "orientation": str(_orientation(opened)),
    }
    opened.load()
    orientation = _orientation(opened)  # Pillow turns a TIFF itself when it loads it
    picture = _colours(opened, raw)
    facts["alpha"] = "none"
    if picture.mode == "RGBA":
        below = library.Image.new("RGBA", picture.size, (*background, 255))
        facts["alpha"] = f"composed on {background}"
        picture = library.Image.alpha_composite(below, picture).convert("RGB")
    if orientation in _TURNS:
        picture = picture.transpose(library.Image.Transpose(_TURNS[orientation]))
    return Decoded(picture, facts)


def _colours(opened, raw: str):
    """A picture in mode RGB, or RGBA where it has transparency."""
    mode = opened.mode
    key = opened.info.get("transparency")
    if raw and key is not None and mode in ("1", "L", "RGB"):  # Pillow has the value in the file
        opened = opened.copy()
        opened.info["transparency"] = key = _as_pixel(key, raw)
    if mode.startswith("I"):
        return _grey(opened, key)
    if mode == "F":
        raise UserError("pictures of floating-point values do not say what is white")
    if mode == "P" and opened.palette is None:
        raise UserError("a palette picture without a palette")
    if mode == "LAB":
        return _of_lab(opened)
    if mode in ("La", "RGBa"):
        opened = opened.convert({"La": "LA", "RGBa": "RGBA"}[mode])
    if mode in ("P", "PA", "LA", "La", "RGBA", "RGBa") or key is not None:
        return opened.convert("RGBA")
    return opened if mode == "RGB" else opened.convert("RGB")


def _grey(opened, key):
    """16-bit grey; the one transparent value of a PNG becomes an alpha of 0."""
    library = pillow()
    values = np.asarray(opened)
    if values.min() < 0 or values.max() > 65535:
        raise UserError("grey values outside of 0 to 65535 do not say what is white")
    made = library.Image.fromarray(_eight_bits(values), "L").convert("RGB")
    if isinstance(key, int):
        made.putalpha(
            library.Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8), "L")
        )
    return made


def _eight_bits(values: np.ndarray) -> np.ndarray:
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _of_lab(opened):
    with needs("pictures in LAB", extra="images"):
        import PIL.ImageCms

    profiles = PIL.ImageCms.createProfile("LAB"), PIL.ImageCms.createProfile("sRGB")
    turn = PIL.ImageCms.buildTransform(*profiles, "LAB", "RGB")
    return PIL.ImageCms.applyTransform(opened, turn)


def turned(picture, degrees: int):
    """A Pillow image turned against the clock; by whole quarters, and otherwise not at all."""
    turns = {90: 2, 180: 3, 270: 4}  # Pillow's Transpose
    number = turns.get(degrees % 360)
    return picture if number is None else picture.transpose(pillow().Image.Transpose(number))


def _raw_mode(opened) -> str:
    """How a PNG stores its pixels, such as "L;4" or "RGB;16B"; "" for other formats."""
    tiles = getattr(opened, "tile", None) if opened.format == "PNG" else None
    arguments = tiles[0][3] if tiles else ""
    return arguments if isinstance(arguments, str) else str(arguments[0])


def _as_pixel(key, raw: str):
    """The transparent value of a PNG as its pixels are once they are loaded."""
    if isinstance(key, tuple):
        return tuple(value >> 8 for value in key) if "16" in raw else key
    return key * _FACTORS.get(raw, 1) if isinstance(key, int) else key


def _orientation(opened) -> int:
    """EXIF's orientation, 1 to 8; 1 where there is none or where it cannot be read."""
    try:
        found = opened.getexif().get(0x0112, 1)
    except Exception:  # a broken EXIF part says nothing, as in browsers; the pixels are whole
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__
