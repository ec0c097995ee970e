"""Convergence: the rule on made curves of each kind, with noise of many seeds."""

import math

import numpy as np
import pytest

from gemb.metrics.convergence import judge_training

STEPS = np.arange(80)
CURVES = {
    "settled": 1 + 2 * np.exp(-STEPS / 12),
    "falling": 3 - 0.02 * STEPS,
    "rising": 1 + 0.02 * STEPS,
    "flat": np.full(80, 2.0),
}
HELD_OUT = {
    "rises": [(0, 0.5), (40, 0.6), (80, 0.65)],
    "settles": [(0, 0.5), (40, 0.64), (80, 0.641)],
    "falls": [(0, 0.5), (40, 0.64), (80, 0.6)],
    "below the start": [(0, 0.5), (80, 0.45)],
    "none": [],
}


@pytest.mark.parametrize(
    ("curve", "held_out", "state"),
    [
        ("settled", "settles", "converged"),
        ("settled", "rises", "converged"),
        ("settled", "none", "converged"),
        ("flat", "settles", "converged"),
        ("falling", "rises", "underfits"),
        ("falling", "none", "underfits"),
        ("falling", "settles", "converged"),
        ("falling", "falls", "overfits"),
        ("settled", "falls", "overfits"),
        ("settled", "below the start", "overfits"),
        ("rising", "rises", "diverged"),
    ],
)
def test_made_curves(curve, held_out, state):
    found = [
        judge_training(
            CURVES[curve] + np.random.default_rng(seed).normal(size=80) * 0.05, HELD_OUT[held_out]
        ).state
        for seed in range(60)
    ]
    assert np.mean([each == state for each in found]) >= 0.95


def test_the_share_of_the_fall_by_hand():
    losses = np.repeat([4.0, 2.0, 1.5, 1.0], 5)
    found = judge_training(losses, [(10, 0.2), (20, 0.3)])
    assert found.falling == pytest.approx(0.5 / 3)
    assert (found.state, found.best_step) == ("underfits", 20)
    assert "17% of its fall" in found.reason


def test_what_cannot_be_judged():
    assert judge_training([1.0] * 7).state == "unclear"
    assert judge_training([1.0] * 7 + [math.nan]).state == "diverged"
    assert judge_training([1.0] * 8).falling == 0
    best = judge_training([1.0] * 8, [(0, 0.9), (8, 0.5)])
    assert best.best_step == 0
    assert "the model before training is better" in best.reason
