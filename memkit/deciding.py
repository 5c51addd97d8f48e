"""From questions to decisions: signals are computed when a router asks for them, many at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from memkit.errors import BadInput, MissingSignal
from memkit.routing.base import Router, Signals, decided
from memkit.types import Decision, EditReport, Hit, Prompt, Question, Source

if TYPE_CHECKING:
    from memkit.lm.drafting import Draft, FirstToken
    from memkit.lm.generation import Completion
    from memkit.lm.model import LM

__all__ = ["Case", "Decider"]

ANSWER = ("answer_entropy", "answer_entropy_max", "answer_logprob")
FIRST = ("margin", "entropy")


@dataclass(slots=True)
class Case:
    """A question on its way: what is known of it so far.

    `done` is its closed-book answer, where a signal needed it or the first token was enough.
    """

    question: Question
    signals: dict[str, Any] = field(default_factory=dict)
    decision: Decision | None = None
    hits: list[Hit] | None = None
    prompt: Prompt | None = None
    done: Completion | None = None
    seconds: float = 0.0

    @property
    def source(self) -> Source | None:
        """Where the answer comes from; None before that is decided."""
        return None if self.decision is None else self.decision.source

    def waits_for(self, source: Source) -> bool:
        """Whether its answer comes from there, and is not written yet."""
        return self.source == source and (source != "weights" or self.done is None)


@dataclass(frozen=True, slots=True)
class Decider:
    """Asks a router about cases, and computes the signals that it wants.

    `search` finds passages for questions, `bare` makes their closed-book prompts.
    """

    lm: LM
    search: Callable[[Sequence[Question]], list[list[Hit]]]
    bare: Callable[[Question], Prompt]
    max_new_tokens: int
    batch_size: int

    def decide(self, cases: Sequence[Case], router: Router) -> None:
        """Give every case a decision; one for the weights may come with its answer.

        Raises `BadInput` for a signal that nobody computes, and what router and search raise.
        """
        live: list[tuple[EditReport, ...]] = []
        waiting = list(cases)
        while waiting:
            wanted: dict[str, list[Case]] = {}
            for case in waiting:
                for name in self._missing(case, router):
                    wanted.setdefault(name, []).append(case)
            self._compute(wanted, live, router)
            waiting = [case for case in waiting if case.decision is None]

    def signals(self, questions: Sequence[Question], names: Sequence[str]) -> list[Signals]:
        """The signals of these names for each question, see `memkit.routing.base`."""
        cases = [Case(question) for question in questions]
        self._compute(dict.fromkeys(names, cases), [], None)
        return [{name: case.signals[name] for name in names} for case in cases]

    def _missing(self, case: Case, router: Router) -> Sequence[str]:
        """The names that the router still wants, after it was asked."""
        try:
            case.decision = decided(router, case.question, case.signals)
        except MissingSignal as missing:
            if not missing.names or set(missing.names) <= set(case.signals):
                raise
            return missing.names
        return ()

    def _compute(
        self,
        wanted: Mapping[str, list[Case]],
        live: list[tuple[EditReport, ...]],
        router: Router | None,
    ) -> None:
        for name in wanted:
            if name not in ("edits", "score", *FIRST, *ANSWER) and _layer(name) is None:
                raise BadInput(
                    f"the router wants the signal {name!r}; allowed: 'edits', 'score', "
                    f"{', '.join(map(repr, (*FIRST, *ANSWER)))}, 'hidden' or 'hidden@LAYER'. "
                    "Correct its name."
                )
        if "edits" in wanted:
            if not live:
                live.append(tuple(edit.report for edit in self.lm.edits))
            for case in wanted["edits"]:
                case.signals["edits"] = live[0]
        if "score" in wanted:
            self._search(wanted["score"])
        rest = [name for name in wanted if name not in ("edits", "score")]
        if rest:
            unique = {id(case): case for name in rest for case in wanted[name]}
            self._draft(list(unique.values()), rest, router)

    def _search(self, cases: Sequence[Case]) -> None:
        start = time.perf_counter()
        found = self.search([case.question for case in cases])
        share = (time.perf_counter() - start) / len(cases)
        for case, hits in zip(cases, found, strict=True):
            case.hits = hits
            case.signals["score"] = hits[0].score if hits else -math.inf
            case.seconds += share

    def _draft(self, cases: Sequence[Case], names: Sequence[str], router: Router | None) -> None:
        """Read the bare prompts; go on, in the same cache, where the weights will answer."""
        start = time.perf_counter()
        layers = {name: self._place(name) for name in names if _layer(name) is not None}
        whole = any(name in ANSWER for name in names)

        def admit(rows: Sequence[int], firsts: Sequence[FirstToken]) -> list[bool]:
            for row, first in zip(rows, firsts, strict=True):
                cases[row].signals |= {"margin": first.margin, "entropy": first.entropy}
                hidden = {name: first.hidden[place] for name, place in layers.items()}
                cases[row].signals |= hidden
            return [whole or self._goes_on(cases[row], router) for row in rows]

        for case in cases:
            case.prompt = self.bare(case.question)
        drafts = self.lm.draft(
            [case.prompt.text for case in cases if case.prompt is not None],
            admit,
            self.max_new_tokens,
            batch_size=self.batch_size,
            layers=sorted(set(layers.values())),
        )
        share = (time.perf_counter() - start) / len(cases)
        for case, draft in zip(cases, drafts, strict=True):
            case.seconds += share
            case.done = draft.completion
            if case.done is not None:
                case.signals |= _of_answer(draft)

    def _goes_on(self, case: Case, router: Router | None) -> bool:
        """Whether a question is answered from the weights, now that its first token is known."""
        if router is None:
            return False
        names = self._missing(case, router)
        if case.decision is not None:
            return case.decision.source == "weights"
        return any(name in ANSWER for name in names)

    def _place(self, name: str) -> int:
        """The layer that a name of a hidden state means."""
        layer = _layer(name)
        if layer is None or layer >= 0:
            return layer or 0
        return len(self.lm.layout.layers(self.lm.model)) // 2


def _layer(name: str) -> int | None:
    """The layer in "hidden@3", -1 for the middle one ("hidden"), None for any other name."""
    head, at, layer = name.partition("@")
    if head != "hidden" or (at and not layer.isdecimal()):
        return None
    return int(layer) if at else -1


def _of_answer(draft: Draft) -> dict[str, float]:
    assert draft.completion is not None
    entropies, tokens = draft.entropies, max(1, len(draft.completion.tokens))
    return {
        "answer_entropy": float(np.mean(entropies)),
        "answer_entropy_max": max(entropies),
        "answer_logprob": draft.completion.logprob / tokens,
    }
