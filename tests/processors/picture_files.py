"""Files of pictures, made byte by byte or by Pillow, and what their pixels are."""

import io
import struct
import zlib

import numpy as np


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(width, height, depth, colour, rows: bytes, *more: bytes, interlace=0) -> bytes:
    """A PNG of raw rows, each with its filter byte; `more` are chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    body = chunk(b"IDAT", zlib.compress(rows))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + body + chunk(b"IEND", b"")
    )


def saved(picture, form: str, **options) -> bytes:
    """What Pillow writes."""
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def photo(height=24, width=36) -> np.ndarray:
    """[height, width, 3] uint8 without any symmetry."""
    y, x = np.mgrid[:height, :width]
    random = np.random.default_rng(3)
    waves = np.stack([x * 6.0, y * 9.0, 120 + 60 * np.sin(x * y / 20)], -1)
    return (waves + random.normal(0, 9, waves.shape)).clip(0, 255).astype(np.uint8)
