"""Vectors of pictures in a text model's space without any caption: classes times their texts.

v(x) = unit(sum over the k likeliest classes c of p_c(x) t_c), p = softmax(logits / temperature)

t_c is the mean of a text model's vectors over texts about the class.

Reference: Norouzi et al., Zero-shot learning by convex combination of semantic embeddings, 2013,
arXiv 1312.5650.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

TOP = 20
TEMPERATURE = 1.5


def class_texts(row: Mapping) -> list[str]:
    """The texts of a class.

    Args:
        row: "lemmas" (names, the usual one first) and "definition".

    Example:
        >>> class_texts({"lemmas": ["tench"], "definition": "a fish"})
        ['tench', 'tench: a fish', 'a photo of a tench']
    """
    names = list(row["lemmas"])
    return [*names, f"{names[0]}: {row['definition']}", f"a photo of a {names[0]}"]


def class_vectors(classes: Sequence[Mapping], encode: Callable) -> np.ndarray:
    """[classes, dim] float32: the mean vector of each class's texts, not of unit length.

    Args:
        classes: see `class_texts`.
        encode: texts -> [texts, dim].
    """
    texts = [class_texts(row) for row in classes]
    vectors = encode([text for part in texts for text in part])
    ends = np.cumsum([0, *map(len, texts)])
    return np.add.reduceat(vectors, ends[:-1]) / np.diff(ends)[:, None]


def conse(
    logits: np.ndarray, classes: np.ndarray, *, top: int = TOP, temperature: float = TEMPERATURE
) -> np.ndarray:
    """Combines class vectors by a classifier's probabilities.

    Args:
        logits: [rows, classes].
        classes: [classes, dim].
        top: classes that count in each row.
        temperature: divides the logits.

    Returns:
        [rows, dim] float32 of unit length.

    Example:
        >>> conse(np.array([[9.0, 0.0]]), np.eye(2), top=1).tolist()
        [[1.0, 0.0]]
    """
    top = min(top, logits.shape[1])
    chosen = np.argpartition(-logits, top - 1, axis=1)[:, :top]
    values = np.take_along_axis(logits, chosen, 1) / temperature
    weights = np.exp(values - values.max(1, keepdims=True))
    made = np.einsum("rk,rkd->rd", weights / weights.sum(1, keepdims=True), classes[chosen])
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
