"""Arms: the same questions answered in several ways, scored once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput
from memkit.metrics import exact_match, wilson_interval
from memkit.routing.base import Outcome, Signals
from memkit.types import Answer

__all__ = ["Arm", "Cell", "Metric", "check_same_questions", "outcomes"]

Metric = Callable[[str, Sequence[str]], float]
Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
FIELDS = ("right", "retrieved", "tokens", "milliseconds")


@dataclass(frozen=True, slots=True)
class Cell:
    """Means over some questions: accuracy with its 95 % interval, and what it cost.

    `retrieval_rate` is the share of questions for which something was retrieved, `tokens` the
    prompt's length, `milliseconds` the time of the answer, router excluded. Of the last two there
    are the median and the 95th percentile over questions, too.
    """

    accuracy: float
    low: float
    high: float
    retrieval_rate: float
    tokens: float
    milliseconds: float
    tokens_p50: float
    tokens_p95: float
    milliseconds_p50: float
    milliseconds_p95: float


@dataclass(frozen=True, slots=True)
class Arm:
    """What an arm gave for each question, in arrays of shape [questions].

    Where an arm is a mixture, these are expectations, and `parts` the two arms and the share of the
    second one in each question.
    """

    right: Floats
    retrieved: Floats
    tokens: Floats
    milliseconds: Floats
    parts: tuple[Arm, Arm, Floats] | None = None

    @classmethod
    def of(cls, answers: Sequence[Answer], metric: Metric) -> Arm:
        """Score the answers."""
        return cls(
            np.array([_score(answer, metric) for answer in answers]),
            np.array([float(answer.decision.source == "retrieval") for answer in answers]),
            np.array([float(answer.prompt.tokens) for answer in answers]),
            np.array([1000 * answer.seconds for answer in answers]),
        )

    def mixed(self, other: Arm, share: Floats) -> Arm:
        """The expectation when each question goes to `other` with its `share` in [0, 1]."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in FIELDS)
        right, retrieved, tokens, time = ((1 - share) * a + share * b for a, b in pairs)
        return Arm(right, retrieved, tokens, time, (self, other, share))

    def without(self, silent: npt.NDArray[np.bool_]) -> Arm:
        """The same, where nothing was asked and answered for some questions."""
        if not silent.any():
            return self
        right, retrieved, tokens, time = (
            np.where(silent, 0.0, getattr(self, name)) for name in FIELDS
        )
        return Arm(right, retrieved, tokens, time)

    def cell(self, rows: Rows, subjects: Sequence[str]) -> Cell:
        """The means over some questions; at least one."""
        right = self.right[rows]
        low, high = wilson_interval(right, [subjects[row] for row in rows])
        rest = (self.retrieved, self.tokens, self.milliseconds)
        means = (float(x[rows].mean()) for x in rest)
        spread = (self._quantiles(name, rows) for name in ("tokens", "milliseconds"))
        return Cell(float(right.mean()), low, high, *means, *(q for pair in spread for q in pair))

    def _quantiles(self, name: str, rows: Rows) -> tuple[float, float]:
        """Median and 95th percentile over the questions, of a mixture those of what it mixes."""
        values: Floats = getattr(self, name)[rows]
        if self.parts is None:
            low, high = np.quantile(values, [0.5, 0.95])
        else:
            own, other, share = self.parts
            both = np.concatenate([getattr(own, name)[rows], getattr(other, name)[rows]])
            often = np.concatenate([1 - share[rows], share[rows]])
            low, high = np.quantile(both, [0.5, 0.95], weights=often, method="inverted_cdf")
        return float(low), float(high)


def outcomes(
    weights: Sequence[Answer],
    retrieval: Sequence[Answer],
    metric: Metric = exact_match,
    signals: Sequence[Signals] | None = None,
) -> list[Outcome]:
    """How each question fared on both roads: what a router is fitted on.

    `signals` are what routers may look at beside the question, one mapping for each
    (`QA.signals`); None is none.

    Raises `BadInput` if the two do not answer the same questions in the same order, if there are
    not as many signals, or if a question has no accepted answers.
    """
    check_same_questions({"weights": weights, "retrieval": retrieval})
    if signals is not None and len(signals) != len(weights):
        raise BadInput(
            f"there are signals of {len(signals)} questions and {len(weights)} answers; allowed: "
            "as many. Compute them of the same questions: qa.signals(questions, names)."
        )
    return [
        Outcome(a.question, _score(a, metric), _score(b, metric), seen)
        for a, b, seen in zip(weights, retrieval, signals or [{}] * len(weights), strict=True)
    ]


def check_same_questions(arms: Mapping[str, Sequence[Answer]]) -> None:
    """Raise `BadInput` unless all arms answer the same questions in the same order."""
    (first, reference), *others = arms.items()
    if not reference:
        raise BadInput(f"the arm {first!r} has no answers; allowed: at least one.")
    for name, answers in others:
        if len(answers) != len(reference):
            raise BadInput(
                f"the arm {name!r} has {len(answers)} answers, {first!r} has {len(reference)}; "
                "allowed: the same questions on every arm. Ask the missing ones."
            )
        for one, other in zip(reference, answers, strict=True):
            if one.question != other.question:
                raise BadInput(
                    f"the arm {name!r} answers {other.question.text!r} where {first!r} answers "
                    f"{one.question.text!r}; allowed: the same questions in the same order."
                )


def _score(answer: Answer, metric: Metric) -> float:
    question = answer.question
    if not question.answers:
        raise BadInput(
            f"the question {question.text!r} has no accepted answers; allowed: at least one, to "
            "score with. Leave it out."
        )
    return float(metric(answer.text, question.answers))
