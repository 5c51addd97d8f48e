"""Accuracy by popularity, and what a router makes of it (Mallen et al., ACL 2023, sections 4-6).

Every question was answered once on every arm (closed book, a retriever, a gold passage, ...); from
these answers any router is scored without asking the model again.

Reported for each arm, and for three ways of mixing two of them, `weights` and `retrieval`:

    router    decides every question after being fitted on the others only: subjects are dealt
              into `folds` parts at random, and each part is decided by a router fitted on the rest
    random    retrieves for the router's share of the questions, whichever they are: the exact
              expectation, so nothing is drawn
    oracle    retrieves exactly where that is strictly better: the bound

Deciles are by popularity of the questions, 1 the rarest and 10 the most popular. All questions of
one popularity lie in one decile, that of their mid-rank; so deciles are as equal as ties allow, and
one between two large ties can be empty. Questions of unknown popularity are in no decile, those
without relation under no relation, and both in the totals.

Intervals take subjects as what was sampled, since questions on one subject are right or wrong
together: Wilson's for a share, a paired bootstrap for the gain. The gain is over the better of
never and always retrieving on these same questions, which is hard on the router.

Departures from the paper: cross-fitting instead of 100 random splits (here each question counts
once; `PopularityRouter.estimate_` is the paper's figure), and controls and intervals, of which it
has none.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput
from memkit.metrics import Difference, exact_match, oracle_gap_closed, paired_bootstrap
from memkit.protocols.arms import Arm, Cell, Metric, check_same_questions, outcomes
from memkit.routing.base import Outcome, TrainableRouter
from memkit.routing.popularity import PopularityRouter
from memkit.types import Answer, Question

__all__ = ["Group", "PopularityReport", "Routes", "Row", "popularity"]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
ROUTER, RANDOM, ORACLE = "router", "random at the same rate", "oracle"


@dataclass(frozen=True, slots=True)
class Row:
    """One arm, or one way of mixing two: overall, by decile (None: empty), by relation."""

    name: str
    overall: Cell
    deciles: tuple[Cell | None, ...]
    relations: dict[str, Cell]


@dataclass(frozen=True, slots=True)
class Group:
    """A decile: how many questions it has, and their smallest and largest page views."""

    questions: int
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Routes:
    """What the router's choices did, in questions; the five add up to all of them.

    Retrieved and better for it, retrieved and worse, retrieved and the same; not retrieved where it
    would have been better, and not retrieved where it would not.
    """

    helped: int
    hurt: int
    same: int
    missed: int
    fine: int


@dataclass(frozen=True, slots=True)
class PopularityReport:
    """What `popularity` found.

    `rows` are the arms as given, then router, random at the same rate, oracle. `unknown` counts
    the questions of unknown popularity, `relations` the questions of each relation. `gain` is the
    accuracy of the router less that of `best`, the better of the arms `weights` and `retrieval`;
    it is `significant` if its interval lies above 0. `gap_closed` is the share of the possible
    gain, None if there is none to be had.
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

    def row(self, name: str) -> Row:
        """The row of that name. Raises `BadInput` if there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        names = ", ".join(repr(row.name) for row in self.rows)
        raise BadInput(f"the report has no row {name!r}; allowed: {names}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return dataclasses.asdict(self)


def popularity(
    arms: Mapping[str, Sequence[Answer]],
    *,
    weights: str,
    retrieval: str,
    router: TrainableRouter | None = None,
    metric: Metric = exact_match,
    folds: int = 5,
    deciles: int = 10,
    seed: int = 0,
) -> PopularityReport:
    """Score arms, and a router between the arms named `weights` and `retrieval`, by popularity.

    `router` (default: `PopularityRouter(splits=0)`) is copied before each fit and stays as it is.
    `seed` deals the subjects into `folds` parts and draws the bootstrap.

    Raises `BadInput` for arms that do not answer the same questions in the same order, for a
    question without accepted answers, for names that are no arm, and for fewer subjects than folds.
    """
    _check_arms(arms, weights, retrieval)
    questions = [answer.question for answer in arms[weights]]
    subjects = [question.subject or question.text for question in questions]
    router = PopularityRouter(splits=0) if router is None else router
    scored = {name: Arm.of(answers, metric) for name, answers in arms.items()}
    p, r = scored[weights], scored[retrieval]
    known = outcomes(arms[weights], arms[retrieval], metric)
    z = _cross_fitted(router, known, _deal(subjects, folds, seed))
    scored |= {
        ROUTER: p.mixed(r, z),
        RANDOM: p.mixed(r, np.full_like(z, z.mean())),
        ORACLE: p.mixed(r, (r.right > p.right).astype(float)),
    }
    never, always, routed, oracle = (
        float(scored[name].right.mean()) for name in (weights, retrieval, ROUTER, ORACLE)
    )
    best = retrieval if always > never else weights
    gain = paired_bootstrap(scored[ROUTER].right, scored[best].right, subjects, seed=seed)
    of_decile, of_relation = _by_decile(questions, deciles), _by_relation(questions)
    return PopularityReport(
        metric=getattr(metric, "__name__", repr(metric)),
        router=repr(router),
        folds=folds,
        seed=seed,
        weights=weights,
        retrieval=retrieval,
        questions=len(questions),
        subjects=len(set(subjects)),
        unknown=sum(question.popularity is None for question in questions),
        deciles=tuple(_group(questions, rows) for rows in of_decile),
        relations={relation: len(rows) for relation, rows in of_relation.items()},
        rows=tuple(_row(*pair, subjects, of_decile, of_relation) for pair in scored.items()),
        best=best,
        gain=gain,
        significant=gain.low > 0,
        gap_closed=oracle_gap_closed(routed, never, always, oracle),
        routes=_routes(z == 1, p.right, r.right),
    )


def _row(
    name: str,
    arm: Arm,
    subjects: Sequence[str],
    of_decile: Sequence[Rows],
    of_relation: Mapping[str, Rows],
) -> Row:
    """Overall, by decile, by relation."""
    return Row(
        name,
        arm.cell(np.arange(len(subjects)), subjects),
        tuple(arm.cell(rows, subjects) if len(rows) else None for rows in of_decile),
        {relation: arm.cell(rows, subjects) for relation, rows in of_relation.items()},
    )


def _check_arms(arms: Mapping[str, Sequence[Answer]], weights: str, retrieval: str) -> None:
    """Raise `BadInput` unless both roads are arms, and names and questions are fine."""
    for name in (weights, retrieval):
        if name not in arms:
            raise BadInput(f"{name!r} is no arm; allowed: {', '.join(map(repr, arms))}.")
    if weights == retrieval:
        raise BadInput(f"weights and retrieval are both {weights!r}; allowed: two arms.")
    for name in (ROUTER, RANDOM, ORACLE):
        if name in arms:
            raise BadInput(f"an arm is named {name!r}, as a row of the report is; rename it.")
    check_same_questions(arms)


def _deal(subjects: Sequence[str], folds: int, seed: int) -> Rows:
    """The fold of each question: subjects are shuffled and dealt in turn."""
    names = list(dict.fromkeys(subjects))
    if not 2 <= folds <= len(names):
        raise BadInput(
            f"folds is {folds!r} for {len(names)} subjects; allowed: from 2 to the number of "
            "subjects, so that every router is fitted on other subjects than it decides."
        )
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[place]: turn % folds for turn, place in enumerate(order)}
    return np.array([fold_of[subject] for subject in subjects])


def _cross_fitted(router: TrainableRouter, known: Sequence[Outcome], fold: Rows) -> Floats:
    """1 for each question that a router fitted on the other folds retrieves for, else 0."""
    retrieved = np.zeros(len(known))
    for number in np.unique(fold):
        train = [outcome for outcome, own in zip(known, fold, strict=True) if own != number]
        fitted = copy.deepcopy(router).fit(train)
        for row in np.flatnonzero(fold == number).tolist():
            retrieved[row] = fitted.decide(known[row].question).source == "retrieval"
    return retrieved


def _by_decile(questions: Sequence[Question], deciles: int) -> list[Rows]:
    """The questions of each decile, the rarest first, see the module."""
    if deciles < 1:
        raise BadInput(f"deciles is {deciles!r}; allowed: at least 1.")
    rows = np.array([i for i, q in enumerate(questions) if q.popularity is not None], dtype=int)
    views = np.array([q.popularity for q in questions if q.popularity is not None])
    _, place, counts = np.unique(views, return_inverse=True, return_counts=True)
    mid_rank = (np.cumsum(counts) - counts / 2) / max(1, len(views))
    decile = np.floor(mid_rank * deciles)[place]
    return [rows[decile == number] for number in range(deciles)]


def _by_relation(questions: Sequence[Question]) -> dict[str, Rows]:
    """The questions of each relation, in alphabetical order."""
    names = sorted({q.relation for q in questions if q.relation is not None})
    relations = np.array([q.relation for q in questions], dtype=object)
    return {name: np.flatnonzero(relations == name) for name in names}


def _group(questions: Sequence[Question], rows: Rows) -> Group:
    views = [v for v in (questions[row].popularity for row in rows) if v is not None]
    return Group(len(views), min(views, default=None), max(views, default=None))


def _routes(z: npt.NDArray[np.bool_], p: Floats, r: Floats) -> Routes:
    """Count what retrieving, and not retrieving, did."""
    counts = (z & (r > p), z & (r < p), z & (r == p), ~z & (r > p), ~z & (r <= p))
    return Routes(*(int(count.sum()) for count in counts))
