"""What the popularity protocol counts: strata of questions, comparisons, a router's scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput
from memkit.metrics import paired_bootstrap
from memkit.protocols.arms import Arm, Cell
from memkit.protocols.popularity_result import Comparison, Group, Row, SignalScores, Threshold
from memkit.protocols.routing_scores import (
    area_gained,
    auroc,
    calibration_error,
    correlation,
    mcnemar,
    rate_curve,
)
from memkit.routing.calibration import fit_chance
from memkit.routing.thresholds import best_threshold, threshold_interval
from memkit.types import Decision, Question

__all__ = ["Judged", "Strata", "comparisons"]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
RELATIVE = 10  # equal parts of relative popularity
RESAMPLES = 200  # for a threshold's interval


@dataclass(frozen=True, slots=True)
class Strata:
    """Questions by decile of popularity, by relative popularity and by relation, as row numbers.

    `views` are the page views, NaN where they are unknown.
    """

    views: Floats
    subjects: Sequence[str]
    deciles: Sequence[Rows]
    relative: Sequence[Rows]
    relations: Mapping[str, Rows]

    @classmethod
    def of(cls, questions: Sequence[Question], subjects: Sequence[str], deciles: int) -> Strata:
        """Raises `BadInput` for fewer than one decile."""
        views = np.array([np.nan if q.popularity is None else q.popularity for q in questions])
        names = sorted({q.relation for q in questions if q.relation is not None})
        own = np.array([q.relation for q in questions], dtype=object)
        relations = {name: np.flatnonzero(own == name) for name in names}
        return cls(
            views, subjects, _by_decile(views, deciles), _by_relative(views, relations), relations
        )

    def groups(self) -> tuple[Group, ...]:
        """Size and range of each decile."""
        parts = [self.views[rows] for rows in self.deciles]
        return tuple(
            Group(len(v), float(v.min()), float(v.max())) if len(v) else Group(0, None, None)
            for v in parts
        )

    def row(self, name: str, arm: Arm, beside: dict[str, float]) -> Row:
        """An arm's row of the report."""
        everything = np.arange(len(self.views))
        return Row(
            name,
            arm.cell(everything, self.subjects),
            self._cells(arm, self.deciles),
            self._cells(arm, self.relative),
            {relation: arm.cell(rows, self.subjects) for relation, rows in self.relations.items()},
            self._correlation(arm, everything),
            {relation: self._correlation(arm, rows) for relation, rows in self.relations.items()},
            beside,
        )

    def _cells(self, arm: Arm, parts: Sequence[Rows]) -> tuple[Cell | None, ...]:
        return tuple(arm.cell(rows, self.subjects) if len(rows) else None for rows in parts)

    def _correlation(self, arm: Arm, rows: Rows) -> float | None:
        known = rows[~np.isnan(self.views[rows])]
        return correlation(self.views[known], arm.right[known])


def _by_decile(views: Floats, deciles: int) -> list[Rows]:
    """The questions of each decile, the rarest first."""
    if deciles < 1:
        raise BadInput(f"deciles is {deciles!r}; allowed: at least 1.")
    rows = np.flatnonzero(~np.isnan(views))
    _, place, counts = np.unique(views[rows], return_inverse=True, return_counts=True)
    mid_rank = (np.cumsum(counts) - counts / 2) / max(1, len(rows))
    decile = np.floor(mid_rank * deciles)[place]
    return [rows[decile == number] for number in range(deciles)]


def _by_relative(views: Floats, relations: Mapping[str, Rows]) -> list[Rows]:
    """The questions of each tenth of relative popularity; of a relation of one value: none."""
    part = np.full(len(views), -1)
    for rows in relations.values():
        known = rows[~np.isnan(views[rows])]
        logs = np.log1p(views[known])
        if len(known) and np.ptp(logs) > 0:
            share = (logs - logs.min()) / np.ptp(logs)
            part[known] = np.minimum((share * RELATIVE).astype(int), RELATIVE - 1)
    return [np.flatnonzero(part == number) for number in range(RELATIVE)]


