"""Vectors that say which version they are of, so that a mixture shows."""

import numpy as np

from gemb.identity import Space, Version

DIM = 8


def space(number: int, dim: int = DIM) -> Space:
    """One of many spaces."""
    return Space(f"query{number}", f"document{number}", dim, True)


def vectors(version: Version, rows: int, first: int = 0, dim: int = DIM) -> np.ndarray:
    """[rows, dim] unit vectors that depend on version and row."""
    made = [
        np.random.default_rng([*version, row]).normal(size=dim)
        for row in range(first, first + rows)
    ]
    made = np.array(made)
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def ids(rows: int, first: int = 0) -> list[str]:
    """Names of rows."""
    return [f"id {row}" for row in range(first, first + rows)]
