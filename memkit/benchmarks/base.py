"""What every loader returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from memkit.benchmarks.probes import EntityProbe
from memkit.errors import BadInput
from memkit.types import Fact, Passage, Question

__all__ = ["Benchmark", "Metric", "References", "Stream"]

Metric = Literal["f1", "accuracy", "perplexity"]


@dataclass(frozen=True, slots=True)
class References:
    """A question with answers that are true and answers that are false.

    `best` is the one of `true` that counts where one is asked for.

    Raises `BadInput` if a text is empty, there is no false answer, or `best` is not in `true`.
    """

    question: str
    best: str
    true: tuple[str, ...]
    false: tuple[str, ...]
    category: str | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        """Check that there is something on both sides."""
        for name, texts in (("question", (self.question,)), ("true", self.true)):
            if not texts or not all(text.strip() for text in texts):
                raise BadInput(
                    f"References.{name} of {self.question!r:.80} is {texts!r:.80}; allowed: text "
                    "that is not empty. Complete it."
                )
        if not self.false or not all(text.strip() for text in self.false):
            raise BadInput(
                f"References.false of {self.question!r:.80} is {self.false!r:.80}; allowed: at "
                "least one false answer, or every model would be right. Complete it, or leave it "
                "out."
            )
        if self.best not in self.true:
            raise BadInput(
                f"References.best of {self.question!r:.80} is {self.best!r:.80}; allowed: one of "
                "its true answers. Add it to them."
            )


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark in memkit's own terms. Parts that the upstream data lack are empty.

    A fact and the question that asks for it share their id, as do `References`. `definitions` maps
    a subject's title to a sentence or two that say what it is; `probes` ask what a model makes of
    one, and `cases` are of its own protocol, see `memkit.benchmarks.cases`.
    """

    name: str
    questions: tuple[Question, ...] = ()
    facts: tuple[Fact, ...] = ()
    passages: tuple[Passage, ...] = ()
    definitions: Mapping[str, str] = field(default_factory=dict)
    probes: tuple[EntityProbe, ...] = ()
    references: tuple[References, ...] = ()
    cases: tuple[Any, ...] = ()


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
