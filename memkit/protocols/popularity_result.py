"""What `memkit.protocols.popularity` finds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from memkit.errors import BadInput
from memkit.metrics import Difference
from memkit.protocols.arms import Cell
from memkit.protocols.routing_scores import Curve

__all__ = [
    "Comparison",
    "Group",
    "PopularityReport",
    "Routes",
    "Row",
    "SignalScores",
    "Threshold",
]


@dataclass(frozen=True, slots=True)
class Row:
    """One arm, or one way of mixing two.

    Overall, by decile of popularity, by tenth of relative popularity (both None: empty), by
    relation. `correlation` is that of ln(1 + page views) with being right, overall and by relation;
    None where one of the two is constant. `beside` is the accuracy by other rules, by name.
    """

    name: str
    overall: Cell
    deciles: tuple[Cell | None, ...]
    relative: tuple[Cell | None, ...]
    relations: dict[str, Cell]
    correlation: float | None
    correlations: dict[str, float | None]
    beside: dict[str, float]


@dataclass(frozen=True, slots=True)
class Group:
    """A decile: how many questions it has, and their smallest and largest page views."""

    questions: int
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Routes:
    """What the router's choices did, in questions; the six add up to all of them.

    Retrieved and better for it, retrieved and worse, retrieved and the same; not retrieved where it
    would have been better, and not retrieved where it would not; abstained from.
    """

    helped: int
    hurt: int
    same: int
    missed: int
    fine: int
    abstained: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """The router's accuracy less that of another row, on the same questions.

    `mcnemar` is the exact p-value over questions; None where a score is neither 0 nor 1, as for
    random routing.
    """

    other: str
    difference: Difference
    mcnemar: float | None


@dataclass(frozen=True, slots=True)
class Threshold:
    """The best threshold on all questions, with its 95 % interval over subjects."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SignalScores:
    """How good the router's score is, whatever the threshold; scores are out of sample.

    `curve` is accuracy by share retrieved for, `area` its area between chance (0) and oracle (1).
    `known` is the AUROC for "right from the weights", `flips` that for "retrieval spoils it"
    against "retrieval mends it", other questions left out. `calibration_error` is the ECE of the
    chance of being right from the weights, which isotonic regression on the other folds makes of
    the score.
    """

    curve: Curve
    area: float | None
    known: float | None
    flips: float | None
    calibration_error: float


@dataclass(frozen=True, slots=True)
class PopularityReport:
    """What `popularity` found.

    `rows` are the arms as given, then router, random at the same rate, oracle. `unknown` counts
    the questions of unknown popularity, `relations` the questions of each relation. `gain` is the
    accuracy of the router less that of `best`, the better of the arms `weights` and `retrieval`;
    it is `significant` if its interval lies above 0. `gap_closed` is the share of the possible
    gain, None if there is none to be had. `comparisons` set the router against every other row.
    `signal` is None, and `thresholds` empty, for a router without scores, or with scores of several
    units (`one_score` is false, as a cascade says); `thresholds` has one for each relation, and ""
    for all questions. `answered_error` is the share of wrong answers among
    those that the router did not abstain from; None if there are none.
    """

    metric: str
    router: str
    folds: int
    seed: int
    weights: str
    retrieval: str
    questions: int
    subjects: int
    unknown: int
    deciles: tuple[Group, ...]
    relations: dict[str, int]
    rows: tuple[Row, ...]
    best: str
    gain: Difference
    significant: bool
    gap_closed: float | None
    routes: Routes
    comparisons: tuple[Comparison, ...]
    signal: SignalScores | None
    thresholds: dict[str, Threshold]
    answered_error: float | None

    def row(self, name: str) -> Row:
        """The row of that name. Raises `BadInput` if there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        names = ", ".join(repr(row.name) for row in self.rows)
        raise BadInput(f"the report has no row {name!r}; allowed: {names}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers; an infinite end of a threshold's interval is None."""
        row = dataclasses.asdict(self)
        row["thresholds"] = {
            name: {key: value if abs(value) < float("inf") else None for key, value in t.items()}
            for name, t in row["thresholds"].items()
        }
        return row
