"""What every loader returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from memkit.types import Fact, Passage, Question

__all__ = ["Benchmark", "Metric", "Stream"]

Metric = Literal["f1", "accuracy", "perplexity"]


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


@dataclass(frozen=True, slots=True)
class Stream:
    """Errors that come one after the other, with what must not suffer (Hartvigsen et al. 2023).

    `edits` are in the order in which they come. `upstream` is what the model is for and is tested
    on, `holdout` asks for the same as the edits in other words and is never edited (one whose id is
    an edit's counts once that edit came, one without an id always), `accurate` is what the model
    gets right already. `metric` is how an answer is scored:

    f1          a generated answer, by the words that it shares with the expected one
    accuracy    a classifier's label; prompts are documents, and targets labels
    perplexity  the expected answer's, as the continuation of the prompt; less is better

    A document longer than the model's window is cut by `memkit.protocols.lifelong`.
    """

    name: str
    metric: Metric
    edits: tuple[Fact, ...]
    upstream: tuple[Question, ...]
    holdout: tuple[Question, ...] = ()
    accurate: tuple[Question, ...] = ()
