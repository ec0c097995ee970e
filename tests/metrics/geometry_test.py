"""Geometry of vectors against closed forms."""

import numpy as np
import pytest

from gemb.metrics import geometry


def test_effective_rank_of_known_spectra():
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.normal(size=(20, 3)))[0]
    right = np.linalg.qr(rng.normal(size=(6, 3)))[0]
    values = np.array([4.0, 2.0, 2.0])
    share = values / 8
    got = geometry.effective_rank(left * values @ right.T, center=False)
    assert got == pytest.approx(np.exp(-np.sum(share * np.log(share))))
    assert geometry.effective_rank(np.ones((5, 3))) == 0.0
    assert geometry.effective_rank(np.ones((5, 3)), center=False) == pytest.approx(1.0)


def test_isotropy_of_opposite_pairs():
    # along the axis Z = e^2 + e^-2 + 2, across it Z = 4 and 2 + 2 cosh 1
    vectors = np.array([[2.0, 0], [-2, 0], [0, 1], [0, -1]])
    z = np.array([2 * np.cosh(2) + 2, 2 * np.cosh(1) + 2])
    assert geometry.isotropy(vectors) == pytest.approx(z.min() / z.max())
    assert geometry.isotropy(vectors * 1e4) == 0.0  # and no overflow


def test_mean_cosine_and_uniformity_pair_by_pair():
    vectors = np.random.default_rng(1).normal(size=(7, 3))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [(unit[i], unit[j]) for i in range(7) for j in range(7) if i != j]
    cosine = np.mean([x @ y for x, y in pairs])
    potential = np.log(np.mean([np.exp(-3 * np.sum((x - y) ** 2)) for x, y in pairs]))
    assert geometry.mean_cosine(vectors) == pytest.approx(cosine)
    assert geometry.uniformity(vectors, scale=3.0) == pytest.approx(potential)


def test_alignment_of_opposites():
    rows = np.random.default_rng(2).normal(size=(4, 3))
    assert geometry.alignment(rows, -2 * rows) == pytest.approx(4.0)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="right: expected shape"):
        geometry.alignment(np.ones((2, 3)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="vectors: expected a floating dtype"):
        geometry.isotropy(np.ones((2, 2), int))
    with pytest.raises(ValueError, match="at least 2 rows"):
        geometry.mean_cosine(np.ones((1, 2)))


def test_truncate_keeps_directions():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 12))
    kept = geometry.truncate(vectors, 5)
    expected = vectors[:, :5] / np.sqrt((vectors[:, :5] ** 2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(kept, expected, atol=1e-6)
    assert kept.dtype == np.float32


def test_truncate_leaves_zeros_and_refuses_what_is_not_finite():
    vectors = np.eye(4)
    np.testing.assert_array_equal(geometry.truncate(vectors, 2), vectors[:, :2])
    vectors[1, 0] = np.nan
    with pytest.raises(ValueError, match=r"vectors: expected finite values, got NaN.* row 1"):
        geometry.truncate(vectors, 4)
    with pytest.raises(ValueError, match="expected widths between 1 and 4, got 5"):
        geometry.truncate(np.eye(4), 5)
