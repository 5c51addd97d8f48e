"""What a router is: a pure `decide`. Routers are fitted on outcomes that were measured once.

Beside the question a router may look at signals, by name. It asks for what it needs by raising
`MissingSignal`; `QA` then computes that, for all questions that wait for it at once, and asks
again. So a signal costs something only where a router wants it.

    margin              log p(best) - log p(second best) of the answer's first token, in nats
    entropy             of the distribution of the answer's first token, in nats
    answer_entropy      the mean of that over the tokens of the closed-book answer, in nats
    answer_entropy_max  the largest of them
    answer_logprob      mean log-probability of the closed-book answer's tokens, in nats
    hidden              [d], hidden state at the last token of the prompt, after the middle layer
    hidden@l            the same after layer l, counted from 0
    score               the retriever's score of the best passage; minus infinity if there is none
    edits               the reports of the edits that are live, in the order in which they were made

The first six and hidden@l are of the bare prompt (closed book).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput, MissingSignal
from memkit.types import Decision, EditReport, Question

__all__ = [
    "NO_SIGNALS",
    "Outcome",
    "Router",
    "Signals",
    "TrainableRouter",
    "check_outcomes",
    "decided",
    "edits",
    "number",
    "vector",
    "vectors",
]

Floats = npt.NDArray[np.float64]
Signals = Mapping[str, "float | npt.NDArray[Any] | tuple[EditReport, ...]"]
NO_SIGNALS: Signals = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one question fared on both roads: correctness in [0, 1] from weights and with retrieval.

    Measured once (never retrieve, always retrieve); any router is then scored in milliseconds.
    `signals` are what a router may look at beside the question, see the module; without "edits"
    among them no edit was live.
    """

    question: Question
    weights: float
    retrieval: float
    signals: Signals = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Say that no edit was live, where nothing is said of edits."""
        if "edits" not in self.signals:
            object.__setattr__(self, "signals", {**self.signals, "edits": ()})


@runtime_checkable
class Router(Protocol):
    """Chooses a memory for a question. Pure: equal questions give equal decisions.

    One that looks at signals takes them as a second argument, which has a default.
    """

    def decide(self, question: Question) -> Decision:
        """Which memory to ask, what was compared, and why.

        Raises `NotTrained` before `fit`, and `MissingSignal` if it needs a signal.
        """
        ...


@runtime_checkable
class TrainableRouter(Router, Protocol):
    """A router that learns from outcomes."""

    def fit(self, outcomes: Sequence[Outcome]) -> TrainableRouter:
        """Learn from outcomes; returns itself."""
        ...


def decided(router: Router, question: Question, signals: Signals = NO_SIGNALS) -> Decision:
    """The router's decision, which is given the signals if it asks for any."""
    try:
        return router.decide(question)
    except MissingSignal:
        if not signals:
            raise
    return cast(Decision, cast(Any, router).decide(question, signals))


def number(signals: Signals, name: str, who: str) -> float:
    """The signal of that name, a number. Raises `MissingSignal` for `who` if it is not there."""
    value = _signal(signals, name, who)
    if not isinstance(value, int | float | np.floating) or math.isnan(value):
        raise BadInput(f"the signal {name!r} is {value!r}; allowed: a number. Compute it again.")
    return float(value)


def vector(signals: Signals, name: str, who: str) -> Floats:
    """The signal of that name as an array [d]. Raises as `number`."""
    value = np.asarray(_signal(signals, name, who), dtype=float)
    if value.ndim != 1 or not np.isfinite(value).all():
        raise BadInput(
            f"the signal {name!r} has shape {value.shape}, or is not finite; allowed: finite "
            "numbers of shape [d]. Compute it again."
        )
    return value


def vectors(outcomes: Sequence[Outcome], name: str, who: str) -> npt.NDArray[Any]:
    """That signal of every outcome, as an array [n, d], in single precision where all of them are.

    Raises as `number`, and if d differs.
    """
    rows = [np.asarray(_signal(outcome.signals, name, who)) for outcome in outcomes]
    shapes = dict.fromkeys(row.shape for row in rows)
    if len(shapes) > 1:
        raise BadInput(
            f"the signal {name!r} has shapes {', '.join(map(str, shapes))}; allowed: one shape "
            "[d], that of one model. Compute all of them with the model that is asked."
        )
    whole = np.stack(rows)
    if whole.dtype != np.float32:
        whole = whole.astype(float)
    if whole.ndim != 2 or not np.isfinite(whole).all():
        for outcome in outcomes:
            vector(outcome.signals, name, who)
    return whole


def edits(signals: Signals, who: str) -> tuple[EditReport, ...]:
    """The reports of the live edits. Raises as `number`."""
    return cast("tuple[EditReport, ...]", _signal(signals, "edits", who))


def _signal(signals: Signals, name: str, who: str) -> Any:
    if name not in signals:
        given = ", ".join(map(repr, signals)) or "none"
        raise MissingSignal(
            f"{who} needs the signal {name!r}; given: {given}. Ask through a QA, which computes "
            "it, or give outcomes with signals: memkit.protocols.outcomes(..., "
            f"signals=qa.signals(questions, [{name!r}])).",
            (name,),
        )
    return signals[name]


def check_outcomes(outcomes: Sequence[Outcome], who: str) -> None:
    """Raise `BadInput` unless there are outcomes, and each has both arms, scored in [0, 1]."""
    if not outcomes:
        raise BadInput(f"{who}.fit got no outcomes; allowed: at least one. Measure some questions.")
    for outcome in outcomes:
        weights, retrieval = outcome.weights, outcome.retrieval
        if None in (weights, retrieval):
            arm = "weights" if weights is None else "retrieval"
            raise BadInput(
                f"the outcome of {outcome.question.text!r} has no {arm} arm (None); allowed: "
                "both arms, scores in [0, 1]. Answer the question on both roads "
                "(memkit.protocols.outcomes)."
            )
        if not (0 <= weights <= 1 and 0 <= retrieval <= 1):
            raise BadInput(
                f"the outcome of {outcome.question.text!r} is {weights!r} from weights "
                f"and {retrieval!r} with retrieval; allowed: scores in [0, 1]."
            )
