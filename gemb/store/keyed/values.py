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


def decode(value: bytes, each: bytes, where: object) -> np.ndarray:
    """The vector of a row, as it is kept.

    Args:
        value: of the row.
        each: its id, for messages.
        where: the key store, for messages.

    Raises:
        HostError: the value is something else.
    """
    if len(value) >= HEADER_BYTES:
        magic, code, dim, _ = _HEADER.unpack_from(value)
        dtype = _DTYPES.get(code)
        if magic == _MAGIC and dtype and len(value) == HEADER_BYTES + dim * dtype.itemsize:
            return np.frombuffer(value, dtype, offset=HEADER_BYTES)
    shown = each[:40].decode(errors="replace")
    raise HostError(f"{where}: the value of id {shown!r} is no vector ({len(value)} bytes)")


def decode_rows(
    ids: Sequence[bytes], values: Sequence[bytes], dim: int, where: object
) -> np.ndarray:
    """[rows, dim] of the rows of one version.

    Raises:
        HostError: one of them is something else, or of another dim.
    """
    vectors = [decode(value, each, where) for each, value in zip(ids, values, strict=True)]
    for each, vector in zip(ids, vectors, strict=True):
        if len(vector) != dim or vector.dtype != vectors[0].dtype:
            shown = each[:40].decode(errors="replace")
            raise HostError(
                f"{where}: the vector of id {shown!r} is {len(vector)} numbers of {vector.dtype}, "
                f"but {dim} of {vectors[0].dtype} are expected"
            )
    return np.stack(vectors) if vectors else np.zeros((0, dim), np.float32)
