"""Figures by hand, and against scikit-learn and statistics by brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from memkit.errors import BadInput
from memkit.protocols.routing_scores import (
    area_gained,
    auroc,
    calibration_error,
    correlation,
    mcnemar,
    rate_curve,
)

P = np.array([0.0, 1.0, 0.0, 1.0])
R = np.array([1.0, 0.0, 0.0, 1.0])


def test_curve_by_hand():
    curve = rate_curve(P, R, np.array([1.0, 4.0, 2.0, 3.0]))
    assert curve.rates == (0, 0.25, 0.5, 0.75, 1)
    assert curve.accuracies == (0.5, 0.75, 0.75, 0.75, 0.5)
    assert curve.area() == pytest.approx(0.25 * (0.625 + 0.75 + 0.75 + 0.625))
    line = 0.5  # never and always are right equally often
    assert area_gained(P, R, curve) == pytest.approx((curve.area() - line) / (0.6875 - line))
    tied = rate_curve(P, R, np.ones(4))
    assert (tied.rates, tied.accuracies) == ((0, 1), (0.5, 0.5))
    assert area_gained(P, R, tied) == pytest.approx(0)


def test_area_is_1_for_the_oracles_order_and_below_0_for_its_reverse():
    rng = np.random.default_rng(0)
    p, r = rng.random(50) < 0.4, rng.random(50) < 0.6
    p, r = p.astype(float), r.astype(float)
    assert area_gained(p, r, rate_curve(p, r, p - r)) == pytest.approx(1)
    assert area_gained(p, r, rate_curve(p, r, r - p)) == pytest.approx(-1)
    assert area_gained(p, p, rate_curve(p, p, r)) is None  # nothing to gain


def test_curve_between_ties_is_what_chance_gives():
    gains = (R - P).tolist()
    at_half = []
    for order in itertools.permutations(range(4)):
        at_half.append(P.mean() + sum(gains[i] for i in order[:2]) / 4)
    curve = rate_curve(P, R, np.ones(4))
    assert np.interp(0.5, curve.rates, curve.accuracies) == pytest.approx(np.mean(at_half))


def test_auroc_is_scikit_learns():
    rng = np.random.default_rng(0)
    positive, scores = (rng.random(200) < 0.3).astype(float), rng.integers(0, 9, 200).astype(float)
    assert auroc(positive, scores) == pytest.approx(roc_auc_score(positive, scores))
    assert auroc(np.ones(3), np.arange(3.0)) is None
    infinite = np.where(scores == 0, -np.inf, scores)
    assert auroc(positive, infinite) == pytest.approx(roc_auc_score(positive, scores))


def test_calibration_error_by_hand():
    chances = np.array([0.05, 0.05, 0.95, 1.0, 0.5])
    right = np.array([0.0, 1.0, 1.0, 1.0, 0.5])
    expected = (abs(1 - 0.1) + abs(2 - 1.95) + 0) / 5
    assert calibration_error(chances, right) == pytest.approx(expected)
    with pytest.raises(BadInput, match=r"outside of \[0, 1\]"):
        calibration_error(np.array([1.2]), np.array([1.0]))


def test_mcnemar_by_hand():
    a = np.array([1, 1, 1, 1, 1, 0, 1, 0.0])
    b = np.array([0, 0, 0, 0, 0, 1, 1, 0.0])
    tail = sum(math.comb(6, k) for k in (0, 1)) / 2**6
    assert mcnemar(a, b) == mcnemar(b, a) == pytest.approx(2 * tail)
    assert mcnemar(a, a) == 1
    assert mcnemar(a, b / 2) is None


def test_correlation_by_hand():
    views = np.array([0, 1, 3, 7, 15.0])  # ln(1 + v) = ln 2 times 0 to 4
    right = np.array([0, 0, 1, 0, 1.0])
    assert correlation(views, right) == pytest.approx(np.corrcoef(range(5), right)[0, 1])
    assert correlation(views, np.ones(5)) is None
    assert correlation(np.ones(5), right) is None
