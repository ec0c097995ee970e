"""Hostile and odd files: one line or the right pixels, never a traceback."""

import struct
import zlib

import numpy as np
import pytest
from picture_files import chunk, photo, png, saved

from gemb.checks import UserError
from gemb.processors.decoding import decode
from gemb.processors.image import ImageProcessor
from gemb.structs import Image

pytestmark = pytest.mark.extra("images")
FORMATS = (
    "PNG",
    "JPEG",
    "GIF",
    "BMP",
    "TIFF",
    "WEBP",
    "PPM",
    "ICO",
    "TGA",
    "JPEG2000",
    "SGI",
    "PCX",
)


def picture():
    import PIL.Image

    return PIL.Image.fromarray(photo(32, 32))


def with_exif(content: bytes) -> bytes:
    """A JPEG with these bytes as its EXIF part."""
    whole = saved(picture(), "JPEG")
    part = b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
    return whole[:2] + part + whole[2:]


def pixels_or_line(content):
    """The decoded pixels, or the one line that refuses them."""
    try:
        return np.asarray(decode(Image(content)).picture)
    except UserError as error:
        return str(error)


def refused(content, name="picture"):
    with pytest.raises(UserError) as caught:
        decode(Image(content))
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(name)
    assert len(line) < 400
    return line


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused_or_whole(form, share):
    """Some formats end before their last byte; what is decoded must be the whole picture then."""
    content = saved(picture(), form)
    whole = np.asarray(decode(Image(content)).picture)
    made = pixels_or_line(content[: int(len(content) * share)])
    if isinstance(made, str):
        assert "\n" not in made
    else:
        np.testing.assert_array_equal(made, whole)


@pytest.mark.parametrize("form", FORMATS)
def test_bytes_changed_at_random_end_in_pixels_or_one_line(form):
    random, content = np.random.default_rng(5), saved(picture(), form)
    for _ in range(12):
        changed = np.frombuffer(content, np.uint8).copy()
        places = random.integers(0, len(changed), 4)
        changed[places] = random.integers(0, 256, 4)
        made = pixels_or_line(changed.tobytes())
        good = "\n" not in made if isinstance(made, str) else made.shape[2] == 3
        assert good


def text_bomb() -> bytes:
    return chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(20_000_000)))


