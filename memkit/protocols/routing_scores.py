"""Figures that score a router's signal: pure functions, each with its formula.

Notation for each question: p right from the weights, r right with retrieval, both in [0, 1], and a
confidence c, larger where the weights are trusted more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput

__all__ = [
    "Curve",
    "area_gained",
    "auroc",
    "calibration_error",
    "correlation",
    "mcnemar",
    "rate_curve",
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy at each share of questions that are retrieved for, from none (0) to all (1)."""

    rates: tuple[float, ...]
    accuracies: tuple[float, ...]

    def area(self) -> float:
        """Under the curve, by trapezoids."""
        return float(np.trapezoid(self.accuracies, self.rates))


def rate_curve(p: Floats, r: Floats, confidence: Floats) -> Curve:
    """The curve of retrieving for the least confident first: a point at each distinct confidence.

        accuracy(k/n) = [ sum over the k least confident of r + sum over the others of p ] / n

    Between two points it is straight: what drawing at random among ties gives on average.
    """
    values, place = np.unique(confidence, return_inverse=True)
    sizes = np.bincount(place, minlength=len(values))
    gains = np.bincount(place, weights=r - p, minlength=len(values))
    rates = np.concatenate([[0.0], np.cumsum(sizes)]) / len(p)
    accuracies = p.mean() + np.concatenate([[0.0], np.cumsum(gains)]) / len(p)
    return Curve(tuple(rates.tolist()), tuple(accuracies.tolist()))


def area_gained(p: Floats, r: Floats, curve: Curve) -> float | None:
    """The curve's area between the straight line from never to always (0) and the oracle's (1).

    The oracle's curve retrieves first where most is gained. Negative for a signal that is worse
    than chance; None if no order could gain anything.
    """
    line = float(p.mean() + r.mean()) / 2
    best = rate_curve(p, r, p - r).area()
    return (curve.area() - line) / (best - line) if best - line > 1e-12 else None


def auroc(positive: Floats, scores: Floats) -> float | None:
    """P(score of a positive > score of a negative) + half that of equality; None without either.

    The Mann-Whitney U statistic over the number of pairs (scipy).
    """
    ones, zeros = scores[positive > 0.5], scores[positive <= 0.5]
    if not len(ones) or not len(zeros):
        return None
    from scipy import stats

    return float(stats.mannwhitneyu(ones, zeros).statistic) / (len(ones) * len(zeros))


def calibration_error(chances: Floats, right: Floats, bins: int = 10) -> float:
    """ECE: sum over equal-width bins of (n_b / n) |mean right - mean chance|.

    Source: Guo et al., ICML 2017, eq. 3.

    Raises `BadInput` for a chance outside of [0, 1].
    """
    if not ((chances >= 0) & (chances <= 1)).all():
        raise BadInput("a chance is outside of [0, 1]; allowed: probabilities. Calibrate first.")
    place = np.minimum((chances * bins).astype(int), bins - 1)
    sums = np.bincount(place, weights=right - chances, minlength=bins)
    return float(np.abs(sums).sum() / len(right))


def mcnemar(a: Floats, b: Floats) -> float | None:
    """The exact two-sided p-value of two rules being right equally often on the same questions.

    Of the questions on which they differ, each is as likely to be won by either: a binomial test
    (scipy) of the a-only among them; 1 if there are none. None if a score is neither 0 nor 1.

    Source: McNemar, Psychometrika 1947. It takes questions as independent; where several are about
    one subject, the bootstrap over subjects is the better guide.
    """
    if not set(np.unique(np.concatenate([a, b])).tolist()) <= {0.0, 1.0}:
        return None
    only_a, only_b = int((a > b).sum()), int((b > a).sum())
    if only_a + only_b == 0:
        return 1.0
    from scipy import stats

    return float(stats.binomtest(only_a, only_a + only_b).pvalue)


def correlation(popularity: Floats, right: Floats) -> float | None:
    """Pearson's r of ln(1 + page views) with being right; None if one of the two is constant.

    Source: Mallen et al., ACL 2023, section 4, who take the logarithm of the views; 1 is added
    here, so that a count of zero has one.
    """
    logs = np.log1p(popularity)
    if len(logs) < 2 or np.ptp(logs) == 0 or np.ptp(right) == 0:
        return None
    return float(np.corrcoef(logs, right)[0, 1])
