"""Facts from the rows of editing benchmarks: what their loaders share."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.records import Record
from memkit.errors import BadInput
from memkit.progress import track
from memkit.types import Fact, Question

__all__ = ["edit", "gather", "pairs", "parallel"]


def pairs(records: Iterable[Record], prompt: str, expected: str) -> tuple[tuple[str, str], ...]:
    """Prompt and canonical answer of each probe: the first texts of these two fields.

    A probe that lacks one of them can test nothing, and is left out.
    """
    found = ((record.texts(prompt), record.texts(expected)) for record in records)
    return tuple((asked[0], answers[0]) for asked, answers in found if asked and answers)


def parallel(record: Record, asked: str, answers: str) -> tuple[tuple[str, str], ...]:
    """Prompt and answer by place in two lists of a row; a pair with a blank side is left out.

    Raises `BadInput` if the lists are not of one length, or hold something else than texts.
    """
    sides = []
    for name in (asked, answers):
        value = record.fields.get(name)
        sides.append(value if isinstance(value, list) else [] if value is None else [value])
    if len(sides[0]) != len(sides[1]):
        raise BadInput(
            f"{record.where} has {len(sides[0])} {asked} and {len(sides[1])} {answers}; allowed: "
            "as many. Correct the row, or take it out."
        )
    rows = (
        Record(record.where, record.id, dict(zip((asked, answers), pair, strict=True)))
        for pair in zip(*sides, strict=True)
    )
    return pairs(rows, asked, answers)


def edit(record: Record, subject: str, prompt: str, **fields: Any) -> Fact | str:
    """The fact of a row, or in words why there is none: the prompt lacks the subject.

    A subject that stands there in other case is spelled as the prompt spells it. `fields` are
    the other ones of `Fact`.
    """
    if "{}" not in prompt and subject not in prompt:
        match = re.search(re.escape(subject), prompt, re.IGNORECASE)
        if match is None:
            return f"the subject {subject!r} is not in the prompt {prompt[:200]!r}"
        subject = match[0]
    return Fact(subject=subject, prompt=prompt, id=record.id, **fields)


def gather(
    name: str,
    records: list[Record],
    convert: Callable[[Record], tuple[Fact | str, Question | None]],
) -> Benchmark:
    """A benchmark of what `convert` makes of each row: a fact, or why there is none; a question.

    Rows without a fact are counted in a warning.
    """
    facts, questions, without = [], [], []
    for record in track(records, f"reading {name}"):
        fact, question = convert(record)
        if isinstance(fact, Fact):
            facts.append(fact)
        else:
            without.append(f"{record.where}: {fact}")
        if question is not None:
            questions.append(question)
    if without:
        warnings.warn(
            f"{len(without)} of {len(records)} rows of {name} give no fact. The first is "
            f"{without[0]}.",
            stacklevel=4,  # who called memkit.benchmarks.load
        )
    return Benchmark(name=name, facts=tuple(facts), questions=tuple(questions))
