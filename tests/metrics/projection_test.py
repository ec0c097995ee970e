"""Projections onto a plane: PCA and t-SNE, few points, bad input."""

import sys

import numpy as np
import pytest

from gemb.checks import UserError
from gemb.metrics import projection


def _vectors(rows=60, dim=12, seed=0):
    scales = 0.7 ** np.arange(dim)
    return (np.random.default_rng(seed).normal(size=(rows, dim)) * scales).astype(np.float32)


def test_pca_is_scikit_learns():
    from sklearn.decomposition import PCA

    vectors = _vectors()
    expected = PCA(2, svd_solver="full").fit_transform(np.float64(vectors))
    found = projection.project(vectors)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)
    assert (found[np.abs(found).argmax(axis=0), [0, 1]] > 0).all()


@pytest.mark.parametrize("rows", [2, 3])
def test_few_points_have_a_place(rows):
    for method in ("pca", "tsne")[: 4 - rows]:
        found = projection.project(_vectors(rows), method)
        assert found.shape == (rows, 2)
        assert np.isfinite(found).all()
    same = projection.project(np.ones((4, 3), np.float32))
    np.testing.assert_array_equal(same, np.zeros((4, 2)))


@pytest.mark.extra("eval")
def test_tsne_keeps_groups_together():
    centres = np.repeat(np.eye(3, 12, dtype=np.float32) * 9, 8, axis=0)
    vectors, group = centres + _vectors(24) * 0.3, np.repeat([0, 1, 2], 8)
    found = projection.project(vectors, "tsne")
    apart = np.linalg.norm(found[:, None] - found[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (group[apart.argmin(axis=1)] == group).all()


def test_umap_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UserError, match=r"needs umap: pip install 'gemb\[maps\]'"):
        projection.project(_vectors(), "umap")
    for bad, message in (
        ({"method": "mds"}, "method: expected one of"),
        ({"vectors": np.ones((1, 3))}, "expected 2 or more, got 1"),
        ({"vectors": np.full((3, 3), np.nan)}, "expected finite values"),
    ):
        with pytest.raises(ValueError, match=message):
            projection.project(**{"vectors": _vectors(), "method": "pca"} | bad)