_WILD_BMP = b"BM" + struct.pack("<IHHIIiiHH", 60, 0, 0, 2**31, 40, 4, 4, 1, 24) + bytes(24)
BROKEN = {
    "text": b"just some text",
    "html": b"<!doctype html><html><body>404</body></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>',
    "pdf": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
    "eps, which would be run": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n",
    "magic of a png alone": b"\x89PNG\r\n\x1a\n",
    "magic of a jpeg alone": b"\xff\xd8\xff",
    "magic of a gif alone": b"GIF89a",
    "magic of a tiff alone": b"II*\0",
    "zeros": bytes(100),
    "png of no width": png(0, 4, 8, 2, b""),
    "png of no height": png(4, 0, 8, 2, b""),
    "png of a wrong depth": png(4, 4, 7, 2, bytes(52)),
    "png of a wrong colour type": png(4, 4, 8, 5, bytes(52)),
    "png without a palette": png(1, 1, 8, 3, b"\0\0"),
    "png bomb": png(60_000, 60_000, 8, 2, b"\0"),
    "png wider than any": png(2**31 - 1, 1, 8, 0, b"\0"),
    "gif of no size": b"GIF89a\0\0\0\0\0\0\0;",
    "gif without frames": b"GIF89a\4\0\4\0\0\0\0;",
    "bmp with a wild offset": _WILD_BMP,
    "tiff that points at itself": b"II*\0\x08\0\0\0" + struct.pack("<HI", 0, 8),
    "ppm of wrong numbers": b"P6 4 x 255\n" + bytes(48),
    "ppm bomb": b"P6 99999 99999 255\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_line(name, tmp_path):
    refused(BROKEN[name])
    file = tmp_path / "broken.png"
    file.write_bytes(BROKEN[name])
    refused(file, str(file))


def test_text_that_unpacks_to_much_is_refused_or_left_out():
    content = png(1, 1, 8, 2, b"\0\1\2\3", text_bomb())
    made = pixels_or_line(content)
    if isinstance(made, str):
        assert "\n" not in made
    else:
        np.testing.assert_array_equal(made, [[[1, 2, 3]]])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    "content",
    [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(40), b"nonsense",
     b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\2\0\4\0\0\0abc\0\0\0\0\0",
     b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x09\0\0\0\0\0\0\0"],
    ids=["empty", "points nowhere", "zeros", "nonsense", "a text", "9"],
)  # fmt: skip
def test_exif_that_says_nothing_is_left_out(content):
    made = np.asarray(decode(Image(with_exif(content))).picture)
    np.testing.assert_array_equal(made, np.asarray(decode(Image(saved(picture(), "JPEG"))).picture))


@pytest.mark.parametrize("kind", ["float", "32 bits"])
def test_values_without_a_stated_white_are_refused(kind):
    import PIL.Image

    values = np.ones((4, 4), np.float32)
    values = (70_000 * values).astype(np.int32) if kind == "32 bits" else values
    assert "white" in refused(saved(PIL.Image.fromarray(values), "TIFF"))


def odd_files() -> dict:
    """Name -> (content, pixels)."""
    rgb = picture()
    grey, bits, few = rgb.convert("L"), rgb.convert("1"), rgb.quantize(16)
    dots = np.array([[[9, 8, 7]]])
    dot, two = b"\0\x09\x08\x07", np.array([[[128] * 3, [255] * 3]])
    made = {
        "interlaced png": (png(1, 1, 8, 2, dot, interlace=1), dots),
        "png with a wrong gamma": (png(1, 1, 8, 2, dot, chunk(b"gAMA", bytes(4))), dots),
        "png with unknown chunks": (png(1, 1, 8, 2, dot, chunk(b"abCd", b"??")), dots),
        "plain ppm": (b"P3 1 1 255 9 8 7\n", dots),
        "bitmap ppm": (b"P1 2 1 1 0", np.array([[[0] * 3, [255] * 3]])),
        "deep ppm": (b"P5 2 1 65535\n" + bytes([128, 128, 255, 255]), two),
        "ppm of 100 levels": (b"P5 2 1 100\n" + bytes([50, 100]), two),
        "bytes after the end": (saved(rgb, "PNG") + b"and more", rgb),
    }
    for name, source, form, options in (
        ("progressive jpeg", rgb, "JPEG", {"progressive": True, "quality": 100, "subsampling": 0}),
        ("grey jpeg", grey, "JPEG", {"quality": 100}),
        ("1 bit png", bits, "PNG", {}),
        ("fax tiff", bits, "TIFF", {"compression": "group4"}),
        ("lzw tiff", rgb, "TIFF", {"compression": "tiff_lzw"}),
        ("deflated tiff", rgb, "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("packed tiff", rgb, "TIFF", {"compression": "packbits"}),
        ("palette bmp", few, "BMP", {}),
        ("grey bmp", grey, "BMP", {}),
        ("palette tga", few, "TGA", {}),
        ("packed tga", rgb, "TGA", {"compression": "tga_rle"}),
        ("grey ppm", grey, "PPM", {}),
        ("ico", rgb, "ICO", {"sizes": [(32, 32)]}),
        ("lossless webp", rgb, "WEBP", {"lossless": True}),
        ("lossless jpeg 2000", rgb, "JPEG2000", {}),
        ("png with a profile", rgb, "PNG", {"icc_profile": b"no profile at all"}),
    ):
        made[name] = (saved(source, form, **options), source)
    return made


ODD = (
    "interlaced png", "png with a wrong gamma", "png with unknown chunks", "plain ppm",
    "bitmap ppm", "deep ppm", "ppm of 100 levels", "bytes after the end", "progressive jpeg",
    "grey jpeg", "1 bit png", "fax tiff", "lzw tiff", "deflated tiff", "packed tiff", "palette bmp",
    "grey bmp", "palette tga", "packed tga", "grey ppm", "ico", "lossless webp",
    "lossless jpeg 2000", "png with a profile",
)  # fmt: skip


@pytest.fixture(scope="module")
def odd():
    return odd_files()


def test_every_odd_file_is_checked(odd):
    assert set(odd) == set(ODD)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_has_its_pixels(name, odd):
    content, expected = odd[name]
    if not isinstance(expected, np.ndarray):
        expected = np.asarray(expected.convert("RGB"))
    made = np.asarray(decode(Image(content)).picture).astype(int)
    assert made.shape == expected.shape
    lossy = "jpeg" in name and "lossless" not in name
    assert np.abs(made - expected).max() <= (12 if lossy else 0)


@pytest.mark.parametrize("shape", [(1, 2000), (2000, 1), (1, 1), (2, 3)])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_a_long_thin_or_tiny_picture_is_resized(shape, resize):
    values = np.full((*shape, 3), 77, np.uint8)
    processor = ImageProcessor(8, 8, resize=resize)
    assert (processor.pixels(Image(values)) == 77).all()


def test_a_picture_too_thin_for_a_cut_is_one_line():
    values = np.zeros((1, 5000, 3), np.uint8)
    with pytest.raises(UserError, match="too long and thin"):
        ImageProcessor(16, 16, resize="crop").pixels(Image(values))
