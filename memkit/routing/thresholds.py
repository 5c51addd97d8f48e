"""Thresholds on a score: the best one for cached outcomes, and how sure it is."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput

__all__ = ["best_threshold", "threshold_interval"]

Floats = npt.NDArray[np.float64]


def best_threshold(scores: Floats, gain: Floats, candidates: Floats | None = None) -> float:
    """The lowest candidate t with the largest sum of `gain` over scores below t.

    `gain` is what retrieval adds to each question's score. Candidates are in ascending order; None
    are minus infinity, every distinct score, infinity. Between two neighbouring scores all
    thresholds are alike; the upper one stands for them.
    """
    if candidates is None:
        candidates = np.concatenate([[-np.inf], np.unique(scores), [np.inf]])
    order = np.argsort(scores, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(gain[order])])
    totals = sums[np.searchsorted(scores[order], candidates, side="left")]
    return float(candidates[np.argmax(totals.round(9))])  # rounded: equal sums must tie


def threshold_interval(
    scores: Floats,
    gain: Floats,
    groups: Sequence[Hashable],
    *,
    resamples: int = 500,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % percentile interval of `best_threshold` when groups are drawn with replacement.

    An end may be infinite: then always (or never) retrieving fits nearly as well. A wide interval
    is usual; it is the accuracy that a threshold gives which is stable, not the threshold.

    Raises `BadInput` without scores.
    """
    if not len(scores):
        raise BadInput("there are no scores; allowed: at least one. Fit on known outcomes.")
    numbers = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    index = np.array([numbers[group] for group in groups])
    values, place = np.unique(scores, return_inverse=True)
    candidates = np.concatenate([[-np.inf], values, [np.inf]])
    rng = np.random.default_rng(seed)
    share = np.full(len(numbers), 1 / len(numbers))
    found = np.empty(resamples)
    for row in range(resamples):
        times = rng.multinomial(len(numbers), share)[index]
        totals = np.bincount(place, weights=gain * times, minlength=len(values))
        below = np.concatenate([[0.0, 0.0], np.cumsum(totals)])
        found[row] = candidates[np.argmax(below.round(9))]
    low, high = np.quantile(found, [0.025, 0.975], method="closest_observation")
    return float(low), float(high)
