"""A PNG whose rows end early, but in good order, is refused: Pillow fills it with zeros."""

import io
import struct
import zlib

import numpy as np
import pytest

from gemb.checks import UserError
from gemb.processors.decoding import decode
from gemb.processors.video import frames_of
from gemb.structs import Image, Video

pytestmark = pytest.mark.extra("images")
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunks(content):
    place = 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        yield content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        place += 12 + length


def joined(parts):
    return SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


def shortened(content, name=b"IDAT", lead=0, share=0.5):
    """The same file with the first `share` of its decompressed rows, compressed in good order."""
    parts = list(chunks(content))
    data = b"".join(body[lead:] for kind, body in parts if kind == name)
    raw = zlib.decompress(data)
    less = zlib.compress(raw[: int(len(raw) * share)])
    first = next(body for kind, body in parts if kind == name)
    made, done = [], False
    for kind, body in parts:
        if kind != name:
            made.append((kind, body))
        elif not done:
            made.append((kind, first[:lead] + less))
            done = True
    return joined(made)


def saved(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_rows_that_end_early_are_refused(mode):
    import PIL.Image

    pixels = np.random.default_rng(0).integers(0, 255, (37, 29, 3)).astype(np.uint8)
    picture = PIL.Image.fromarray(pixels)
    if mode == "I;16":
        picture = PIL.Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    else:
        picture = picture.convert(mode)
    whole = saved(picture)
    decode(Image(whole))
    for share in (0.0, 0.5, 0.995):
        with pytest.raises(UserError, match=r"^picture: ends early: [\d,]+ of [\d,]+ bytes"):
            decode(Image(shortened(whole, share=share)))


def test_what_pillow_fills_with_zeros_is_refused():
    import PIL.Image

    pixels = np.random.default_rng(0).integers(1, 255, (300, 400, 3)).astype(np.uint8)
    broken = shortened(saved(PIL.Image.fromarray(pixels)))
    assert (np.asarray(PIL.Image.open(io.BytesIO(broken))) == 0).mean() > 0.4
    with pytest.raises(UserError, match="ends early"):
        decode(Image(broken))


def test_interlaced_rows_are_counted_by_pass():
    """All sizes up to 9 x 9, against the grid of the seven passes that the standard draws."""
    from gemb.processors.png import check_whole

    grid = np.array([
        [1, 6, 4, 6, 2, 6, 4, 6], [7] * 8, [5, 6] * 4, [7] * 8,
        [3, 6, 4, 6, 3, 6, 4, 6], [7] * 8, [5, 6] * 4, [7] * 8,
    ])  # fmt: skip
    for width in range(1, 10):
        for height in range(1, 10):
            own = np.tile(grid, (2, 2))[:height, :width]
            length = 0
            for number in range(1, 8):
                rows = (own == number).sum(1)
                length += sum(1 + 3 * int(count) for count in rows if count)
            header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
            for missing in (0, 1):
                data = zlib.compress(bytes(length - missing))
                content = joined([(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")])
                if missing:
                    with pytest.raises(UserError, match="ends early"):
                        check_whole(content)
                else:
                    check_whole(content)


def test_a_later_frame_of_an_animation_is_checked_too():
    import PIL.Image

    random = np.random.default_rng(1)
    frames = [PIL.Image.fromarray(random.integers(0, 255, (20, 20, 3), np.uint8)) for _ in "ab"]
    whole = saved(frames[0], save_all=True, append_images=frames[1:], duration=50)
    assert len(frames_of(Video(whole), 2, (255, 255, 255))) == 2
    broken = shortened(whole, b"fdAT", lead=4)
    with pytest.raises(UserError, match=r"^video: ends early"):
        frames_of(Video(broken), 2, (255, 255, 255))
