"""The best of a row of scores, against a stable sort."""

import numpy as np
import pytest

from gemb.search.selection import best_rows


def _reference(scores, count):
    return np.sort(np.argsort(-scores, kind="stable")[:count])


@pytest.mark.parametrize("rows", [1, 7, 4_095, 4_096, 20_011])
@pytest.mark.parametrize("count", [1, 5, 300, 2_000, 50_000])
def test_matches_a_stable_sort(rows, count):
    scores = np.random.default_rng(rows).normal(size=rows).astype(np.float32)
    np.testing.assert_array_equal(best_rows(scores, count), _reference(scores, count))


@pytest.mark.parametrize("levels", [1, 2, 30])
def test_ties_go_to_the_lower_row(levels):
    scores = np.random.default_rng(0).integers(0, levels, 10_000).astype(np.float32)
    for count in (1, 40, 400):
        np.testing.assert_array_equal(best_rows(scores, count), _reference(scores, count))


def test_the_best_at_the_very_end_is_found():
    scores = np.zeros(16 * 1_000 + 3, np.float32)  # three rows beyond the folds
    scores[-1] = 1
    np.testing.assert_array_equal(best_rows(scores, 1), [len(scores) - 1])
