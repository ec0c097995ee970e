"""How vectors are compared: the one place that says what a model's similarity computes.

Search, evaluation and curation rank by inner products. `prepared` turns vectors into rows whose
inner products are the cosine or the dot product; "euclidean" and "manhattan" are computed for given
vectors (`similarities`), and refused by name where inner products are needed.

A vector of zeros has no direction. It stays zero here, its similarity by cosine and dot product is
0, and search ranks such a document behind all others.
"""

import numpy as np

from gemb import checks
from gemb.metrics.geometry import truncate

PRODUCTS = ("cosine", "dot")  # the similarities that inner products of prepared rows are
SIMILARITIES = (*PRODUCTS, "euclidean", "manhattan")


def check_product(similarity: str, what: str) -> str:
    """The similarity, if inner products can compute it.

    Args:
        similarity: of a model.
        what: what needs it, for the message.

    Raises:
        UserError: for "euclidean" and "manhattan".
    """
    if similarity not in PRODUCTS:
        raise checks.UserError(
            f"{what}: the model compares vectors by {similarity!r} (similarity_fn_name in "
            f"config_sentence_transformers.json), and only {' and '.join(PRODUCTS)} are supported"
        )
    return similarity


def prepared(
    vectors: np.ndarray, width: int, similarity: str = "cosine", name: str = "vectors"
) -> np.ndarray:
    """The first coordinates of vectors, such that inner products are the similarity.

    Args:
        vectors: [rows, dim] floats.
        width: coordinates to keep, 1 to dim.
        similarity: "cosine" makes rows unit length, "dot" leaves them as they are.
        name: what the caller calls the vectors.

    Returns:
        [rows, width] float32; rows of zeros stay zero.

    Raises:
        UserError: another similarity.
        ValueError: a width outside 1 to dim, a value that is not finite, or nothing but zeros.

    Example:
        >>> prepared(np.array([[3.0, 4.0, 12.0]]), 2, "cosine")
        array([[0.6, 0.8]], dtype=float32)
        >>> prepared(np.array([[3.0, 4.0, 12.0]]), 2, "dot")
        array([[3., 4.]], dtype=float32)
    """
    check_product(similarity, name)
    unit = truncate(vectors, width, name)
    if len(unit) and not unit.any():
        raise checks.ArgumentError(
            f"{name}: every row is zero in its first {width} coordinates, so nothing can be ranked"
        )
    return unit if similarity == "cosine" else np.asarray(vectors[:, :width], np.float32)


def without_direction(vectors: np.ndarray) -> int:
    """How many rows are zero."""
    return int(np.count_nonzero(~np.any(vectors, axis=1)))


def similarities(left: np.ndarray, right: np.ndarray, similarity: str = "cosine") -> np.ndarray:
    """The similarity of each row of one array with each row of another; higher is nearer.

    Args:
        left: [m, dim] floats.
        right: [n, dim] floats.
        similarity: one of SIMILARITIES; the last two are distances below zero, as
            sentence-transformers' are.

    Returns:
        [m, n] float32.

    Raises:
        ValueError: if the widths differ, or for an unknown similarity.

    Example:
        >>> one, other = np.array([[3.0, 4.0]]), np.array([[0.0, 2.0]])
        >>> [round(float(similarities(one, other, name)[0, 0]), 3) for name in SIMILARITIES]
        [0.8, 8.0, -3.606, -5.0]
    """
    known = similarity in SIMILARITIES
    checks.check(known, f"similarity: expected one of {SIMILARITIES}, got {similarity!r}")
    left, right = (np.asarray(rows, np.float32) for rows in (left, right))
    checks.check_shape("right", right, (None, left.shape[1]))
    if similarity in PRODUCTS:
        if similarity == "cosine":
            left, right = _unit(left), _unit(right)
        return left @ right.T
    order = 2 if similarity == "euclidean" else 1
    made = [-np.linalg.norm(right - row, ord=order, axis=1) for row in left]
    return np.array(made, np.float32).reshape(len(left), len(right))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
