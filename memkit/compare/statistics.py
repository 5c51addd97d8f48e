"""Statistics of comparisons: every pair of memories on the same rows, and how sure one can be.

For scores a and b in [0, 1] of the same rows:

    risk difference   mean(a) - mean(b), with its interval by paired bootstrap over subjects
    p over subjects   t test of the difference with the variance of subjects' sums, G - 1 degrees of
                      freedom for G subjects (Liang & Zeger, Biometrika 1986)
    McNemar           exact p of the rows on which one is right and the other wrong
    Cohen's h         2 asin sqrt mean(a) - 2 asin sqrt mean(b)      (Cohen 1988, chapter 6)
    odds ratio        of these rows, n(a only) / n(b only), with the exact interval of a binomial
                      share (Clopper & Pearson 1934)

A verdict asks all of them, since each has its weakness: interval and t test are a little liberal on
few subjects, and McNemar's test takes rows on one subject as independent. Its p is the larger of
the two, corrected over all pairs of a table by Holm's method (1979). A difference is a win only if
its interval leaves out 0 and the corrected p is below 0.05.

Seeds draw other rows, facts and passages: rows of all seeds are pooled, a subject is one group
whatever the seed, and the standard deviation of the seeds' means stands beside.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput
from memkit.metrics import Difference, paired_bootstrap, wilson_interval
from memkit.protocols.routing_scores import mcnemar

__all__ = [
    "Key",
    "Pair",
    "Score",
    "Scores",
    "cohens_h",
    "holm",
    "judged",
    "odds_ratio",
    "over_groups",
    "pairs",
    "score",
]

ALPHA = 0.05
Key = tuple[int, str]  # seed and row
Verdict = Literal["a", "b", "open"]


@dataclass(frozen=True, slots=True)
class Scores:
    """One memory's scores in [0, 1], by seed and row, and the subject of each row."""

    values: Mapping[Key, float]
    groups: Mapping[Key, Hashable]


@dataclass(frozen=True, slots=True)
class Score:
    """A mean with its 95 % interval over subjects.

    `seeds` are the means of each seed, `deviation` their standard deviation (n - 1); None for one.
    """

    mean: float
    low: float
    high: float
    rows: int
    seeds: tuple[float, ...]
    deviation: float | None


@dataclass(frozen=True, slots=True)
class Pair:
    """`a` against `b` on the rows that both answered, with the means of both there.

    `subjects` is the p-value over subjects; `mcnemar` is None where a score is neither 0 nor 1. `p`
    is the larger of the two, `holm` the same corrected over the table. `ratio` is (odds ratio, low,
    high). `verdict` names the winner, or "open".
    """

    a: str
    b: str
    rows: int
    means: tuple[float, float]
    difference: Difference
    subjects: float
    mcnemar: float | None
    p: float
    holm: float
    h: float
    ratio: tuple[float, float, float]
    verdict: Verdict


def score(scores: Scores) -> Score:
    """Mean, interval and spread over seeds. Raises `BadInput` without rows."""
    keys = sorted(scores.values)
    values = [scores.values[key] for key in keys]
    low, high = wilson_interval(values, [scores.groups[key] for key in keys])
    seeds = [
        float(np.mean([scores.values[key] for key in own]))
        for _, own in itertools.groupby(keys, key=lambda key: key[0])
    ]
    spread = float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None
    return Score(float(np.mean(values)), low, high, len(values), tuple(seeds), spread)


