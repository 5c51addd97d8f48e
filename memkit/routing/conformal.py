"""A promised error rate: Learn then Test (Angelopoulos, Bates, Candes, Jordan, Lei 2021).

arXiv:2110.01052, sections 2 and 5 (selective classification). With probability at least 1 - delta
over the fitting outcomes, of the questions that are answered at most a share alpha is answered
wrongly; the others are abstained from. The promise covers both branches together, whatever the
inner router is, for questions drawn as the fitting outcomes were.

Outcomes are split at random, by subject:

    learning part     fits the inner router, and for each branch the chance that its answer is
                      right, by isotonic regression on the router's score (a branch without scores
                      has its mean); and orders the candidate thresholds of that confidence: first
                      the one with the least p-value here, then the less strict ones in turn
    testing part      tests "the error of what is answered at this threshold exceeds alpha" in that
                      order, each at level delta, and stops at the first that is not rejected (fixed
                      sequence testing, so no correction is needed); the last rejected one is taken

p-value of k wrong among n answered: P(Binomial(n, alpha) <= k), exact where outcomes are 0 or 1;
else the Hoeffding-Bentkus bound of that paper, eq. 9. Where nothing is rejected the promise cannot
be kept on these outcomes, and everything is abstained from.

Departure: their example tests thresholds of one model's softmax; here the confidence is that of a
branch, and the order of tests comes from the learning part (their "split fixed sequence testing").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput, NotTrained
from memkit.routing.base import (
    NO_SIGNALS,
    Outcome,
    Router,
    Signals,
    TrainableRouter,
    check_outcomes,
    decided,
)
from memkit.routing.calibration import Chance, fit_chance
from memkit.routing.drift import Drifts
from memkit.types import Decision, Question

__all__ = ["Conformal"]

Floats = npt.NDArray[np.float64]
CANDIDATES = 50  # thresholds that are tested at most


@dataclass
class Conformal(Drifts):
    """A router with a promise: of what it answers at most a share alpha is wrong.

    router: decides between weights and text; it is fitted on the learning part.
    alpha: the promised error, in (0, 1).
    delta: the chance that the promise does not hold, in (0, 1).
    learning: the share of the subjects in the learning part, in (0, 1).
    seed: of the split.

    Learnt by `fit`: `threshold_`, the least confidence that is answered (infinite: nothing is),
    `tested_` (questions answered in the testing part, and their mean error), `branches_`.

    Raises `BadInput` for other values.
    """

    router: Router
    alpha: float = 0.1
    delta: float = 0.1
    learning: float = 0.5
    seed: int = 0
    threshold_: float = field(init=False, repr=False, compare=False)
    tested_: tuple[int, float] = field(init=False, repr=False, compare=False)
    branches_: dict[str, Chance] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        for name in ("alpha", "delta", "learning"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise BadInput(
                    f"Conformal.{name} is {value!r}; allowed: between 0 and 1, both excluded."
                )

    def fit(self, outcomes: Sequence[Outcome]) -> Conformal:
        """Fit the router on one part of the subjects, set the threshold on the other.

        Raises `BadInput` for outcomes that lack an arm, and for fewer than two subjects; and what
        the router's `fit` raises.
        """
        check_outcomes(outcomes, "Conformal")
        learn, test = self._split(outcomes)
        inner: Any = self.router
        if isinstance(inner, TrainableRouter):
            inner.fit(learn)
        decisions = self._decisions(learn)
        loss = _loss(learn, decisions)
        self.branches_ = _branches(decisions, 1 - loss)
        order = self._order(self._confidence(decisions), loss)
        decisions = self._decisions(test)
        confidence, loss = self._confidence(decisions), _loss(test, decisions)
        self.threshold_, self.tested_ = math.inf, (0, 0.0)
        for threshold in order:
            answered = loss[confidence >= threshold]
            if p_value(answered, self.alpha) > self.delta:
                break
            self.threshold_ = float(threshold)
            self.tested_ = (len(answered), float(answered.mean()))
        return self

    def decide(self, question: Question, signals: Signals = NO_SIGNALS) -> Decision:
        """The router's decision, or abstention where its branch is less sure than the threshold.

        Raises `NotTrained` before `fit`, and what the router raises.
        """
        if not hasattr(self, "threshold_"):
            raise NotTrained(
                "this Conformal has no threshold yet; call fit(outcomes) first, with outcomes of "
                "both roads (memkit.protocols.outcomes makes them)."
            )
        decision = decided(self.router, question, signals)
        chance = self._chance(decision)
        number, error = self.tested_
        promise = (
            f"promised: at most {100 * self.alpha:.3g} % of answers wrong, with "
            f"{100 * (1 - self.delta):.3g} % confidence"
        )
        if chance >= self.threshold_:
            reason = (
                f"{decision.reason}; p(right) {chance:.2f} >= {self.threshold_:.2f}; {promise} "
                f"({100 * error:.1f} % of {number} when tested)"
            )
            return replace(decision, reason=reason, promise=self.alpha)
        least = f"{chance:.2f} < {self.threshold_:.2f}"
        if math.isinf(self.threshold_):
            least = "no confidence is enough to keep the promise"
        reason = f"abstains, p(right) {least}; {promise}; else {decision.reason}"
        return replace(decision, source="abstain", reason=reason, passages=(), promise=self.alpha)

    def _split(self, outcomes: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
        subjects = sorted({o.question.subject or o.question.text for o in outcomes})
        if len(subjects) < 2:
            raise BadInput(
                f"Conformal.fit got outcomes of {len(subjects)} subject; allowed: at least two, "
                "better hundreds, to learn from some and test on others. Measure more questions."
            )
        mixed = np.random.default_rng(self.seed).permutation(len(subjects))
        cut = min(max(1, round(self.learning * len(subjects))), len(subjects) - 1)
        chosen = {subjects[place] for place in mixed[:cut]}
        parts: tuple[list[Outcome], list[Outcome]] = ([], [])
        for outcome in outcomes:
            name = outcome.question.subject or outcome.question.text
            parts[name not in chosen].append(outcome)
        return parts

    def _decisions(self, outcomes: Sequence[Outcome]) -> list[Decision]:
        return [decided(self.router, o.question, o.signals) for o in outcomes]

    def _confidence(self, decisions: Sequence[Decision]) -> Floats:
        return np.array([self._chance(decision) for decision in decisions])

    def _chance(self, decision: Decision) -> float:
        if decision.source == "abstain":
            return -math.inf
        return self.branches_[decision.source](decision.score)

    def _order(self, confidence: Floats, loss: Floats) -> Floats:
        """Candidate thresholds in the order of their tests, of those that could pass one at all."""
        least = math.log(self.delta) / math.log(1 - self.alpha)  # answered, none of them wrong
        sizes = (confidence[:, None] >= np.unique(confidence)[None]).sum(axis=0)
        able = np.unique(confidence)[sizes >= least]
        able = able[np.isfinite(able)][::-1]
        if not len(able):
            return np.empty(0)
        hopes = [p_value(loss[confidence >= threshold], self.alpha) for threshold in able]
        able = np.asarray(able[int(np.argmin(hopes)) :], dtype=float)
        keep = np.unique(np.linspace(0, len(able) - 1, min(CANDIDATES, len(able))).round())
        ordered: Floats = able[keep.astype(int)]
        return ordered


def p_value(loss: Floats, alpha: float) -> float:
    """Of "the mean of losses in [0, 1] exceeds alpha", see the module; 1 without losses."""
    from scipy import stats

    n = len(loss)
    if n == 0:
        return 1.0
    total = float(loss.sum())
    if set(np.unique(loss).tolist()) <= {0.0, 1.0}:
        return float(stats.binom.cdf(round(total), n, alpha))
    bentkus = math.e * float(stats.binom.cdf(math.ceil(total), n, alpha))
    mean = min(total / n, alpha)
    divergence = 0.0 if mean == 0 else mean * math.log(mean / alpha)
    divergence += (1 - mean) * math.log((1 - mean) / (1 - alpha)) if mean < 1 else 0.0
    return min(1.0, bentkus, math.exp(-n * divergence))


def _loss(outcomes: Sequence[Outcome], decisions: Sequence[Decision]) -> Floats:
    """How wrong the chosen road is on each outcome, in [0, 1]."""
    return np.array(
        [
            1.0 - (o.retrieval if decision.source == "retrieval" else o.weights)
            for o, decision in zip(outcomes, decisions, strict=True)
        ]
    )


def _branches(decisions: Sequence[Decision], right: Floats) -> dict[str, Chance]:
    """For each branch the chance of being right, by the router's score."""
    made = {}
    for source in ("weights", "retrieval"):
        rows = [row for row, decision in enumerate(decisions) if decision.source == source]
        known = [row for row in rows if decisions[row].score is not None]
        scores = np.array([decisions[row].score for row in known], dtype=float)
        mean = float(right[rows].mean()) if rows else 0.0
        made[source] = fit_chance(scores, right[known], mean)
    return made
