"""The cascade: cheap routers first, the next one only where a router is not sure.

Every stage but the last may pass a question on:

- a stage with `consider` (such as `EditScope`) passes on what it returns None for;
- a router with a threshold passes on what lies too near to it: the share `defer` of the questions
  that reach it at `fit`, measured by ranks, |F(score) - F(threshold)| with F the distribution of
  the scores at `fit`, so that units do not count. Where it has no score (unknown popularity), it
  passes on, too;
- any other router decides all that reaches it.

A signal that only a later stage wants is computed only for questions that reach that stage. Each
stage is fitted on the outcomes that reach it, or on all if nothing does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any, ClassVar, Protocol, runtime_checkable

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
from memkit.routing.drift import Drifts
from memkit.types import Decision, Question

__all__ = ["Cascade", "Stage"]

Floats = npt.NDArray[np.float64]


@runtime_checkable
class Stage(Protocol):
    """What may pass a question on."""

    def consider(self, question: Question, signals: Signals) -> Decision | None:
        """The decision, or None: not for this stage."""
        ...


@dataclass(frozen=True, slots=True)
class _Band:
    """Scores at `fit` in ascending order, and how near to the threshold is too near, in ranks."""

    scores: Floats
    width: float

    def holds(self, decision: Decision) -> bool:
        """Whether a decision is too near to its threshold to count."""
        if decision.score is None or decision.threshold is None:
            return True
        return bool(_distances(self.scores, decision.score, decision.threshold) < self.width)


@dataclass
class Cascade(Drifts):
    """Routers in order, each asked only where those before it pass a question on.

    stages: at least one; the last is a router and decides whatever reaches it.
    defer: the share of the questions that a router with a threshold passes on; in [0, 1).

    Learnt by `fit`: `bands_`, one for each stage but the last, None where a stage has no band.

    Raises `BadInput` for no stages, a stage that is none, and a share outside of [0, 1).
    """

    one_score: ClassVar[bool] = False  # stages score in units of their own

    stages: tuple[Router | Stage, ...]
    defer: float = 0.3
    bands_: tuple[_Band | None, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check stages and share."""
        if not self.stages or not isinstance(self.stages[-1], Router):
            raise BadInput(
                f"Cascade.stages is {self.stages!r}; allowed: at least one stage, the last of which"
                " is a router. End with one that decides everything."
            )
        for stage in self.stages:
            if not isinstance(stage, Router | Stage):
                raise BadInput(f"{stage!r} is no stage; allowed: anything with decide or consider.")
        if not 0 <= self.defer < 1:
            raise BadInput(f"Cascade.defer is {self.defer!r}; allowed: a share in [0, 1).")

    def fit(self, outcomes: Sequence[Outcome]) -> Cascade:
        """Fit each trainable stage on what reaches it; returns itself.

        Raises what the stages' `fit` raises.
        """
        check_outcomes(outcomes, "Cascade")
        reaching, bands = list(outcomes), list[_Band | None]()
        for stage in self.stages:
            some: Any = reaching or outcomes
            if isinstance(stage, TrainableRouter):
                stage.fit(some)
            if stage is self.stages[-1]:
                break
            if isinstance(stage, Stage):
                bands.append(None)
                on = [stage.consider(o.question, o.signals) is None for o in reaching]
            else:
                decisions = [decided(stage, o.question, o.signals) for o in reaching]
                band, on = _banded(decisions, self.defer)
                bands.append(band)
            reaching = [o for o, out in zip(reaching, on, strict=True) if out]
        self.bands_ = tuple(bands)
        return self

    def decide(self, question: Question, signals: Signals = NO_SIGNALS) -> Decision:
        """The first stage's decision that is not passed on; the reason names the stage.

        Where no stage but the last is trained, a last one that was fitted before is enough.

        Raises `NotTrained` before `fit`, `MissingSignal` if the stage reached needs one.
        """
        if not hasattr(self, "bands_"):
            if any(isinstance(stage, TrainableRouter) for stage in self.stages[:-1]):
                raise NotTrained(
                    "this Cascade is not fitted yet; call fit(outcomes) first, with outcomes of "
                    "both roads (memkit.protocols.outcomes makes them)."
                )
            bands: tuple[_Band | None, ...] = (None,) * (len(self.stages) - 1)
        else:
            bands = self.bands_
        for stage, band in zip(self.stages, bands, strict=False):
            decision = self._asked(stage, band, question, signals)
            if decision is not None:
                return _named(decision, stage)
        last: Any = self.stages[-1]
        return _named(decided(last, question, signals), last)

    def _asked(
        self, stage: Any, band: _Band | None, question: Question, signals: Signals
    ) -> Decision | None:
        """The stage's decision, or None where it passes the question on."""
        if isinstance(stage, Stage):
            return stage.consider(question, signals)
        decision = decided(stage, question, signals)
        return None if band is not None and band.holds(decision) else decision


def _banded(decisions: Sequence[Decision], defer: float) -> tuple[_Band | None, list[bool]]:
    """The band that holds the share `defer` of the decisions, and which it holds.

    None, which holds nothing, where no decision has a score.
    """
    pairs = [(decision.score, decision.threshold) for decision in decisions]
    known = [score is not None and threshold is not None for score, threshold in pairs]
    if not any(known):
        return None, [False] * len(known)
    scores, thresholds = np.array(list(compress(pairs, known)), dtype=float).T
    ordered = np.sort(scores)
    far = _distances(ordered, scores, thresholds)
    width = float(np.quantile(far, defer))
    held = np.ones(len(known), dtype=bool)
    held[known] = far < width
    return _Band(ordered, width), held.tolist()


def _distances(ordered: Floats, scores: Any, thresholds: Any) -> Any:
    """Ranks between scores and thresholds, as shares in [0, 1]."""
    places = ordered.searchsorted(scores) - ordered.searchsorted(thresholds)
    return np.abs(places) / len(ordered)


def _named(decision: Decision, stage: Any) -> Decision:
    return replace(decision, reason=f"{type(stage).__name__}: {decision.reason}")