def pairs(
    memories: Mapping[str, Scores],
    *,
    fair: Callable[[str, str], bool] = lambda a, b: True,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[Pair, ...]:
    """Every pair of memories of a table, the earlier one first, that it is `fair` to compare.

    Pairs without a common row are left out. Raises `BadInput` for a score outside of [0, 1].
    """
    found = []
    for (a, one), (b, other) in itertools.combinations(memories.items(), 2):
        keys = sorted(one.values.keys() & other.values.keys())
        if keys and fair(a, b):
            found.append(_pair(a, b, one, other, keys, resamples, seed))
    corrected = holm([pair.p for pair in found])
    return tuple(judged(pair, p) for pair, p in zip(found, corrected, strict=True))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's corrected p-values: max over smaller ones of (m - i) p_(i), i from 0, at most 1.

    Source: Holm, Scandinavian Journal of Statistics 1979.
    """
    order = sorted(range(len(ps)), key=lambda place: ps[place])
    corrected, worst = [0.0] * len(ps), 0.0
    for rank, place in enumerate(order):
        worst = max(worst, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = worst
    return corrected


def over_groups(differences: npt.NDArray[np.float64], groups: Sequence[Hashable]) -> float:
    """The two-sided p-value of a mean difference of 0, where groups are what was sampled.

    With the sums s_g and sizes n_g of G groups and the mean d = sum s_g / n:

        t = d / sqrt(G/(G - 1) sum (s_g - d n_g)^2) n,   G - 1 degrees of freedom

    1 for one group; where no group varies it is 1 for a difference of 0, and else 0: the exact test
    beside it then decides.
    """
    from scipy import stats

    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    place = np.array([numbers[group] for group in groups])
    sums, sizes = np.bincount(place, weights=differences), np.bincount(place)
    mean, many = float(differences.mean()), len(numbers)
    if many == 1:
        return 1.0
    spread = math.sqrt(many / (many - 1) * float(((sums - mean * sizes) ** 2).sum()))
    if spread == 0:
        return float(mean == 0)
    return float(2 * stats.t.sf(abs(mean) * len(differences) / spread, many - 1))


def cohens_h(a: float, b: float) -> float:
    """Effect size of two shares: 0.2 is small, 0.5 medium, 0.8 large (Cohen 1988)."""
    return 2 * math.asin(math.sqrt(a)) - 2 * math.asin(math.sqrt(b))


def odds_ratio(only_a: int, only_b: int) -> tuple[float, float, float]:
    """n(a only) / n(b only) and its exact 95 % interval; (1, 0, inf) where they never differ."""
    from scipy import stats

    if only_a + only_b == 0:
        return 1.0, 0.0, math.inf
    share = stats.binomtest(only_a, only_a + only_b).proportion_ci(method="exact")
    return _odds(only_a / (only_a + only_b)), _odds(share.low), _odds(share.high)


def _odds(share: float) -> float:
    return math.inf if share >= 1 else share / (1 - share)


def _pair(
    a: str, b: str, one: Scores, other: Scores, keys: Sequence[Key], resamples: int, seed: int
) -> Pair:
    """A pair before its correction."""
    x, y = (np.array([scores.values[key] for key in keys]) for scores in (one, other))
    for value in (*x, *y):
        if not 0 <= value <= 1:
            raise BadInput(f"a score is {value!r}; allowed: numbers in [0, 1]. Correct its source.")
    groups = [one.groups[key] for key in keys]
    difference = paired_bootstrap(x, y, groups, resamples=resamples, seed=seed)
    exact, robust = mcnemar(x, y), over_groups(x - y, groups)
    return Pair(
        a=a,
        b=b,
        rows=len(keys),
        means=(float(x.mean()), float(y.mean())),
        difference=difference,
        subjects=robust,
        mcnemar=exact,
        p=max(robust, difference.p if exact is None else exact),
        holm=math.nan,
        h=cohens_h(float(x.mean()), float(y.mean())),
        ratio=odds_ratio(int((x > y).sum()), int((y > x).sum())),
        verdict="open",
    )


def judged(pair: Pair, corrected: float) -> Pair:
    """The pair with its corrected p, and who has won, if anyone has."""
    verdict: Verdict = "open"
    found = pair.difference
    if corrected < ALPHA and not found.low <= 0 <= found.high:
        verdict = "a" if found.value > 0 else "b"
    return dataclasses.replace(pair, holm=corrected, verdict=verdict)
