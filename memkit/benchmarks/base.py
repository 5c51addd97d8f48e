"""What every loader returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from memkit.types import Fact, Passage, Question

__all__ = ["Benchmark"]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark in memkit's own terms. Parts that the upstream data lack are empty.

    A fact and the question that asks for it share their id. `definitions` maps a subject's title
    to a sentence or two that say what it is.
    """

    name: str
    questions: tuple[Question, ...] = ()
    facts: tuple[Fact, ...] = ()
    passages: tuple[Passage, ...] = ()
    definitions: Mapping[str, str] = field(default_factory=dict)
