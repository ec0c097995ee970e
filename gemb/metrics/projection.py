"""Projects vectors onto a plane, by PCA, t-SNE or UMAP."""

import numpy as np

from gemb import checks
from gemb.checks import needs, require

METHODS = ("pca", "tsne", "umap")
_LIBRARIES = {"tsne": ("sklearn", "eval"), "umap": ("umap", "maps")}  # and their extras


def require_method(method: str) -> None:
    """Checks, before texts are encoded for a map, that the library that lays it out is installed.

    Args:
        method: one of METHODS, or "none".

    Raises:
        MissingExtra: naming the extra to install.
    """
    if method in _LIBRARIES:
        library, extra = _LIBRARIES[method]
        require(library, f"--map={method}", extra=extra)


def project(vectors: np.ndarray, method: str = "pca", *, seed: int = 0) -> np.ndarray:
    """Projects vectors onto a plane.

    Args:
        vectors: [points, dim] floats, two points at least.
        method: "pca", the two directions of the largest variance; "tsne" (scikit-learn) or "umap"
            (umap-learn, if installed), which keep neighbours together but not distances.
        seed: of t-SNE and UMAP.

    Returns:
        [points, 2] float64, each coordinate centred; PCA's signs are such that the largest
        magnitude of each coordinate is positive.

    Raises:
        ValueError: an unknown method, fewer than two points, or values that are not finite.
        MissingExtra: scikit-learn (for t-SNE) or umap-learn is not installed.

    Example:
        >>> points = project(np.array([[0.0, 0.0], [0.0, 4.0], [1.0, 2.0]]))
        >>> np.abs(points[:, 0]).round(6).tolist()
        [2.0, 2.0, 0.0]

    Reference: van der Maaten and Hinton, Visualizing data using t-SNE, 2008; McInnes, Healy and
        Melville, UMAP, 2018, arXiv 1802.03426.
    """
    checks.check(method in METHODS, f"method: expected one of {METHODS}, got {method!r}")
    checks.check_rank("vectors", vectors, 2)
    checks.check(len(vectors) >= 2, f"vectors: expected 2 or more, got {len(vectors)}")
    checks.check(bool(np.isfinite(vectors).all()), "vectors: expected finite values")
    found = {"pca": _pca, "tsne": _tsne, "umap": _umap}[method](np.float64(vectors), seed)
    return found - found.mean(axis=0)


def _pca(vectors: np.ndarray, seed: int) -> np.ndarray:
    centred = vectors - vectors.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    found = np.zeros((len(vectors), 2))
    found[:, : min(2, len(sizes))] = left[:, :2] * sizes[:2]
    rows = np.argmax(np.abs(found), axis=0)
    signs = np.where(found[rows, [0, 1]] < 0, -1, 1)
    return found * signs + 0.0


def _tsne(vectors: np.ndarray, seed: int) -> np.ndarray:
    with needs("--map=tsne", extra="eval"):
        from sklearn.manifold import TSNE

    perplexity = min(30.0, max(1.0, (len(vectors) - 1) / 3))
    start = _pca(vectors, seed)
    start *= 1e-4 / max(start[:, 0].std(), 1e-12)
    return np.float64(
        TSNE(2, perplexity=perplexity, init=start, random_state=seed).fit_transform(vectors)
    )


def _umap(vectors: np.ndarray, seed: int) -> np.ndarray:
    with needs("--map=umap", extra="maps"):
        from umap import UMAP
    neighbours = min(15, len(vectors) - 1)
    return np.float64(UMAP(n_neighbors=neighbours, random_state=seed).fit_transform(vectors))
