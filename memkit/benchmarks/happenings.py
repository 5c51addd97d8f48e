"""Facts in time, and events: what `memkit.protocols` temporal and events take.

They are the `Benchmark.cases` of their loaders (`atoke`, `ike_time`; `elken`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from memkit.errors import BadInput
from memkit.types import Fact, Passage

__all__ = [
    "Choice",
    "Event",
    "EventQuestion",
    "TimedCase",
    "TimedFact",
    "TimedQuestion",
    "Valid",
]


@dataclass(frozen=True, slots=True)
class Valid:
    """The years for which a fact holds, both included; None is open.

    Raises `BadInput` if they end before they begin.
    """

    since: int | None = None
    until: int | None = None

    def __post_init__(self) -> None:
        """Check the order."""
        if self.since is not None and self.until is not None and self.since > self.until:
            raise BadInput(
                f"a fact is valid since {self.since!r} until {self.until!r}; allowed: years in "
                "order. Exchange them, or correct their source."
            )

    def covers(self, year: int) -> bool:
        """Whether the fact holds in a year."""
        begun = self.since is None or self.since <= year
        return begun and (self.until is None or year <= self.until)


@dataclass(frozen=True, slots=True)
class TimedFact:
    """A fact, when it holds, and the prompt that says so ("From 1947 to 1948, {} played for").

    `sentence` tells it, where that is not this prompt with the target.
    """

    fact: Fact
    valid: Valid
    dated: str
    sentence: str | None = None

    @property
    def told(self) -> str:
        """The fact with its time, as a sentence."""
        if self.sentence is not None:
            return self.sentence
        prompt = self.dated.replace("{}", self.fact.subject).rstrip()
        return f"{prompt} {self.fact.target.removesuffix('.')}."

    @property
    def as_dated(self) -> Fact:
        """The fact whose prompt names the time."""
        prompt = self.dated.replace("{}", self.fact.subject)
        subject = self.fact.subject if self.fact.subject in prompt else prompt
        return Fact(subject, prompt, self.fact.target, relation=self.fact.relation)


@dataclass(frozen=True, slots=True)
class TimedQuestion:
    """A question about now or before, which names its time (`explicit`) or does not.

    Raises `BadInput` without text or answers, or for another `when`.
    """

    text: str
    answers: tuple[str, ...]
    when: Literal["current", "historical"]
    explicit: bool
    paraphrase: bool = False

    def __post_init__(self) -> None:
        """Check that something is asked, and something right."""
        if not self.text.strip() or not self.answers or self.when not in ("current", "historical"):
            raise BadInput(
                f"a question in time asks {self.text!r} of {self.when!r} for {self.answers!r}; "
                "allowed: text, 'current' or 'historical', and at least one answer. Correct it."
            )

    @property
    def score(self) -> str:
        """The name of its score in Yin et al. 2023: HES, HRS, CES, CRS, of a paraphrase with -P."""
        name = f"{'C' if self.when == 'current' else 'H'}{'E' if self.explicit else 'R'}S"
        return f"{name}-P" if self.paraphrase else name


@dataclass(frozen=True, slots=True)
class TimedCase:
    """One subject and relation through time.

    `history` is in order; the first `known` of it held before the edits, which are the others.

    Raises `BadInput` without an edit or a question.
    """

    history: tuple[TimedFact, ...]
    questions: tuple[TimedQuestion, ...]
    known: int = 1
    id: str | None = None

    def __post_init__(self) -> None:
        """Check that something is edited and asked."""
        if not 0 <= self.known < len(self.history) or not self.questions:
            raise BadInput(
                f"the case {self.id!r} has {len(self.history)} facts, {self.known} of them known, "
                f"and {len(self.questions)} questions; allowed: at least one to edit, and one "
                "question. Leave the case out."
            )

    @property
    def edits(self) -> tuple[Fact, ...]:
        """The facts that are new, in order."""
        return tuple(timed.fact for timed in self.history[self.known :])

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The whole history, a dated sentence each."""
        return tuple(
            Passage(f"{self.id}-{number}", timed.told) for number, timed in enumerate(self.history)
        )

    def as_of(self, year: int) -> tuple[TimedFact, ...]:
        """What holds in a year; at a change of years it may be two."""
        return tuple(timed for timed in self.history if timed.valid.covers(year))


@dataclass(frozen=True, slots=True)
class EventQuestion:
    """A question about a fact that an event changes or must leave alone; right may be "unknown"."""

    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """A question about a tendency, with its options in words and the right one's place in them.

    Raises `BadInput` for a place that is not among them.
    """

    text: str
    options: tuple[str, ...]
    answer: int

    def __post_init__(self) -> None:
        """Check the place."""
        if not 0 <= self.answer < len(self.options):
            raise BadInput(
                f"{self.text!r:.80} has {len(self.options)} options and {self.answer!r} is right; "
                "allowed: the place of one of them. Correct it."
            )


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, in words, with what follows and what does not.

    questions, choices: what it changes, as facts and as tendencies.
    local, local_choices: what it must leave alone.
    """

    text: str
    subject: str | None = None
    kind: str = ""
    questions: tuple[EventQuestion, ...] = ()
    local: tuple[EventQuestion, ...] = ()
    choices: tuple[Choice, ...] = ()
    local_choices: tuple[Choice, ...] = ()
    id: str | None = None
