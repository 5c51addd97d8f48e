"""A stream of queries and updates lived through on both roads, to check predictions by."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memkit.errors import BadInput
from memkit.lm.checks import check_count
from memkit.metrics import exact_match
from memkit.prompts import Template
from memkit.protocols.cost_formulas import Amount, Mix, RoadName, check_number
from memkit.protocols.cost_measured import (
    Clock,
    added,
    checked,
    desks,
    folder_bytes,
    grown,
    kept_bytes,
    opened,
    timed,
    write,
)
from memkit.qa import QA
from memkit.types import Fact, Passage, Question

if TYPE_CHECKING:
    from memkit.editors.base import Editor
    from memkit.lm.model import LM
    from memkit.retrieval.base import Index

__all__ = ["Lived", "run"]

ROADS: tuple[RoadName, ...] = ("edit", "retrieve")
ROUNDING = 1e-9  # so that ten times a tenth is one


@dataclass(frozen=True, slots=True)
class Lived:
    """A stream as it was lived through.

    `costs` are of both roads after 0, 1, 2, ... queries, `facts` how many had come then. `right` is
    each road's share of right answers about updated facts, None without any.
    """

    costs: Mapping[RoadName, tuple[Amount, ...]]
    facts: tuple[int, ...]
    right: Mapping[RoadName, float | None]


def run(
    lm: LM,
    editor: Editor,
    index: Index,
    facts: Sequence[Fact],
    questions: Sequence[Question],
    mix: Mix,
    *,
    queries: int,
    first: int = 1,
    update_rate: float = 0.0,
    passages: Sequence[Passage] | None = None,
    template: Template | None = None,
    k: int = 1,
    max_new_tokens: int = 16,
    clock: Clock = time.perf_counter,
) -> Lived:
    """Live through a stream of queries and updates on both roads, and measure what it costs.

    `first` facts come before the first query, the others as `update_rate` says, in their order. A
    question whose id is a fact's is about it; of those whose fact has come and of the others one is
    asked after the other, as often as `mix` says, spread evenly. The other arguments are those of
    `measure`.

    Raises `BadInput` for fewer facts than will come, a fact without a question, no other question
    where some are to be asked, and as `measure`.
    """
    facts, texts = checked(facts, passages)
    check_count("queries", queries)
    check_count("first", first)
    check_number("update_rate", update_rate)
    come = [first + int(update_rate * n + ROUNDING) for n in range(queries + 1)]
    if come[-1] > len(facts):
        raise BadInput(
            f"{come[-1]} facts are to come and {len(facts)} are given; allowed: at least as many. "
            "Give more, or ask for fewer queries or a smaller update_rate."
        )
    plan = _plan(facts, questions, mix, come)
    bare, with_text = desks(lm, index, template, k, max_new_tokens)
    for qa in (bare, with_text):
        qa.ask(plan[0].question)
    found = {}
    with opened(lm, editor, facts) as edit:
        found["edit"] = _live(
            plan, come, lambda n: write(edit, facts[n]), _Roads(bare, with_text, bare), clock
        )
        kept = kept_bytes(edit)
    with added(index) as add:
        before = folder_bytes(index)
        found["retrieve"] = _live(
            plan, come, lambda n: add(texts[n]), _Roads(with_text, with_text, bare), clock
        )
        size = grown(index, before, texts[: come[-1]])
    held = {"edit": kept, "retrieve": size}
    costs, right = {}, {}
    for road in ROADS:
        seconds, tokens, right[road] = found[road]
        shares = [held[road] * n / come[-1] for n in come]  # of the bytes, fact by fact
        costs[road] = tuple(map(Amount, seconds, tokens, shares))
    return Lived(costs, tuple(come), right)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query of the stream: the fact it is about, if any, else whether a router retrieves."""

    question: Question
    fact: Fact | None
    retrieved: bool


@dataclass(frozen=True, slots=True)
class _Roads:
    """Who answers queries about updated facts, others with text, and the rest."""

    updated: QA
    fetched: QA
    other: QA

    def of(self, asked: _Asked) -> QA:
        if asked.fact is not None:
            return self.updated
        return self.fetched if asked.retrieved else self.other


def _plan(
    facts: Sequence[Fact], questions: Sequence[Question], mix: Mix, come: Sequence[int]
) -> list[_Asked]:
    """The queries in their order; shares are kept at every moment, to within one query."""
    about: dict[str | None, Question] = {q.id: q for q in questions if q.id is not None}
    missing = [fact for fact in facts[: come[-1]] if fact.id not in about]
    if missing and mix.updated:
        raise BadInput(
            f"no question has the id {missing[0].id!r} of the fact {missing[0].text!r}; allowed: "
            "one for each fact. Give the facts and their questions the same ids."
        )
    ids = {fact.id for fact in facts}
    others = [question for question in questions if question.id not in ids]
    if not others and mix.updated < 1:
        raise BadInput(
            f"Mix.updated is {mix.updated!r}, and all questions are about the facts; allowed: 1, "
            "or other questions as well. Give some."
        )
    plan: list[_Asked] = []
    updated = fetched = 0
    for n, there in enumerate(come[1:]):
        if int(mix.updated * (n + 1) + ROUNDING) > updated:
            fact = facts[updated % there]
            plan.append(_Asked(about[fact.id], fact, True))
            updated += 1
            continue
        other = n - updated
        fetch = int(mix.retrieved * (other + 1) + ROUNDING) > fetched
        fetched += fetch
        plan.append(_Asked(others[other % len(others)], None, fetch))
    return plan


def _live(
    plan: Sequence[_Asked],
    come: Sequence[int],
    put: Callable[[int], object],
    roads: _Roads,
    clock: Clock,
) -> tuple[list[float], list[float], float | None]:
    """Seconds and tokens after 0, 1, 2, ... queries, and the share of right answers."""
    second = token = 0.0
    written = 0
    right = []
    seconds, tokens = [], []
    for n, there in enumerate(come):
        while written < there:
            second += timed(clock, put, written)
            written += 1
        if n:
            asked = plan[n - 1]
            qa = roads.of(asked)
            start = clock()
            answer = qa.ask(asked.question)
            second += clock() - start
            token += answer.prompt.tokens
            if asked.fact:
                right.append(exact_match(answer.text.rstrip("."), [asked.fact.target]))
        seconds.append(second)
        tokens.append(token)
    return seconds, tokens, sum(right) / len(right) if right else None
