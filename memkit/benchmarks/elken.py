"""ELKEN: events that change several facts and tendencies (Peng et al. 2024, arXiv:2402.13093).

CC BY-NC-SA 4.0, github.com/THU-KEG/Event-Level-Knowledge-Editing, data/original.

    {event, subject, event_type,
     fact {qas [{question, answer {id, name, alias []}, type, rel_id}], local_qas [...]},
     tendency {qas [{question, candidate "(A) .. (B) ..", answer "B"}], local_qas [...]}}

Event       as its fields say; the options are those of `candidate`
Fact        the event, as what is new about its subject, and as definition
Passage     the event

The official test.json is cut off: a file that ends in the middle of a row is read up to there, with
a warning that says where.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterator
from typing import Any

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.happenings import Choice, Event, EventQuestion
from memkit.benchmarks.records import Record, read_text, to_records
from memkit.errors import BadInput
from memkit.types import Fact, Passage

__all__ = ["URL", "as_fact", "load"]

URL = "https://github.com/THU-KEG/Event-Level-Knowledge-Editing (data/original)"
BLANK, BETWEEN = re.compile(r"\s*"), re.compile(r"[\s,]*")
OPTION = re.compile(r"\(([A-Z])\)\s*([^()]*)")


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """ELKEN from a file, up to where it breaks off. `limit`: first rows.

    Raises `BadInput` as `memkit.benchmarks.load` says, for a file that breaks off before its first
    row ends, and for options that cannot be told apart.
    """
    if path is None or split is not None:
        raise BadInput(
            f"elken has path {path!r} and split {split!r}; allowed: a file, and no split. Download "
            f"{URL} and name that file: load('elken', path=...)."
        )
    source = repr(str(path))
    rows = enumerate(_whole(read_text(path, "elken"), source), start=1)
    cases = tuple(_event(record) for record in to_records(rows, source)[:limit])
    return Benchmark(
        "elken",
        facts=tuple(as_fact(event) for event in cases),
        passages=tuple(Passage(f"elken-{event.id}", event.text) for event in cases),
        cases=cases,
    )


def as_fact(event: Event) -> Fact:
    """An event as editors take it: what is new about its subject, with itself as definition."""
    subject = event.subject or "the world"
    return Fact(subject, "What is new about {}?", event.text, definition=event.text, id=event.id)


def _whole(text: str, source: str) -> Iterator[Any]:
    """The rows of a JSON list, up to the end or to where it breaks off."""
    decoder, at = json.JSONDecoder(), _after(BLANK, text, 0)
    if not text.startswith("[", at):
        raise BadInput(f"{source} is no JSON list; allowed: a list of events. Check the file.")
    count, at = 0, at + 1
    while True:
        at = _after(BETWEEN, text, at)
        if text.startswith("]", at):
            return
        try:
            row, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            warnings.warn(
                f"{source} breaks off in row {count + 1}, line {error.lineno}, column "
                f"{error.colno} ({error.msg}): the {count} rows before it are read.",
                stacklevel=5,  # who called memkit.benchmarks.load
            )
            return
        count += 1
        yield row


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _event(record: Record) -> Event:
    fact, tendency = record.inner("fact"), record.inner("tendency")
    return Event(
        text=record.text("event"),
        subject=next(iter(record.texts("subject")), None),
        kind=next(iter(record.texts("event_type")), ""),
        questions=tuple(_answered(each) for each in fact.items("qas")),
        local=tuple(map(_question, fact.items("local_qas"))),
        choices=tuple(map(_choice, tendency.items("qas"))),
        local_choices=tuple(map(_choice, tendency.items("local_qas"))),
        id=record.id,
    )


def _answered(record: Record) -> EventQuestion:
    question = _question(record)
    if not question.answers:
        raise BadInput(f"{record.where} has no answer; allowed: at least a name. Correct the row.")
    return question


def _question(record: Record) -> EventQuestion:
    answer = record.inner("answer")
    names = (*answer.texts("name"), *answer.texts("alias"))
    return EventQuestion(record.text("question"), tuple(dict.fromkeys(names)))


def _choice(record: Record) -> Choice:
    candidate, answer = record.text("candidate"), record.text("answer").strip("() .")
    found = {letter: text.strip() for letter, text in OPTION.findall(candidate)}
    if len(found) < 2 or answer not in found or not all(found.values()):
        raise BadInput(
            f"{record.where}: candidate is {candidate!r} and answer {answer!r}; allowed: options "
            "as in '(A) more (B) less', and the letter of one. Correct the row, or take it out."
        )
    return Choice(record.text("question"), tuple(found.values()), list(found).index(answer))
