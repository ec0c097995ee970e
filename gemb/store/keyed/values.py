"""How a vector is kept as bytes: a header of 12 bytes and its numbers, little-endian."""

import struct
from collections.abc import Sequence

import numpy as np

from gemb.checks import UserError
from gemb.store.keyed.protocol import HostError

_HEADER = struct.Struct("<2sBxII")  # magic, precision, dim, refresh
_MAGIC, HEADER_BYTES = b"gv", _HEADER.size
_CODES = {"float32": 0, "float16": 1}
_DTYPES = {0: np.dtype("<f4"), 1: np.dtype("<f2")}


def rounded(vectors: np.ndarray, dtype: str, where: object) -> np.ndarray:
    """Vectors in the precision of a key store.

    Raises:
        UserError: a number that does not fit.
    """
    with np.errstate(over="ignore"):
        made = np.ascontiguousarray(vectors, _DTYPES[_CODES[dtype]])
    if not np.isfinite(made).all():
        raise UserError(f"{where}: a number is too large for {dtype}; keep float32")
    return made


def encode(vectors: np.ndarray, refresh: int) -> list[bytes]:
    """Rows of one precision as bytes.

    Args:
        vectors: [rows, dim], as `rounded` gives them.
        refresh: that they were put in.
    """
    header = _HEADER.pack(_MAGIC, _CODES[str(vectors.dtype)], vectors.shape[1], refresh)
    return [header + vector.tobytes() for vector in vectors]


def decode(value: bytes, each: bytes, dim: int, where: object) -> np.ndarray:
    """The vector of a row, as it is kept.

    Args:
        value: of the row.
        each: its id, for messages.
        dim: that it has to have.
        where: the key store, for messages.

    Raises:
        HostError: the value is something else.
    """
    magic, code, found, _ = (
        _HEADER.unpack_from(value) if len(value) >= HEADER_BYTES else (b"", 0, 0, 0)
    )
    dtype = _DTYPES.get(code)
    if magic == _MAGIC and dtype and len(value) == HEADER_BYTES + found * dtype.itemsize:
        if found == dim:
            return np.frombuffer(value, dtype, offset=HEADER_BYTES)
        what = f"has {found} numbers, but {dim} are expected"
    else:
        what = f"is not a vector ({len(value)} bytes)"
    shown = each[:40].decode(errors="replace")
    raise HostError(f"{where}: the value of id {shown!r} {what}")


def decode_rows(
    ids: Sequence[bytes], values: Sequence[bytes], dim: int, where: object
) -> np.ndarray:
    """[rows, dim] of the rows of one generation.

    Raises:
        HostError: one of them is something else, or of another precision than the first.
    """
    vectors = [decode(value, each, dim, where) for each, value in zip(ids, values, strict=True)]
    if len({vector.dtype for vector in vectors}) > 1:
        raise HostError(f"{where}: vectors of one generation are of several precisions")
    return np.stack(vectors)
