"""What all routers have in common that compare one score with one threshold.

The threshold is the one that maximises accuracy on the outcomes that the router is fitted on, by
the same rule as the popularity router's (`memkit.routing.thresholds`): retrieve on its bad side,
answer from the weights at it and on its good side; in doubt less is retrieved.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from memkit.errors import NotTrained
from memkit.routing.base import NO_SIGNALS, Outcome, Signals, check_outcomes
from memkit.routing.drift import Drifts
from memkit.routing.thresholds import best_threshold
from memkit.types import Decision, Question

__all__ = ["ThresholdRouter"]

Floats = npt.NDArray[np.float64]


@dataclass
class ThresholdRouter(Drifts, abc.ABC):
    """Retrieve where a score lies beyond a threshold that is learnt from outcomes.

    A method says what the score is (`score`), what it is called (`called`) and on which side of the
    threshold text is fetched (`retrieves`).

    Learnt by `fit`: `threshold_`, in the score's unit, infinite where one road is always better;
    `scores_`, the scores of the fitting outcomes in ascending order.
    """

    retrieves: ClassVar[Literal["below", "above"]] = "below"
    called: ClassVar[str] = "score"

    threshold_: float = field(init=False, repr=False, compare=False)
    scores_: Floats = field(init=False, repr=False, compare=False)

    @abc.abstractmethod
    def score(self, question: Question, signals: Signals) -> float:
        """What is compared with the threshold. Raises `MissingSignal` if a signal is not there."""

    def learn(self, outcomes: Sequence[Outcome]) -> Floats:
        """Learn what `score` needs; gives the score of each outcome, as if it had not been seen."""
        return np.array([self.score(outcome.question, outcome.signals) for outcome in outcomes])

    def fit(self, outcomes: Sequence[Outcome]) -> Self:
        """Learn the threshold; returns itself.

        Raises `BadInput` if an outcome lacks an arm or is not in [0, 1], `MissingSignal` if it
        lacks a signal; the router is then as it was.
        """
        check_outcomes(outcomes, type(self).__name__)
        outcomes = sorted(outcomes, key=_order)  # so that the order in which they come is nothing
        before = dict(vars(self))
        try:
            scores = self.learn(outcomes)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise
        gain = np.array([outcome.retrieval - outcome.weights for outcome in outcomes])
        sign = 1 if self.retrieves == "below" else -1
        self.threshold_ = sign * best_threshold(sign * scores, gain)
        self.scores_ = np.sort(scores)
        return self

    def decide(self, question: Question, signals: Signals = NO_SIGNALS) -> Decision:
        """Retrieval beyond the threshold, weights at it.

        Raises `NotTrained` before `fit`, `MissingSignal` if a signal is not there.
        """
        self.check_fitted()
        score, threshold = self.score(question, signals), self.threshold_
        beyond = score < threshold if self.retrieves == "below" else score > threshold
        sign = "=" if score == threshold else "<" if score < threshold else ">"
        reason = f"{self.called} {score:.4g} {sign} {threshold:.4g}"
        return Decision("retrieval" if beyond else "weights", score, threshold, reason)

    def check_fitted(self) -> None:
        """Raise `NotTrained` before `fit`."""
        if not hasattr(self, "threshold_"):
            raise NotTrained(
                f"this {type(self).__name__} has no threshold yet; call fit(outcomes) first, with "
                "outcomes of both roads (memkit.protocols.outcomes makes them)."
            )


def _order(outcome: Outcome) -> tuple[str, str, float, float]:
    question = outcome.question
    return question.text, question.id or "", outcome.weights, outcome.retrieval
