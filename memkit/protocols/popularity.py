"""Accuracy by popularity, and what a router makes of it (Mallen et al., ACL 2023, sections 4-6).

Every question was answered once on every arm (closed book, a retriever, a gold passage, ...); from
these answers any router is scored without asking the model again.

Reported for each arm, and for three ways of mixing two of them, `weights` and `retrieval`:

    router    decides every question after being fitted on the others only: subjects are dealt
              into `folds` parts at random, and each part is decided by a router fitted on the rest
    random    retrieves for the router's share of the questions, whichever they are: the exact
              expectation, so nothing is drawn
    oracle    retrieves exactly where that is strictly better: the bound

An abstention is a wrong answer in the router's accuracy; the error among what it answers stands
beside.

Deciles are by popularity of the questions, 1 the rarest and 10 the most popular. All questions of
one popularity lie in one decile, that of their mid-rank; so deciles are as equal as ties allow, and
one between two large ties can be empty. Questions of unknown popularity are in no decile, those
without relation under no relation, and both in the totals.

Relative popularity is a question's ln(1 + page views) between the least (0) and the most (1) of its
relation, in tenths: the axis of the paper's figure 8. Correlation of ln(1 + page views) with being
right, by relation, is that of its figure 4.

Intervals take subjects as what was sampled, since questions on one subject are right or wrong
together: Wilson's for a share, a paired bootstrap for the gain. The gain is over the better of
never and always retrieving on these same questions, which is hard on the router.

Departures from the paper: cross-fitting instead of 100 random splits (here each question counts
once; `PopularityRouter.estimate_` is the paper's figure), and controls and intervals, of which it
has none.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput
from memkit.metrics import contains, exact_match, oracle_gap_closed, popqa_substring, token_f1
from memkit.protocols.arms import Arm, Metric, check_same_questions, outcomes
from memkit.protocols.popularity_parts import Judged, Strata, comparisons
from memkit.protocols.popularity_result import PopularityReport, Routes
from memkit.routing.base import Outcome, Signals, TrainableRouter, decided
from memkit.routing.popularity import PopularityRouter
from memkit.types import Answer, Decision

__all__ = ["PopularityReport", "popularity"]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
BESIDE: Mapping[str, Metric] = MappingProxyType(
    {
        "EM": exact_match,
        "contains": contains,
        "F1": token_f1,
        "popqa-substring": popqa_substring,
    }
)
ROUTER, RANDOM, ORACLE = "router", "random at the same rate", "oracle"


def popularity(
    arms: Mapping[str, Sequence[Answer]],
    *,
    weights: str,
    retrieval: str,
    router: TrainableRouter | None = None,
    metric: Metric = exact_match,
    beside: Mapping[str, Metric] = BESIDE,
    signals: Sequence[Signals] | None = None,
    folds: int = 5,
    deciles: int = 10,
    seed: int = 0,
) -> PopularityReport:
    """Score arms, and a router between the arms named `weights` and `retrieval`, by popularity.

    `router` (default: `PopularityRouter(splits=0)`) is copied before each fit and stays as it is;
    `signals` are what it looks at, for each question (`QA.signals`). `beside` are other rules whose
    accuracy is printed, of the same routing. `seed` deals the subjects into `folds` parts and draws
    the bootstrap.

    Raises `BadInput` for arms that do not answer the same questions in the same order, for a
    question without accepted answers, for names that are no arm, and for fewer subjects than folds;
    `MissingSignal` for a signal that the router needs.
    """
    _check_arms(arms, weights, retrieval)
    questions = [answer.question for answer in arms[weights]]
    subjects = [question.subject or question.text for question in questions]
    router = PopularityRouter(splits=0) if router is None else router
    known = outcomes(arms[weights], arms[retrieval], metric, signals)
    fold = _deal(subjects, folds, seed)
    decisions = _cross_fitted(router, known, fold)
    z = np.array([float(d.source == "retrieval") for d in decisions])
    silent = np.array([d.source == "abstain" for d in decisions])

    def scores(rule: Metric) -> dict[str, Arm]:
        scored = {name: Arm.of(answers, rule) for name, answers in arms.items()}
        p, r = scored[weights], scored[retrieval]
        return scored | {
            ROUTER: p.mixed(r, z).without(silent),
            RANDOM: p.mixed(r, np.full_like(z, z.mean())),
            ORACLE: p.mixed(r, better),
        }

    p, r = (Arm.of(arms[name], metric).right for name in (weights, retrieval))
    better = (r > p).astype(float)
    scored, others = scores(metric), {name: scores(rule) for name, rule in beside.items()}
    never, always, routed, oracle = (
        float(scored[name].right.mean()) for name in (weights, retrieval, ROUTER, ORACLE)
    )
    best = retrieval if always > never else weights
    strata = Strata.of(questions, subjects, deciles)
    compared = comparisons(scored, ROUTER, subjects, seed)
    gain = next(c.difference for c in compared if c.other == best)
    one = getattr(router, "one_score", True)
    signal = Judged.of(decisions, p, r, fold, subjects) if one else None
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
        deciles=strata.groups(),
        relations={relation: len(rows) for relation, rows in strata.relations.items()},
        rows=tuple(
            strata.row(name, arm, {rule: float(o[name].right.mean()) for rule, o in others.items()})
            for name, arm in scored.items()
        ),
        best=best,
        gain=gain,
        significant=gain.low > 0,
        gap_closed=oracle_gap_closed(routed, never, always, oracle),
        routes=_routes(z == 1, silent, p, r),
        comparisons=compared,
        signal=None if signal is None else signal.scores(),
        thresholds={} if signal is None else signal.thresholds(strata.relations, seed),
        answered_error=None if silent.all() else 1 - float(scored[ROUTER].right[~silent].mean()),
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


def _cross_fitted(router: TrainableRouter, known: Sequence[Outcome], fold: Rows) -> list[Decision]:
    """Each question's decision by a router that was fitted on the other folds."""
    decisions: dict[int, Decision] = {}
    for number in np.unique(fold):
        train = [outcome for outcome, own in zip(known, fold, strict=True) if own != number]
        fitted = copy.deepcopy(router).fit(train)
        for row in np.flatnonzero(fold == number).tolist():
            decisions[row] = decided(fitted, known[row].question, known[row].signals)
    return [decisions[row] for row in range(len(known))]


def _routes(
    z: npt.NDArray[np.bool_], silent: npt.NDArray[np.bool_], p: Floats, r: Floats
) -> Routes:
    """Count what retrieving, not retrieving, and saying nothing did."""
    w = ~z & ~silent
    counts = (z & (r > p), z & (r < p), z & (r == p), w & (r > p), w & (r <= p), silent)
    return Routes(*(int(count.sum()) for count in counts))