def comparisons(
    scored: Mapping[str, Arm], router: str, subjects: Sequence[str], seed: int
) -> tuple[Comparison, ...]:
    """The row `router` against every other one."""
    own = scored[router].right
    return tuple(
        Comparison(
            name,
            paired_bootstrap(own, arm.right, subjects, seed=seed),
            mcnemar(own, arm.right),
        )
        for name, arm in scored.items()
        if name != router
    )


@dataclass(frozen=True, slots=True)
class Judged:
    """A router's out-of-sample scores with what they are judged by, in arrays of [questions].

    `sign` is 1 where text is fetched below a threshold, else -1; `known` says which questions have
    a score, `confidence` is sign times the score, and infinite, in favour of the road that was
    taken, where there is none.
    """

    sign: int
    known: npt.NDArray[np.bool_]
    confidence: Floats
    p: Floats
    r: Floats
    fold: Rows
    subjects: Sequence[str]

    @classmethod
    def of(
        cls,
        decisions: Sequence[Decision],
        p: Floats,
        r: Floats,
        fold: Rows,
        subjects: Sequence[str],
    ) -> Judged | None:
        """None where no decision has both score and threshold."""
        sides = [_side(decision) for decision in decisions]
        if not any(sides):
            return None
        sign = 1 if sum(sides) >= 0 else -1
        known = np.array([d.score is not None for d in decisions])
        confidence = np.array([_confidence(decision, sign) for decision in decisions])
        return cls(sign, known, confidence, p, r, fold, subjects)

    def scores(self) -> SignalScores:
        """What the report says of the signal."""
        curve = rate_curve(self.p, self.r, self.confidence)
        differ = self.p != self.r
        better = (self.p > self.r).astype(float)
        return SignalScores(
            curve=curve,
            area=area_gained(self.p, self.r, curve),
            known=auroc(self.p, self.confidence),
            flips=auroc(better[differ], self.confidence[differ]),
            calibration_error=calibration_error(self._chances(), self.p),
        )

    def _chances(self) -> Floats:
        """The chance of being right from the weights, learnt on the other folds."""
        chances = np.empty(len(self.p))
        for number in np.unique(self.fold):
            rest, own = self.fold != number, self.fold == number
            chance = fit_chance(self.confidence[rest], self.p[rest], float(self.p[rest].mean()))
            values = self.confidence[own]
            chances[own] = [chance(float(value)) for value in values]
        return chances.clip(0, 1)

    def thresholds(self, relations: Mapping[str, Rows], seed: int) -> dict[str, Threshold]:
        """The best threshold overall ("") and of each relation, with its interval."""
        everything = np.arange(len(self.p))
        found = {}
        for name, rows in {"": everything, **relations}.items():
            rows = rows[self.known[rows]]
            if not len(rows):
                continue
            scores, gain = self.confidence[rows], (self.r - self.p)[rows]
            value = best_threshold(scores, gain)
            groups = [self.subjects[row] for row in rows]
            ends = threshold_interval(scores, gain, groups, resamples=RESAMPLES, seed=seed)
            low, high = sorted(self.sign * end for end in ends)
            found[name] = Threshold(self.sign * value, low, high)
        return found


def _side(decision: Decision) -> int:
    """1 where the decision fits "text below the threshold", -1 for above, 0 for neither."""
    if decision.score is None or decision.threshold is None or decision.source == "abstain":
        return 0
    below = decision.score < decision.threshold
    if decision.score == decision.threshold:
        return 0
    return 1 if below == (decision.source == "retrieval") else -1


def _confidence(decision: Decision, sign: int) -> float:
    if decision.score is not None:
        return sign * decision.score
    return -np.inf if decision.source == "retrieval" else np.inf
