"""Every way in which pixels go wrong before a model sees them: files, and what they are worth.

The expected values come from numpy or from how the file was made, not from gemb.
"""

import os

import numpy as np
import pytest
from picture_files import chunk, photo, png, saved

from gemb.processors.decoding import decode
from gemb.processors.image import ImageProcessor
from gemb.structs import Image

pytestmark = pytest.mark.extra("images")
# EXIF's number -> stored pixels of a picture that is upright as given
STORED = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p.transpose(1, 0, 2)[::-1],
    7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda p: p.transpose(1, 0, 2)[:, ::-1],
}


def pixels(content) -> np.ndarray:
    return np.asarray(decode(Image(content)).picture)


def pillow(values, mode=None):
    import PIL.Image

    made = PIL.Image.fromarray(np.ascontiguousarray(values))
    return made if mode is None else made.convert(mode)


def on_white(colours, alpha):
    alpha = alpha[..., None] / 255
    return colours * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("number", STORED)
def test_the_orientation_of_exif_is_applied(form, number):
    import PIL.Image

    exif = PIL.Image.Exif()
    exif[0x0112] = number
    options = {"lossless": True} if form == "WEBP" else {}
    content = saved(pillow(STORED[number](photo())), form, exif=exif.tobytes(), **options)
    np.testing.assert_array_equal(pixels(content), photo())


@pytest.mark.parametrize("number", STORED)
def test_the_orientation_of_a_jpeg_is_applied(number):
    import PIL.Image

    exif = PIL.Image.Exif()
    exif[0x0112] = number
    flat = np.zeros((32, 48, 3), np.uint8)
    flat[:16, :24], flat[16:, :24], flat[:16, 24:] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    made = pixels(saved(pillow(STORED[number](flat)), "JPEG", exif=exif, quality=95, subsampling=0))
    assert made.shape == flat.shape
    assert np.abs(made[4::8, 4::8].astype(int) - flat[4::8, 4::8]).max() < 40


def test_resize_is_antialiased():
    """A fine chess board becomes grey; taking every eighth pixel would make it black or white."""
    board = np.indices((64, 64)).sum(0) % 2 * 255
    made = ImageProcessor(8, 8).pixels(Image(board.astype(np.uint8)))
    assert np.abs(made.astype(int) - 128).max() < 8


def test_bicubic_is_the_antialiased_kernel_of_a_half():
    """Against float64 weights written from the formula, a = -0.5 over four times the scale."""

    def weights(old, new):
        scale = old / new
        place = (np.arange(new)[:, None] + 0.5) * scale
        x = np.abs((np.arange(old) + 0.5 - place) / scale)
        near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        w = np.where(x < 1, near, np.where(x < 2, far, 0))
        return w / w.sum(1, keepdims=True)

    whole = photo(60, 96).astype(np.float64)
    rows = np.einsum("or,rcd->ocd", weights(60, 20), whole)
    expected = np.einsum("oc,rcd->rod", weights(96, 24), rows).clip(0, 255)
    made = ImageProcessor(20, 24, method="bicubic").pixels(Image(photo(60, 96)))
    assert np.abs(made - expected).max() < 2.5


def test_red_is_first_and_values_are_scaled_once():
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    for form in ("PNG", "JPEG", "BMP", "TIFF", "PPM", "WEBP", "TGA"):
        processor = ImageProcessor(4, 4)
        values = processor.collate(processor.prepare([Image(saved(pillow(red), form))])).pixels
        np.testing.assert_allclose(values[0, 1, 1], [1, -1, -1], atol=0.03, err_msg=form)


def test_a_palette_becomes_colours_before_the_resize():
    quantised = pillow(photo(48, 48)).quantize(16)
    colours = np.asarray(quantised.convert("RGB"))
    made = ImageProcessor(12, 12).pixels(Image(saved(quantised, "PNG")))
    np.testing.assert_array_equal(made, ImageProcessor(12, 12).pixels(Image(colours)))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(form):
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    made = pixels(saved(pillow(levels * 257), form))
    np.testing.assert_array_equal(made, np.repeat(levels[..., None], 3, axis=2))
    np.testing.assert_array_equal(pixels(levels * 257), made)


def test_16_bit_colours_and_alpha_keep_their_high_bytes():
    deep = (photo(4, 4).astype(np.uint16) << 8) | 7
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    np.testing.assert_array_equal(pixels(png(4, 4, 16, 2, rows)), photo(4, 4))
    with_alpha = np.concatenate([deep, np.full((4, 4, 1), 0xFFFF, np.uint16)], -1)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in with_alpha)
    np.testing.assert_array_equal(pixels(png(4, 4, 16, 6, rows)), photo(4, 4))


def test_cmyk_is_not_inverted():
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[:8, :8, 0], ink[:8, 8:, 1], ink[8:, :8, 2], ink[8:, 8:, 3] = 200, 200, 200, 200
    import PIL.Image

    cmyk = PIL.Image.frombytes("CMYK", (16, 16), ink.tobytes())
    plain = ink.astype(np.float64)
    expected = (255 - plain[..., :3]) * (255 - plain[..., 3:]) / 255
    for form in ("JPEG", "TIFF"):
        options = {"quality": 95, "subsampling": 0} if form == "JPEG" else {}
        made = pixels(saved(cmyk, form, **options))
        assert np.abs(made[2::4, 2::4] - expected[2::4, 2::4]).max() < 12, form


