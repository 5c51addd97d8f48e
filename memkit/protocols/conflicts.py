"""Who wins where an edit and a passage disagree: the new fact, the stale text, or the old weights.

Each answer to a question about an edited fact is one of

    edited      it is the fact's new target
    retrieved   it is not, and the words stand in a passage that was shown: the stale text won
    pre_edit    it is neither, and is what the model said before the edit, or the fact's `previous`
    other       none of these (an abstention, too)

An answer "is" a target by exact match (or another rule). The first that applies counts, so the four
add up to all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from memkit.errors import BadInput
from memkit.metrics import contains, exact_match, same_answer
from memkit.protocols.arms import Metric
from memkit.types import Answer, Fact

__all__ = ["Conflicts", "Winner", "conflicts"]

Winner = Literal["edited", "retrieved", "pre_edit", "other"]


@dataclass(frozen=True, slots=True)
class Conflicts:
    """How many answers were each, and which: `winners` has one for each question, in order."""

    edited: int
    retrieved: int
    pre_edit: int
    other: int
    winners: tuple[Winner, ...]

    @property
    def questions(self) -> int:
        """How many questions there were."""
        return len(self.winners)

    def __str__(self) -> str:
        """The four counts."""
        return (
            f"of {self.questions} questions about edited facts {self.edited} got the edited "
            f"answer, {self.retrieved} the retrieved one, {self.pre_edit} the one from before the "
            f"edit, {self.other} another"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return dataclasses.asdict(self)


def conflicts(
    answers: Sequence[Answer],
    facts: Sequence[Fact] | Mapping[str, Fact],
    unedited: Sequence[Answer],
    metric: Metric = exact_match,
) -> Conflicts:
    """Count what answered questions about edited facts.

    `facts` are the edited ones: one for each answer, in order, or by question id. `unedited` are
    the closed-book answers to the same questions of the model without the edit.

    Raises `BadInput` if there are not as many of each, or a question's id has no fact.
    """
    if isinstance(facts, Mapping):
        facts = [_fact(answer, facts) for answer in answers]
    if not len(answers) == len(facts) == len(unedited):
        raise BadInput(
            f"{len(answers)} answers, {len(facts)} facts and {len(unedited)} answers without the "
            "edit; allowed: as many of each. Ask the same questions."
        )
    for answer, before in zip(answers, unedited, strict=True):
        if answer.question != before.question:
            raise BadInput(
                f"without the edit {before.question.text!r} is answered where "
                f"{answer.question.text!r} is with it; allowed: the same questions in the same "
                "order."
            )
    winners = tuple(
        _winner(answer, fact, before, metric)
        for answer, fact, before in zip(answers, facts, unedited, strict=True)
    )
    counts = {name: winners.count(name) for name in ("edited", "retrieved", "pre_edit", "other")}
    return Conflicts(**counts, winners=winners)


def _fact(answer: Answer, facts: Mapping[str, Fact]) -> Fact:
    name = answer.question.id
    if name is None or name not in facts:
        raise BadInput(
            f"the question {answer.question.text!r} has the id {name!r}, and no edited fact has; "
            "allowed: questions about edited facts. Leave it out, or pass facts in order."
        )
    return facts[name]


def _winner(answer: Answer, fact: Fact, before: Answer, metric: Metric) -> Winner:
    if not answer.text:
        return "other"
    if metric(answer.text, (fact.target,)) == 1:
        return "edited"
    if any(contains(hit.passage.contents, (answer.text,)) for hit in answer.hits):
        return "retrieved"
    old = fact.previous is not None and metric(answer.text, (fact.previous,)) == 1
    return "pre_edit" if old or same_answer(answer.text, before.text) == 1 else "other"
