"""QA: a question is decided, perhaps looked up, put into a prompt, answered: with its evidence."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, overload

from memkit.errors import BadInput
from memkit.prompts import Template
from memkit.retrieval.base import Retriever
from memkit.routing.base import Router
from memkit.types import Answer, Decision, Fact, Hit, Passage, Prompt, Question

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["QA"]


class Editor(Protocol):
    """What `learn` needs of an editor: `apply` returns a handle that undoes the edit on leaving."""

    def apply(self, lm: LM, facts: Sequence[Fact]) -> AbstractContextManager[Any]:
        """Write the facts into the model."""
        ...


@dataclass(frozen=True, eq=False)
class QA:
    """The one interface in front of both memories.

    lm: answers, with whatever edits are live.
    retriever: finds passages. None: nothing is ever retrieved.
    router: decides. None: always the retriever if there is one, else the weights alone.
    template: of the prompts.
    k: how many passages are retrieved for a question; at least 1.
    max_new_tokens: length of an answer; it ends earlier at a line break. The prompt's budget is
        the model's window less this.
    batch_size: how many prompts the model answers at once.

    Raises `BadInput` for k < 1.
    """

    lm: LM
    retriever: Retriever | None = None
    router: Router | None = None
    template: Template = field(default_factory=Template)
    k: int = 1
    max_new_tokens: int = 16
    batch_size: int = 32

    def __post_init__(self) -> None:
        """Check `k`; the model checks the rest."""
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise BadInput(
                f"QA.k is {self.k!r}; allowed: an integer of at least 1. For answers from the "
                "weights alone leave the retriever out."
            )

    @overload
    def ask(  # type: ignore[overload-overlap]  # a str is a sequence of str, too
        self, questions: str | Question, *, given: Sequence[Sequence[Passage]] | None = None
    ) -> Answer: ...

    @overload
    def ask(
        self,
        questions: Sequence[str | Question],
        *,
        given: Sequence[Sequence[Passage]] | None = None,
    ) -> list[Answer]: ...

    def ask(
        self,
        questions: str | Question | Sequence[str | Question],
        *,
        given: Sequence[Sequence[Passage]] | None = None,
    ) -> Answer | list[Answer]:
        """Answer one question, or many in order; those with the same decision go in one batch.

        `given` are passages for each question that are shown instead of a search and a decision:
        for controls, such as a gold or a random passage. Their hits have the score 0.

        Where a search finds nothing the bare question is asked, and the decision's reason says so.

        Raises `BadInput` for an empty question, one that is longer than the model's window, a
        decision for retrieval without a retriever, and as many `given` as there are not questions;
        all before the model is run.
        """
        if isinstance(questions, str | Question):
            return self.ask([questions], given=given)[0]
        asked = [_question(question) for question in questions]
        decisions = self._decide(asked, given)
        batches = []
        for source in ("weights", "retrieval"):
            rows = [row for row, decision in enumerate(decisions) if decision.source == source]
            if rows:
                batches.append(self._prepare(rows, asked, decisions, given))
        answers: dict[int, Answer] = {}
        for batch in batches:
            answers.update(zip(batch.rows, self._answer(batch), strict=True))
        return [answers[row] for row in range(len(asked))]

    def learn(self, facts: Iterable[Fact], *, editor: Editor) -> AbstractContextManager[Any]:
        """Put facts into the weights: the editor's handle, which takes them out again on leaving.

        `with qa.learn([fact], editor=editor): qa.ask(...)`
        """
        return editor.apply(self.lm, list(facts))

    def _decide(
        self, asked: Sequence[Question], given: Sequence[Sequence[Passage]] | None
    ) -> list[Decision]:
        if given is not None:
            if len(given) != len(asked):
                raise BadInput(
                    f"{len(given)} lists of passages are given for {len(asked)} questions; "
                    "allowed: one for each. Give an empty list where there is none."
                )
            return [Decision("retrieval", reason="passages given, no search")] * len(asked)
        if self.router is None:
            if self.retriever is None:
                return [Decision("weights", reason="no retriever: weights alone")] * len(asked)
            return [Decision("retrieval", reason="no router: always the retriever")] * len(asked)
        return [self.router.decide(question) for question in asked]

    def _prepare(
        self,
        rows: Sequence[int],
        asked: Sequence[Question],
        decisions: Sequence[Decision],
        given: Sequence[Sequence[Passage]] | None,
    ) -> _Batch:
        """Hits and prompts of the questions in `rows`, which have one decision."""
        start = time.perf_counter()
        questions = [asked[row] for row in rows]
        if given is not None:
            hits = [[Hit(p, 0.0, n) for n, p in enumerate(given[row], start=1)] for row in rows]
        elif decisions[rows[0]].source == "retrieval":
            hits = self._search(questions)
        else:
            hits = [[] for _ in rows]
        special = self.lm.tokenizer.all_special_tokens
        prompts = [
            self.template.fit(
                question.text,
                [hit.passage for hit in found],
                count=self.lm.count_tokens,
                budget=self.lm.window - self.max_new_tokens,
                special=special,
            )
            for question, found in zip(questions, hits, strict=True)
        ]
        told = [_told(decisions[row], found) for row, found in zip(rows, hits, strict=True)]
        return _Batch(rows, questions, told, hits, prompts, time.perf_counter() - start)

    def _search(self, questions: Sequence[Question]) -> list[list[Hit]]:
        if self.retriever is None:
            raise BadInput(
                f"the router wants text for {questions[0].text!r}, and this QA has no retriever; "
                "allowed: a router with a retriever. Pass one: QA(lm, retriever=index, "
                "router=router)."
            )
        return self.retriever.search([question.text for question in questions], self.k)

    def _answer(self, batch: _Batch) -> list[Answer]:
        """The model's answers, which share the time of the batch equally."""
        start = time.perf_counter()
        texts = [prompt.text for prompt in batch.prompts]
        done = self.lm.complete(texts, self.max_new_tokens, batch_size=self.batch_size)
        seconds = (batch.seconds + time.perf_counter() - start) / len(texts)
        edits = tuple(map(repr, self.lm.edits))
        parts = zip(batch.questions, batch.decisions, batch.hits, batch.prompts, done, strict=True)
        return [
            Answer(
                text=said.text.strip(),
                question=question,
                decision=decision,
                hits=tuple(hits),
                edits=edits,
                prompt=prompt,
                logprob=said.logprob,
                seconds=seconds,
            )
            for question, decision, hits, prompt, said in parts
        ]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Questions with one decision, ready for the model; `seconds` went into preparing them."""

    rows: Sequence[int]
    questions: Sequence[Question]
    decisions: Sequence[Decision]
    hits: Sequence[Sequence[Hit]]
    prompts: Sequence[Prompt]
    seconds: float


def _question(asked: object) -> Question:
    """A question as such. Raises `BadInput` for anything that is neither text nor a `Question`."""
    if isinstance(asked, str):
        return Question(asked)
    if isinstance(asked, Question):
        return asked
    raise BadInput(
        f"a question is {asked!r}; allowed: text or a memkit.Question. Convert it, or leave it out."
    )


def _told(decision: Decision, found: Sequence[Hit]) -> Decision:
    """The decision, with the reason completed where there was nothing to retrieve."""
    if decision.source == "weights" or found:
        return decision
    return replace(decision, reason=f"{decision.reason}; nothing found, asked without text")
