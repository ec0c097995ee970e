"""Whether the compressed rows of a PNG are all there. Pillow fills what is missing with zeros."""

import struct
import zlib
from collections.abc import Iterator

from gemb.checks import UserError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the colour type
# first column, first row, step of columns, step of rows of each pass of Adam7
_PASSES = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
_STEP = 1 << 16  # bytes decompressed at a time


def check_whole(content: bytes) -> None:
    """Checks that each frame of a PNG or APNG has as many rows as its header says.

    Args:
        content: of the file; anything that is no PNG passes, and so does one that Pillow refuses.

    Raises:
        UserError: for a frame whose compressed data ends early.
    """
    header: tuple[int, int, int] | None = None
    size, data = (0, 0), []
    for kind, body in _chunks(content):
        if kind == b"IHDR" and len(body) >= 13:
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body[:13])
            header = (depth * _CHANNELS.get(colour, 0), interlaced, colour)
            size = (width, height)
        elif kind == b"fcTL" and len(body) >= 12:
            _check(data, size, header)
            size, data = struct.unpack(">II", body[4:12]), []
        elif kind == b"IDAT":
            data.append(body)
        elif kind == b"fdAT":
            data.append(body[4:])
    _check(data, size, header)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(SIGNATURE) if content.startswith(SIGNATURE) else len(content)
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        yield content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        place += 12 + length


def _check(data: list[bytes], size: tuple[int, int], header) -> None:
    if not data or header is None or not header[0]:
        return
    expected = _length(*size, *header[:2])
    found = _decompressed(data, expected)
    if found < expected:
        raise UserError(f"ends early: {found:,} of {expected:,} bytes of its rows are there")


def _length(width: int, height: int, bits: int, interlaced: int) -> int:
    """Bytes of all rows, each with the byte that names its filter."""
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def _decompressed(data: list[bytes], most: int) -> int:
    """How many bytes the data gives, counted up to `most`; the bytes are not kept."""
    stream, found = zlib.decompressobj(), 0
    try:
        for part in data:
            while part and found < most and not stream.eof:
                found += len(stream.decompress(part, _STEP))
                part = stream.unconsumed_tail
    except zlib.error:
        return most  # broken data, which Pillow itself refuses
    return found
