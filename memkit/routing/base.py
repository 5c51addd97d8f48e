"""What a router is: a pure `decide`. Routers are fitted on outcomes that were measured once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from memkit.types import Decision, Question

__all__ = ["Outcome", "Router"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one question fared on both roads: correctness in [0, 1] from weights and with retrieval.

    Measured once (never retrieve, always retrieve); any router is then scored in milliseconds.
    """

    question: Question
    weights: float
    retrieval: float


@runtime_checkable
class Router(Protocol):
    """Chooses a memory for a question. Pure: equal questions give equal decisions."""

    def decide(self, question: Question) -> Decision:
        """Which memory to ask, what was compared, and why. `NotTrained` before `fit`."""
        ...


@runtime_checkable
class TrainableRouter(Router, Protocol):
    """A router that learns from outcomes."""

    def fit(self, outcomes: Sequence[Outcome]) -> TrainableRouter:
        """Learn from outcomes; returns itself."""
        ...