def test_lab_hsv_and_ycbcr_become_red_green_and_blue():
    import PIL.Image

    grey = PIL.Image.frombytes("LAB", (1, 1), bytes([128, 0, 0]))  # L 50, a and b 0
    made = pixels(saved(grey, "TIFF"))[0, 0].astype(int)
    assert np.abs(made - 119).max() <= 3  # sRGB of L* = 50
    for mode in ("HSV", "YCbCr"):
        turned = pillow(photo(), mode)
        made = np.asarray(decode(Image(turned)).picture).astype(int)
        assert np.abs(made - photo()).max() < 12, mode


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_composed_on_white(form):
    alpha = np.linspace(0, 255, 24 * 36).reshape(24, 36).round().astype(np.uint8)
    values = np.dstack([photo(), alpha])
    content = saved(pillow(values), form, **({"lossless": True} if form == "WEBP" else {}))
    made = pixels(content)
    seen = alpha > 0  # WebP keeps no colours below an alpha of 0
    assert np.abs(made - on_white(photo().astype(float), alpha))[seen].max() <= 1
    assert (made[~seen] == 255).all()
    blue = np.asarray(decode(Image(content), (0, 0, 255)).picture)
    assert (blue[~seen] == (0, 0, 255)).all()


def test_grey_with_alpha_and_a_palette_with_alpha_are_composed_too():
    grey, alpha = photo()[..., 0], photo()[..., 1]
    made = pixels(saved(pillow(np.dstack([grey, alpha])), "PNG"))
    expected = on_white(np.repeat(grey[..., None], 3, -1).astype(float), alpha)
    assert np.abs(made - expected).max() <= 1
    palette = chunk(b"PLTE", bytes([250, 0, 0, 0, 250, 0, 0, 0, 250]))
    shades = chunk(b"tRNS", bytes([0, 127]))  # the third one is not transparent
    made = pixels(png(3, 1, 8, 3, b"\0\0\1\2", palette, shades))
    assert np.abs(made[0].astype(int) - [[255, 255, 255], [128, 252, 128], [0, 0, 250]]).max() <= 1


@pytest.mark.parametrize(
    ("depth", "row", "key", "expected"),
    [
        (1, bytes([0b10100000]), 1, [255, 0, 255]),
        (2, bytes([0b00011000]), 1, [0, 255, 170]),
        (4, bytes([0x0F, 0x80]), 15, [0, 255, 136]),
        (8, bytes([3, 200, 9]), 200, [3, 255, 9]),
        (16, bytes([0, 0, 0x12, 0x34, 0x80, 0x80]), 0x1234, [0, 255, 128]),
    ],
)
def test_the_transparent_grey_of_a_png_is_that_of_the_file(depth, row, key, expected):
    content = png(3, 1, depth, 0, b"\0" + row, chunk(b"tRNS", key.to_bytes(2, "big")))
    np.testing.assert_array_equal(pixels(content)[0, :, 0], expected)


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_colour_of_a_png_is_that_of_the_file(depth):
    wide = (lambda v: v * 257) if depth == 16 else (lambda v: v)
    colours = np.array([[200, 10, 10], [10, 200, 10]])
    kind = ">u2" if depth == 16 else "u1"
    row = b"\0" + wide(colours).astype(kind).tobytes()
    key = wide(colours[0]).astype(">u2").tobytes()
    made = pixels(png(2, 1, depth, 2, row, chunk(b"tRNS", key)))
    np.testing.assert_array_equal(made[0], [[255, 255, 255], [10, 200, 10]])


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_is_its_first_frame(form):
    frames = [pillow(np.full((8, 8, 3), value, np.uint8)) for value in (10, 120, 240)]
    options = {"lossless": True} if form == "WEBP" else {}
    content = saved(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert np.abs(pixels(content).astype(int) - 10).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (3, 1), (3, 3), (1, 40), (40, 1)])
def test_a_side_of_1_or_3_pixels_is_no_axis_of_colours(shape):
    values = photo()[: shape[0], : shape[1]]
    values = np.resize(values, (*shape, 3))
    np.testing.assert_array_equal(pixels(values), values)
    np.testing.assert_array_equal(pixels(saved(pillow(values), "PNG")), values)


def test_no_file_stays_open(tmp_path):
    file = tmp_path / "a.gif"
    frames = [pillow(np.full((8, 8, 3), value, np.uint8)) for value in (10, 120)]
    file.write_bytes(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    before = len(os.listdir("/proc/self/fd"))
    kept = [decode(Image(file)) for _ in range(20)]
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert len(kept) == 20


def test_a_picture_of_a_caller_is_left_as_it_is():
    values = np.dstack([photo(), photo()[..., 0]])
    given = pillow(values)
    decode(Image(given))
    assert given.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(given), values)
