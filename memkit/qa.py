"""QA: a question is decided, perhaps looked up, put into a prompt, answered: with its evidence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, overload

from memkit.deciding import Case, Decider
from memkit.errors import BadInput
from memkit.prompts import Template
from memkit.retrieval.base import Retriever
from memkit.routing.base import Router, Signals
from memkit.types import Answer, Decision, Fact, Hit, Passage, Prompt, Question

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["QA", "check_editor"]


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
    template: of the prompts; or a function that gives each question its own.
    k: how many passages are retrieved for a question; at least 1.
    max_new_tokens: length of an answer; it ends earlier at a line break. The prompt's budget is
        the model's window less this.
    batch_size: how many prompts the model answers at once.

    Raises `BadInput` for k < 1.
    """

    lm: LM
    retriever: Retriever | None = None
    router: Router | None = None
    template: Template | Callable[[Question], Template] = field(default_factory=Template)
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

        A router's signals are computed when it asks for them; what it has the model read of a bare
        prompt is not read again if the weights answer. Where it abstains the answer is empty.

        `given` are passages for each question that are shown instead of a search and a decision:
        for controls, such as a gold or a random passage. Their hits have the score 0.

        Where a search finds nothing the bare question is asked, and the decision's reason says so.

        Raises `BadInput` for an empty question, one that is longer than the model's window, a
        decision for retrieval without a retriever, and as many `given` as there are not questions;
        all before the model answers (a router may have had it read prompts).
        """
        if isinstance(questions, str | Question):
            return self.ask([questions], given=given)[0]
        cases = [Case(_question(question)) for question in _several(questions)]
        self._decide(cases, given)
        batches = [
            [case for case in cases if case.waits_for("weights")],
            [case for case in cases if case.waits_for("retrieval")],
        ]
        for batch in batches:
            self._prepare(batch)
        for batch in batches:
            self._answer(batch)
        edits = tuple(map(repr, self.lm.edits))
        return [_answer(case, edits) for case in cases]

    def decide(self, questions: Sequence[str | Question]) -> list[Decision]:
        """Where each answer would come from, without answering; raises as `ask`."""
        cases = [Case(_question(question)) for question in questions]
        self._decide(cases, None)
        return [case.decision for case in cases if case.decision is not None]

    def signals(self, questions: Sequence[str | Question], names: Sequence[str]) -> list[Signals]:
        """What routers may look at, by name, for each question: see `memkit.routing.base`.

        For outcomes: `memkit.protocols.outcomes(weights, retrieval, signals=qa.signals(...))`.

        Raises `BadInput` for a name that is none of these, and for "score" without a retriever.
        """
        return self._decider().signals([_question(question) for question in questions], names)

    def learn(self, facts: Fact | Iterable[Fact], *, editor: Editor) -> AbstractContextManager[Any]:
        """Put facts, or one, into the weights: the handle, which takes them out again on leaving.

        `with qa.learn([fact], editor=editor): qa.ask(...)`
        """
        check_editor(editor)
        return editor.apply(self.lm, list(_several(facts)))

    def _decide(self, cases: Sequence[Case], given: Sequence[Sequence[Passage]] | None) -> None:
        """Give every case a decision."""
        if given is not None:
            if len(given) != len(cases):
                raise BadInput(
                    f"{len(given)} lists of passages are given for {len(cases)} questions; "
                    "allowed: one for each. Give an empty list where there is none."
                )
            for case, passages in zip(cases, given, strict=True):
                case.decision = Decision("retrieval", reason="passages given, no search")
                case.hits = _as_hits(passages)
        elif self.router is not None:
            self._decider().decide(cases, self.router)
        else:
            decision = Decision("retrieval", reason="no router: always the retriever")
            if self.retriever is None:
                decision = Decision("weights", reason="no retriever: weights alone")
            for case in cases:
                case.decision = decision

    def _decider(self) -> Decider:
        return Decider(
            self.lm,
            self._search,
            lambda question: self._prompt(question, ()),
            self.max_new_tokens,
            self.batch_size,
        )

    def _prepare(self, cases: Sequence[Case]) -> None:
        """Find the text that cases with one decision want, and make their prompts."""
        start = time.perf_counter()
        for case in cases:
            if case.source == "weights":
                case.hits = []
            elif case.decision is not None and case.decision.passages:
                case.hits = _as_hits(case.decision.passages)
        searched = [case for case in cases if case.hits is None]
        if searched:
            found = self._search([case.question for case in searched])
            for case, hits in zip(searched, found, strict=True):
                case.hits = hits
        for case in cases:
            case.prompt = self._prompt(case.question, case.hits or ())
        seconds = time.perf_counter() - start
        for case in cases:
            case.seconds += seconds / len(cases)

    def _prompt(self, question: Question, hits: Sequence[Hit]) -> Prompt:
        template = self.template(question) if callable(self.template) else self.template
        return template.fit(
            question.text,
            [hit.passage for hit in hits],
            count=self.lm.count_tokens,
            budget=self.lm.window - self.max_new_tokens,
            special=self.lm.tokenizer.all_special_tokens,
        )

    def _search(self, questions: Sequence[Question]) -> list[list[Hit]]:
        if self.retriever is None:
            raise BadInput(
                f"the router wants text for {questions[0].text!r}, and this QA has no retriever; "
                "allowed: a router with a retriever. Pass one: QA(lm, retriever=index, "
                "router=router)."
            )
        return self.retriever.search([question.text for question in questions], self.k)

    def _answer(self, cases: Sequence[Case]) -> None:
        """The model's answers to prepared cases, which share the time of the batch equally."""
        if not cases:
            return
        start = time.perf_counter()
        texts = [case.prompt.text for case in cases if case.prompt is not None]
        done = self.lm.complete(texts, self.max_new_tokens, batch_size=self.batch_size)
        seconds = time.perf_counter() - start
        for case, said in zip(cases, done, strict=True):
            case.done = said
            case.seconds += seconds / len(cases)


def _answer(case: Case, edits: tuple[str, ...]) -> Answer:
    """The answer with its evidence; an empty one where the router abstained."""
    decision = case.decision
    assert decision is not None
    abstained = decision.source == "abstain"
    hits = tuple(case.hits or ()) if decision.source == "retrieval" else ()
    done = None if abstained else case.done
    return Answer(
        text="" if done is None else done.text.strip(),
        question=case.question,
        decision=_told(decision, hits),
        hits=hits,
        edits=edits,
        prompt=Prompt("", 0) if abstained or case.prompt is None else case.prompt,
        logprob=0.0 if done is None else done.logprob,
        seconds=case.seconds,
    )


def check_editor(editor: object) -> None:
    """Raise `BadInput` for what is no editor: a class that was not called, a name."""
    if isinstance(editor, type) or not hasattr(editor, "apply"):
        raise BadInput(
            f"editor is {editor!r:.80}; allowed: an editor with its settings, such as "
            "memkit.ROME(). Call the class, or memkit.EDITORS[name]()."
        )


def _as_hits(passages: Sequence[Passage]) -> list[Hit]:
    for passage in passages:
        if not isinstance(passage, Passage):
            raise BadInput(
                f"{passage!r:.80} is given as a passage; allowed: memkit.Passage. Make it one."
            )
    return [Hit(passage, 0.0, rank) for rank, passage in enumerate(passages, start=1)]


def _several(given: Any) -> Iterable[Any]:
    """What is given, which is one thing where it is no list, as a list."""
    return given if isinstance(given, Iterable) else [given]


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
    if decision.source != "retrieval" or found:
        return decision
    return replace(decision, reason=f"{decision.reason}; nothing found, asked without text")
