"""Facts in time: after the new one, is the old one still known, as of its time?

Yin et al. (AAAI 2024, arXiv:2312.05497), AToKe. Every score is a mean over cases of the share of
right answers, by free, greedy generation up to a stop string, exact match with a name:

    CES, CRS    the current fact, asked with its time (explicit) or without (relative)
    HES, HRS    the facts before, likewise ("From 1937 to 1947, ...'s team was", "used to play for")
    -P          the same in other words
    overwritten historical questions that are answered with the current fact

The arms are those of `memkit.protocols.told`: editors write the new facts as they stand, in order;
prompt and retriever have the whole history, a dated sentence for each fact, so that the question's
time can be compared with the text's. For each editor there is another arm, "<editor>, dated": it
writes every fact of the history with its time and then the new ones without, which is the idea of
the paper's METO (edit the historical and the new knowledge together), not its code.

Departure from the paper: answers are generated, and nothing is scored by teacher forcing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from memkit.benchmarks.happenings import TimedCase
from memkit.lm.checks import check_count
from memkit.metrics import exact_match
from memkit.prompts import Template
from memkit.protocols.editing_probes import first_answer
from memkit.protocols.told import PROMPT, Ask, Speaker, Told, edited, hear
from memkit.protocols.told_result import ToldRecord, ToldResult, summarised
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.editors.base import Editor
    from memkit.lm.model import LM
    from memkit.retrieval.base import Retriever

__all__ = ["temporal"]


def temporal(
    lm: LM,
    editors: Editor | Mapping[str, Editor],
    cases: Sequence[TimedCase],
    *,
    retriever: Retriever | None = None,
    dated: bool = True,
    template: Template | None = None,
    k: int = 1,
    max_new_tokens: int = 16,
    stop: str | Sequence[str] = ("\n", "."),
    samples: int = 1000,
    seed: int = 0,
    batch_size: int = 32,
) -> ToldResult:
    """Score cases in time, as the module says; the model is afterwards as it was.

    `template` None asks a question or cloze as it stands. `retriever` should hold the cases'
    passages (`Benchmark.passages`). `dated` False leaves the dated arms of editors out.

    Raises `BadInput` and `UnsupportedModel` as `memkit.protocols.told.hear`.
    """
    check_count("samples", samples)
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    # what ends an answer may stand in a name ("F.C."), so that generation goes on to a line break
    speaker = Speaker(lm, template or Template("{question}"), max_new_tokens, ("\n",), batch_size)
    told = [_told(speaker, case) for case in cases]
    heard = hear(speaker, editors, told, retriever, k)
    if dated:
        named = editors if isinstance(editors, Mapping) else {type(editors).__name__: editors}
        whole = [
            replace(own, facts=(*_dated(speaker, case), *own.facts))
            for case, own in zip(cases, told, strict=True)
        ]
        more = {f"{name}, dated": edited(speaker, e, whole, name) for name, e in named.items()}
        last = {name: heard.pop(name) for name in list(heard)[list(heard).index(PROMPT) :]}
        heard |= more | last
    records = [
        _record(case, {arm: own.answers[n] for arm, own in heard.items()}, stops)
        for n, case in enumerate(cases)
    ]
    return ToldResult(
        protocol="temporal",
        model=repr(lm),
        settings={"max_new_tokens": max_new_tokens, "stop": stops, "k": k, "seed": seed},
        cells=summarised(records, samples, seed),
        rejected={arm: own.rejected for arm, own in heard.items()},
        records=tuple(records),
    )


def _told(speaker: Speaker, case: TimedCase) -> Told:
    asks = tuple(Ask(question.text) for question in case.questions)
    return Told(tuple(map(speaker.as_asked, case.edits)), case.passages, asks)


def _dated(speaker: Speaker, case: TimedCase) -> list[Fact]:
    """The history, every fact with its time."""
    return [speaker.as_asked(timed.as_dated) for timed in case.history]


def _record(
    case: TimedCase, answers: Mapping[str, tuple[str, ...]], stops: tuple[str, ...]
) -> ToldRecord:
    now = [q.answers for q in case.questions if q.when == "current"]
    scores = {}
    for arm, said in answers.items():
        found: dict[str, list[float]] = {}
        for question, text in zip(case.questions, said, strict=True):
            answer = first_answer(text, stops, question.answers)
            right = exact_match(answer, question.answers)
            found.setdefault(question.score, []).append(right)
            if question.when == "historical" and now:
                stale = first_answer(text, stops, now[0])
                overwritten = exact_match(stale, now[0]) and not right
                found.setdefault("overwritten", []).append(float(overwritten))
        scores[arm] = {name: sum(row) / len(row) for name, row in found.items()}
    asked = tuple(question.text for question in case.questions)
    return ToldRecord(case.id, asked, dict(answers), scores)
