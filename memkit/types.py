"""The values that travel through memkit: frozen, checked once, here.

`Fact` goes into a memory, `Question` comes out of it with a `Decision` and an `Answer`;
`Passage`, `Hit` and `Prompt` are the evidence between them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from memkit.errors import BadInput

__all__ = [
    "Answer",
    "Decision",
    "EditReport",
    "Fact",
    "FactReport",
    "Hit",
    "Passage",
    "Prompt",
    "Question",
    "Source",
]

Source = Literal["weights", "retrieval", "abstain"]


def _is_text(value: object) -> bool:
    """Whether `value` is a string with something other than white space in it."""
    return isinstance(value, str) and value != "" and not value.isspace()


def _require_text(what: str, value: object, next_step: str) -> None:
    """Raise `BadInput` unless `value` is text."""
    if not _is_text(value):
        raise BadInput(f"{what} is {value!r}; allowed: text that is not empty. {next_step}")


@dataclass(frozen=True, slots=True)
class Fact:
    """One piece of knowledge: what a prompt about a subject should be completed with.

    `prompt` holds "{}" where the subject goes, or the literal subject. `target` is the new object,
    `previous` the one it replaces. `paraphrases` are prompts that should give the target too;
    `locality` and `portability` are (prompt, expected) pairs: what must not change, and what must
    follow. `definition` is a sentence or two that say what the subject is.

    Raises `BadInput` if subject, prompt or target is empty, or the prompt lacks the subject.
    """

    subject: str
    prompt: str
    target: str
    relation: str | None = None
    previous: str | None = None
    paraphrases: tuple[str, ...] = ()
    locality: tuple[tuple[str, str], ...] = ()
    portability: tuple[tuple[str, str], ...] = ()
    definition: str | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        """Check the text fields, and that the prompt has a place for the subject."""
        for name in ("subject", "prompt", "target"):
            _require_text(f"Fact.{name}", getattr(self, name), "Give the fact one.")
        if "{}" not in self.prompt and self.subject not in self.prompt:
            raise BadInput(
                f"Fact.prompt is {self.prompt!r}; allowed: a prompt with '{{}}' or with the "
                f"subject {self.subject!r} in it. Put '{{}}' where the subject stands."
            )

    @property
    def text(self) -> str:
        """The prompt with the subject in place."""
        return self.prompt.replace("{}", self.subject)


@dataclass(frozen=True, slots=True)
class FactReport:
    """How an edit changed the model's view of one fact, by teacher forcing on its own prompt.

    `before` and `after` are log p(target | prompt) in nats; `known` and `learnt` say whether each
    target token was the model's first choice then. `details` are the method's own figures.
    `forget` says that the target was to be taken out: then it is well not to have `learnt` it.
    """

    fact: Fact
    before: float
    after: float
    known: bool
    learnt: bool
    details: Mapping[str, float] = field(default_factory=dict)
    forget: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the target is the first choice, or, where it was to go, no longer is."""
        return self.learnt != self.forget


@dataclass(frozen=True, slots=True)
class EditReport:
    """What an edit did, for all its facts in the order in which they were given.

    `editor` is the editor's representation, with what was chosen filled in; `chosen` says why.
    `parameters` are the names of the tensors that were changed, `warnings` what the guards found
    and were told to let pass. `seconds` of wall time and `stored_bytes` (of what `save` writes of
    tensors) are sums over all steps, `peak_bytes` is the most memory that a step took beyond what
    was in use before it.
    """

    editor: str
    facts: tuple[FactReport, ...] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    peak_bytes: int = 0
    stored_bytes: int = 0

    def __str__(self) -> str:
        """One line a fact, then what was chosen, what it cost, and the warnings."""
        lines = [f"{self.editor}: {len(self.facts)} facts in {self.seconds:.2f} s"]
        for row in self.facts:
            known = ", known before" if row.known else ""
            missed = ", not forgotten" if row.forget else ", not learnt"
            lines.append(
                f"  {row.fact.text} -> {row.fact.target}: p {math.exp(row.before):.3g} -> "
                f"{math.exp(row.after):.3g}{known}{'' if row.succeeded else missed}"
            )
        lines += [f"  {name}: {why}" for name, why in self.chosen.items()]
        lines.append(f"  changed {', '.join(self.parameters)}; {self.stored_bytes:,} bytes to keep")
        lines += [f"  warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Question:
    """A question, with what is known of it.

    `answers` are the accepted ones (the first is the canonical one), `popularity` the monthly page
    views of the subject (0 is a known count; None is unknown), `gold` the ids of passages that hold
    the answer.

    Raises `BadInput` if the text is empty or the popularity is not a count.
    """

    text: str
    answers: tuple[str, ...] = ()
    subject: str | None = None
    relation: str | None = None
    popularity: float | None = None
    gold: tuple[str, ...] = ()
    id: str | None = None

    def __post_init__(self) -> None:
        """Check the text and the popularity."""
        _require_text("Question.text", self.text, "Ask something.")
        views = self.popularity
        if views is not None and not (math.isfinite(views) and views >= 0):
            raise BadInput(
                f"Question.popularity is {views!r} for {self.text!r}; allowed: a count of at "
                "least 0, or None where it is unknown. Drop the value or correct its source."
            )


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text that can be retrieved, with the id by which an index knows it.

    Raises `BadInput` if id or text is empty.
    """

    id: str
    text: str
    title: str | None = None

    def __post_init__(self) -> None:
        """Check id and text. A search makes many passages: words are found only for an error."""
        if _is_text(self.id) and _is_text(self.text):
            return
        _require_text("Passage.id", self.id, f"Give every passage an id; this one is {self.text!r}")
        _require_text(f"Passage.text of {self.id!r}", self.text, "Leave empty passages out.")

    @property
    def contents(self) -> str:
        """Title and text as an index sees them: the title on a line of its own, if there is one."""
        return f"{self.title}\n{self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that a search found: `rank` counts from 1, a larger `score` is better."""

    passage: Passage
    score: float
    rank: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Which memory a router chose, what it saw (`score`), and what it compared that with.

    `source` "abstain" is no answer at all. `passages` are shown instead of what a search finds, if
    there are any. `promise` is the promised bound on the share of wrong answers, in [0, 1].
    """

    source: Source
    score: float | None = None
    threshold: float | None = None
    reason: str = ""
    passages: tuple[Passage, ...] = ()
    promise: float | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model was given.

    `tokens` is its length; `passages` are the ids of what went in whole, `cut` the id of a passage
    that was shortened to fit, `dropped` the ids of retrieved passages that had no room.
    """

    text: str
    tokens: int
    passages: tuple[str, ...] = ()
    cut: str | None = None
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its evidence.

    `edits` are the representations of the edits that were live, `logprob` the summed
    log-probability (nats) of the generated tokens, `seconds` this question's share of the wall
    time of its batch.
    """

    text: str
    question: Question
    decision: Decision
    hits: tuple[Hit, ...]
    edits: tuple[str, ...]
    prompt: Prompt
    logprob: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers: one row of a results file."""
        return dataclasses.asdict(self)
