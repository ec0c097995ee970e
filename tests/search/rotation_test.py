"""Principal axes against scikit-learn-free linear algebra in float64."""

import numpy as np
import pytest

from gemb import search
from gemb.search.funnel.rotation import rotate


def _spread(rows=3_000, dim=12, seed=0):
    """Vectors whose variances fall by a factor, mixed by a random rotation, with a mean."""
    rng = np.random.default_rng(seed)
    mixed = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return (rng.normal(size=(rows, dim)) * 0.7 ** np.arange(dim) @ mixed + 3).astype(np.float32)


def test_columns_are_the_covariance_eigenvectors():
    vectors = _spread()
    axes = search.principal_axes(vectors).astype(np.float64)
    covariance = np.cov(vectors.astype(np.float64), rowvar=False, bias=True)
    variances = np.linalg.eigvalsh(covariance)[::-1]
    np.testing.assert_allclose(covariance @ axes, axes * variances, atol=1e-4)


def test_inner_products_stay():
    vectors = _spread(rows=70_000, dim=5)  # more than one chunk
    axes = search.principal_axes(vectors)
    np.testing.assert_allclose(axes.T @ axes, np.eye(5), atol=1e-6)
    turned = rotate(vectors, axes)
    np.testing.assert_allclose(turned[:50] @ turned[-50:].T, vectors[:50] @ vectors[-50:].T, 1e-5)


def test_no_axes_no_turn():
    vectors = _spread(rows=5)
    assert rotate(vectors, None) is vectors


def test_bad_vectors_are_named():
    with pytest.raises(ValueError, match="expected at least one document"):
        search.principal_axes(np.zeros((0, 3), np.float32))
    with pytest.raises(ValueError, match="NaN or infinity in row 1"):
        search.principal_axes(np.array([[1.0, 2.0], [np.nan, 0.0]]))
