"""Checks of vectors before anything is measured: each fault is one line."""

import hashlib
from collections.abc import Sequence

import numpy as np

from gemb.checks import UserError

SMALLEST = 50  # rows of a window
_REPEATED = 0.2  # share of rows that are copies of others
_UNIT = 1e-2  # by how much the length of a unit vector may differ from 1


def checked(name: str, vectors: np.ndarray, *, repeats: bool = False) -> np.ndarray:
    """Vectors that can be measured, as [rows, dim] float32.

    Args:
        name: what the caller calls them.
        vectors: [rows, dim] floats.
        repeats: allow more than a fifth of the rows to be copies of others.

    Raises:
        UserError: another shape, fewer than 50 rows, NaN, infinity, zero or constant vectors, or
            too many copies.
    """
    rows = np.asarray(vectors)
    if rows.ndim != 2 or rows.dtype.kind != "f":
        raise UserError(
            f"{name}: expected [rows, dim] floats, got {rows.dtype} of shape {rows.shape}"
        )
    if len(rows) < SMALLEST:
        raise UserError(f"{name}: {len(rows)} rows are too few; collect {SMALLEST} or more")
    rows = np.asarray(rows, np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    if not np.isfinite(lengths).all():
        raise UserError(f"{name}: row {int(np.argmin(np.isfinite(lengths)))} has NaN or infinity")
    if not lengths.all():
        raise UserError(f"{name}: row {int(np.argmin(lengths))} is all zero; leave it out")
    distinct = len(np.unique(row_hashes(rows)))
    if distinct == 1:
        raise UserError(f"{name}: all {len(rows)} vectors are the same")
    if not repeats and distinct < (1 - _REPEATED) * len(rows):
        raise UserError(
            f"{name}: {1 - distinct / len(rows):.0%} of the rows are copies of others, so they are "
            "not independent; remove copies, or allow them with --repeats"
        )
    return rows


def has_unit_length(rows: np.ndarray) -> bool:
    """Whether all vectors have length 1."""
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    return bool(np.all(np.abs(lengths - 1) < _UNIT))


def check_window(reference, rows: np.ndarray, name: str) -> None:
    """Checks that a window can be compared with a reference.

    Args:
        reference: a `gemb.analysis.drift.Reference`.
        rows: of `checked`.
        name: what the caller calls them.

    Raises:
        UserError: another width, more rows than the reference, vectors that are not of unit length
            where the reference's are, or the reference itself.
    """
    if rows.shape[1] != reference.dim:
        raise UserError(
            f"{name}: vectors of dim {rows.shape[1]}, but the reference's have {reference.dim}"
        )
    if len(rows) > reference.rows:
        raise UserError(
            f"{name}: {len(rows)} rows, but the reference has {reference.rows}: cut the window, or "
            "fit the reference on more"
        )
    if reference.unit and not has_unit_length(rows):
        raise UserError(
            f"{name}: the vectors do not have unit length, but the reference's have; normalise them"
        )
    known = np.isin(row_hashes(rows), reference.hashes)
    if known.all():
        raise UserError(f"{name}: every row is a row of the reference; give newer vectors")


def check_ids(reference, ids: Sequence, name: str) -> None:
    """Checks that no row of a window was a row of the reference.

    Raises:
        UserError: naming an id of both.
    """
    both = np.isin(id_hashes(ids), reference.ids)
    if len(reference.ids) and both.any():
        raise UserError(
            f"{name}: {both.sum()} ids are of the reference as well, such as "
            f"{list(ids)[int(np.argmax(both))]!r}; give rows that came later"
        )


def row_hashes(rows: np.ndarray) -> np.ndarray:
    """[rows] a number for each row that equal rows share."""
    words = np.ascontiguousarray(rows, np.float32).view(np.uint32).astype(np.uint64)
    factors = np.random.default_rng(0).integers(1, 2**63, words.shape[1], dtype=np.uint64) | 1
    return words @ factors


def id_hashes(ids: Sequence) -> np.ndarray:
    """[rows] a number for each id."""
    digests = (hashlib.blake2b(str(each).encode(), digest_size=8).digest() for each in ids)
    return np.array([int.from_bytes(each, "little") for each in digests], np.uint64)
