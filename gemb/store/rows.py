"""Rows of a version, an id and a vector each: what is accepted, and a digest of many of them.

The store on disk and the key stores accept the same ids and vectors.
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence

import numpy as np

from gemb.checks import UserError
from gemb.identity import Space, SpaceError

DTYPES = ("float32", "float16")
MAX_ID_BYTES = 1024
_CHUNK = 1 << 16
_UNIT_ERROR = 1e-2  # float16 moves the length of a vector by less than 1e-3


def id_bytes(ids: Iterable[str | int], where: object, *, unique: bool = True) -> list[bytes]:
    """Ids as a store keeps them: UTF-8; an integer is the same id as its decimal digits.

    Args:
        ids: not empty, and at most 1,024 bytes each.
        where: what refuses them, for messages.
        unique: whether to refuse an id that comes twice.

    Returns:
        One per id.

    Raises:
        UserError: an id of another type, an empty, long or repeated one.

    Example:
        >>> id_bytes(["ü", 7], "store")
        [b'\\xc3\\xbc', b'7']
    """
    encoded = [_id_bytes(each, where) for each in ids]
    if unique and len(set(encoded)) < len(encoded):
        seen = set()
        twice = next(each for each in encoded if each in seen or seen.add(each))
        raise UserError(f"{where}: the id {twice.decode()[:40]!r} comes twice; ids must be unique")
    return encoded


def _id_bytes(value: str | int, where: object) -> bytes:
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value)).encode()
    if not isinstance(value, str) or not value:
        raise UserError(f"{where}: ids are texts or integers and not empty, got {value!r:.40}")
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: the id {value[:40]!r} is not valid Unicode") from None
    if len(encoded) > MAX_ID_BYTES:
        raise UserError(
            f"{where}: the id {value[:20]!r}... has {len(encoded):,} bytes, and at most "
            f"{MAX_ID_BYTES:,} are allowed; use a hash of it"
        )
    return encoded


def check_vectors(vectors: np.ndarray, ids: Sequence, space: Space, where: object) -> None:
    """Checks vectors that are to be stored; a mapped file is read in parts.

    Args:
        vectors: [rows, dim] float32 or float16.
        ids: one per row.
        space: that they are said to be of.
        where: what refuses them, for messages.

    Raises:
        SpaceError: of another dim than the space's.
        UserError: of another dtype or number; or a vector that is not finite, zero, or not of unit
            length where the space has unit vectors.
    """
    if str(vectors.dtype) not in DTYPES or vectors.ndim != 2 or len(vectors) != len(ids):
        raise UserError(
            f"{where}: expected [{len(ids)}, {space.dim}] of float32 or float16, one row per id, "
            f"got {vectors.shape} of {vectors.dtype}"
        )
    if vectors.shape[1] != space.dim:
        raise SpaceError(
            f"{where}: vectors of dim {vectors.shape[1]} are not of space {space}; give vectors of "
            "that space"
        )
    for start in range(0, len(vectors), _CHUNK):
        part = np.asarray(vectors[start : start + _CHUNK], np.float32)
        squares = np.einsum("ij,ij->i", part, part, dtype=np.float64)
        wrong = ~np.isfinite(squares) | (squares == 0)
        if space.normalized:
            wrong |= ~(np.abs(np.sqrt(squares) - 1) <= _UNIT_ERROR)
        if wrong.any():
            row = int(np.argmax(wrong))
            kind = "unit vectors" if space.normalized else "finite vectors that are not zero"
            raise UserError(
                f"{where}: the vector of id {ids[start + row]!r:.40} has length "
                f"{np.sqrt(squares[row]):.4g}, but {kind} are expected; nothing of this was stored"
            )


class RowsDigest:
    """A digest of rows that does not depend on their order or on how they are divided.

    The sum, modulo 2^128, of the BLAKE2b-128 of each row: its id, precision and numbers.

    Example:
        >>> one, other = RowsDigest(), RowsDigest()
        >>> one.add([b"a", b"b"], np.eye(2, dtype=np.float32))
        >>> other.add([b"b", b"a"], np.eye(2, dtype=np.float32)[::-1])
        >>> one.hex() == other.hex(), one.rows
        (True, 2)
    """

    def __init__(self):
        self.rows, self._sum = 0, 0

    def add(self, ids: Sequence[bytes], vectors: np.ndarray) -> None:
        """Adds rows.

        Args:
            ids: as `id_bytes` gives them; none may come twice.
            vectors: [rows, dim] in the precision in which they are stored.
        """
        code = vectors.dtype.char.encode()
        for each, vector in zip(ids, np.ascontiguousarray(vectors), strict=True):
            row = struct.pack("<I", len(each)) + each + code + vector.tobytes()
            self._sum += int.from_bytes(hashlib.blake2b(row, digest_size=16).digest(), "little")
        self.rows += len(ids)

    def hex(self) -> str:
        """32 hexadecimal digits."""
        return f"{self._sum % (1 << 128):032x}"


def rows_digest(ids: Iterable[str | int], vectors: np.ndarray, dtype: str) -> str:
    """The digest of all rows of a version, as `publish` of a key store wants it.

    Args:
        ids: one per row.
        vectors: [rows, dim].
        dtype: in which the key store keeps them.
    """
    digest, encoded = RowsDigest(), id_bytes(ids, "rows")
    for start in range(0, len(encoded), _CHUNK):
        part = np.asarray(vectors[start : start + _CHUNK], dtype)
        digest.add(encoded[start : start + _CHUNK], part)
    return digest.hex()
