"""Events: one sentence changes several facts and tendencies at once (ELKEN).

Peng et al. (2024, arXiv:2402.13093, section 4). The arms are those of `memkit.protocols.told`: an
editor writes the event as what is new about its subject (or, if it learns definitions, as text),
prompt and retriever have it as a passage. Scores are means over events, each the mean over its own
questions:

    facts         exact match of the first line with a name, lower-cased, a full stop at the end
                  taken off; where "unknown" is right, whether the answer says so
    event         whether all of an event's fact questions are right
    locality      whether an answer to a local question is that of the unedited model; names of one
                  answer are the same, and so are answers that say "unknown"
    tendency      whether the likeliest option is the right one
    tendency locality   whether the option chosen is that of the unedited model

Departures from the code of the paper: means are over events, where it counts all questions alike;
an option is chosen by its log-likelihood, "(A)" after the question and all options, where it is
parsed from what is generated; nothing is scored by GPT-4; the name "United States" is no answer
where the file does not say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from memkit.benchmarks.elken import as_fact
from memkit.benchmarks.happenings import Choice, Event, EventQuestion
from memkit.lm.checks import check_count
from memkit.prompts import Template
from memkit.protocols.told import UNEDITED, Ask, Speaker, Told, hear
from memkit.protocols.told_result import ToldRecord, ToldResult, summarised
from memkit.types import Passage

if TYPE_CHECKING:
    from memkit.editors.base import Editor
    from memkit.lm.model import LM
    from memkit.retrieval.base import Retriever

__all__ = ["events"]

UNKNOWN = "unknown"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def events(
    lm: LM,
    editors: Editor | Mapping[str, Editor],
    cases: Sequence[Event],
    *,
    retriever: Retriever | None = None,
    template: Template | None = None,
    k: int = 1,
    max_new_tokens: int = 16,
    samples: int = 1000,
    seed: int = 0,
    batch_size: int = 32,
) -> ToldResult:
    """Score events, as the module says; the model is afterwards as it was.

    `retriever` should hold the events (`Benchmark.passages`).

    Raises `BadInput` and `UnsupportedModel` as `memkit.protocols.told.hear`.
    """
    check_count("samples", samples)
    speaker = Speaker(lm, template or Template(), max_new_tokens, ("\n",), batch_size)
    told = [_told(speaker, event, number) for number, event in enumerate(cases)]
    heard = hear(speaker, editors, told, retriever, k)
    records = [
        _record(event, own, {arm: each.answers[n] for arm, each in heard.items()})
        for n, (event, own) in enumerate(zip(cases, told, strict=True))
    ]
    return ToldResult(
        protocol="events",
        model=repr(lm),
        settings={"max_new_tokens": max_new_tokens, "k": k, "seed": seed},
        cells=summarised(records, samples, seed),
        rejected={arm: own.rejected for arm, own in heard.items()},
        records=tuple(records),
    )


def _told(speaker: Speaker, event: Event, number: int) -> Told:
    free = [Ask(question.text) for question in (*event.questions, *event.local)]
    chosen = [_ask(choice) for choice in (*event.choices, *event.local_choices)]
    passage = Passage(f"event-{event.id or number}", event.text)
    return Told((speaker.as_asked(as_fact(event)),), (passage,), (*free, *chosen))


def _ask(choice: Choice) -> Ask:
    marks = [f"({letter})" for letter in LETTERS[: len(choice.options)]]
    listed = " ".join(f"{m} {option}" for m, option in zip(marks, choice.options, strict=True))
    return Ask(f"{choice.text} {listed}", tuple(marks))


def _record(event: Event, told: Told, answers: Mapping[str, tuple[str, ...]]) -> ToldRecord:
    ends = [len(event.questions), len(event.local), len(event.choices)]
    a, b, c = ends[0], sum(ends[:2]), sum(ends)
    before = answers[UNEDITED]
    scores = {}
    for arm, said in answers.items():
        right = [_right(*pair) for pair in zip(event.questions, said[:a], strict=True)]
        local = zip(event.local, said[a:b], before[a:b], strict=True)
        kept = [_meant(question, x) == _meant(question, y) for question, x, y in local]
        trend = [
            said[b + n] == f"({LETTERS[choice.answer]})" for n, choice in enumerate(event.choices)
        ]
        same = [x == y for x, y in zip(said[c:], before[c:], strict=True)]
        found = {
            "facts": right,
            "event": [all(right)] if right else [],
            "locality": kept,
            "tendency": trend,
            "tendency locality": same,
        }
        scores[arm] = {name: sum(row) / len(row) for name, row in found.items() if row}
    return ToldRecord(event.id, tuple(ask.text for ask in told.asks), dict(answers), scores)


def _right(question: EventQuestion, text: str) -> bool:
    names = {_plain(name) for name in question.answers}
    return UNKNOWN in _plain(text) if UNKNOWN in names else _plain(text) in names


def _meant(question: EventQuestion, text: str) -> str:
    """What an answer to a local question means, in one form."""
    said, names = _plain(text), [_plain(name) for name in question.answers]
    return UNKNOWN if UNKNOWN in said else names[0] if said in names else said


def _plain(text: str) -> str:
    """The first line, lower-cased, without the full stop at its end."""
    return text.strip().split("\n")[0].strip().lower().removesuffix(".")
