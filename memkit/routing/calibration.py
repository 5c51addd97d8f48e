"""From a score to the chance of being right: isotonic regression, rising or falling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Chance", "fit_chance"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Chance:
    """The chance of being right at a score, linear between the scores that were seen.

    `mean` is the chance where there is no score, or where only one was seen.
    """

    scores: Floats
    chances: Floats
    mean: float

    def __call__(self, score: float | None) -> float:
        """The chance, in [0, 1]."""
        if score is None or not len(self.scores):
            return self.mean
        return float(np.interp(score, self.scores, self.chances))


def fit_chance(scores: Floats, right: Floats, mean: float) -> Chance:
    """Isotonic regression of `right` in [0, 1] on finite scores, in the direction that fits better.

    Of two directions that fit alike, the rising one is taken.
    """
    from scipy.optimize import isotonic_regression

    finite = np.isfinite(scores)
    scores, right = scores[finite], right[finite]
    values, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    if len(values) < 2:
        return Chance(np.empty(0), np.empty(0), mean)
    means, weights = np.bincount(place, weights=right) / counts, counts.astype(float)
    lines = [
        np.asarray(isotonic_regression(means, weights=weights, increasing=rising).x, dtype=float)
        for rising in (True, False)
    ]
    errors = [float((weights * (line - means) ** 2).sum().round(9)) for line in lines]
    return Chance(values, lines[int(np.argmin(errors))], mean)
