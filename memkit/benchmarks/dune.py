"""DUnE: edits in free text, with questions that follow (Akyürek et al., EMNLP 2023).

arXiv:2311.16087. MIT, github.com/feyzaakyurek/dune, dune/{arithmetic, new_info, scientific}.json,
each with a file of the same form whose questions must keep their answers (*_locality.json).

    {edits [...], test_inputs [...]}    two parallel lists; a test input is
        text                            arithmetic: the answer is what the edit has after "="
        [question, letter]              scientific
        [[question, letter], ...]       new_info

Event       the edit; options stand in the question, as "A. ..", "a) ..", "(A) .." or "(1) .."
Fact        the edit, as `memkit.benchmarks.elken` has events
Passage     the edit

A question whose options or right letter cannot be found is left out; a warning counts them.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from typing import Any

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.elken import as_fact
from memkit.benchmarks.happenings import Choice, Event, EventQuestion
from memkit.benchmarks.records import read_text
from memkit.errors import BadInput
from memkit.types import Passage

__all__ = ["SPLITS", "URL", "load"]

URL = "https://github.com/feyzaakyurek/dune (dune)"
SPLITS = ("edits", "locality")
LETTERS, DIGITS = "ABCDEFGHIJ", "123456789"
MARKS = {  # of an option, by the names that options may have
    LETTERS: re.compile(r"(?:(?<=\s)|^)\(?([A-Ja-j])[.)]\s+"),
    DIGITS: re.compile(r"(?:(?<=\s)|^)\(([1-9])\)\s+"),
}


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """DUnE from one of its files. `limit`: first edits.

    `split` None or "edits": the questions are what an edit changes; "locality": what it must leave
    alone. An edit without text, as in scientific_locality.json, takes its question's place.

    Raises `BadInput` as `memkit.benchmarks.load` says, for lists of different lengths, and
    for a test input of another form.
    """
    if path is None or split not in (None, *SPLITS):
        raise BadInput(
            f"dune has path {path!r} and split {split!r}; allowed: a file, and split 'edits', "
            f"'locality' or None. Download {URL} and name a file: load('dune', path=...)."
        )
    source, lost = repr(str(path)), 0
    events = []
    for number, (edit, tests) in enumerate(_rows(read_text(path, "dune"), source)[:limit], 1):
        event, without = _event(edit, tests, f"{source}, row {number}", str(number))
        lost += without
        events.append(event if split != "locality" else _local(event))
    if lost:
        warnings.warn(
            f"{lost} questions of {source} have no options, or none that is right, and are left "
            "out.",
            stacklevel=3,  # who called memkit.benchmarks.load
        )
    return Benchmark(
        "dune",
        facts=tuple(as_fact(event) for event in events),
        passages=tuple(Passage(f"dune-{event.id}", event.text) for event in events),
        cases=tuple(events),
    )


def _rows(text: str, source: str) -> list[tuple[Any, Any]]:
    """Pairs of an edit and its test input."""
    try:
        found = json.loads(text)
        edits, tests = found["edits"], found["test_inputs"]
        return list(zip(edits, tests, strict=True))
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(
            f"{source} cannot be read ({type(error).__name__}: {error}); allowed: an object with "
            "lists 'edits' and 'test_inputs' of equal length. Check the file."
        ) from error


def _event(edit: Any, tests: Any, where: str, name: str) -> tuple[Event, int]:
    """An edit with its questions, and how many of them were left out."""
    if not isinstance(edit, str):
        raise BadInput(f"{where}: the edit is {edit!r:.80}; allowed: text. Correct the row.")
    if isinstance(tests, str):
        _, equals, result = edit.rpartition("=")
        if not equals or not result.strip():
            raise BadInput(
                f"{where}: the edit {edit!r:.80} has nothing after '='; allowed: a sum, where the "
                "test input is text alone. Correct the row."
            )
        questions = (EventQuestion(tests, (result.strip(),)),)
        return Event(edit, questions=questions, id=name), 0
    pairs = [tests] if tests and isinstance(tests, list) and isinstance(tests[0], str) else tests
    if not isinstance(pairs, list) or not all(map(_is_pair, pairs)):
        raise BadInput(
            f"{where}: the test input is {tests!r:.80}; allowed: text, [question, letter], or a "
            "list of these pairs. Correct the row."
        )
    made = [_choice(*pair) for pair in pairs]
    choices = tuple(choice for choice in made if choice is not None)
    return Event(edit.strip() or pairs[0][0], choices=choices, id=name), made.count(None)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(x, str) for x in value)


def _choice(text: str, letter: str) -> Choice | None:
    """The question with its options apart; None where there are none, or the letter is not one."""
    name = letter.strip().strip("().").upper()[:1]
    names = DIGITS if name.isdigit() else LETTERS
    marks = list(MARKS[names].finditer(text))
    firsts = [n for n, mark in enumerate(marks) if mark[1].upper() == names[0]]
    if not firsts:
        return None
    kept = marks[firsts[-1] :]
    while [mark[1].upper() for mark in kept] != list(names[: len(kept)]):
        kept = kept[:-1]
    bounds = [*(mark.start() for mark in kept[1:]), len(text)]
    options = tuple(text[mark.end() : end].strip() for mark, end in zip(kept, bounds, strict=True))
    answer = names.find(name or "?")
    if len(options) < 2 or not all(options) or not 0 <= answer < len(options):
        return None
    return Choice(text[: kept[0].start()].strip() or text, options, answer)


def _local(event: Event) -> Event:
    """The same questions as those that an edit must leave alone."""
    return Event(event.text, local=event.questions, local_choices=event.choices, id=event.id)
