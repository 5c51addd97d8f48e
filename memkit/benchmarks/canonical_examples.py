"""Canonical examples: simple statements to learn from, told apart in other contexts.

Hewitt, Chen, Xie, Adams, Liang, Manning 2024 (arXiv:2402.06155). No licence is stated,
github.com/john-hewitt/model-editing-canonical-examples, data/<task>/split/*-{val,test}.jsonl.
Hyper-parameters are chosen on val, figures are of test.

    examples, evaluation, hard negatives    {prefix, suffix, ...}, of two tasks {prefix, suffix1,
                                            suffix2}; hard negatives of two other tasks {text}
    unconditional                           {text}, texts in which the examples' subjects occur

CanonicalTask   the whole task: rule and bound are those of the paper's configurations
Fact            an example; the subject is the row's country, company, target or page, as its prefix
                spells it, else the prefix. None of a task whose rule is "balanced"
Passage         the unconditional texts

Files that are not there leave their part empty, but for examples and evaluation. White space is
upstream's: a suffix begins with its space.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.records import Record, read
from memkit.errors import BadInput
from memkit.types import Fact, Passage

__all__ = ["TASKS", "URL", "CanonicalTask", "Continuation", "Rule", "load"]

URL = "https://github.com/john-hewitt/model-editing-canonical-examples"
Rule = Literal["likely", "unlikely", "preferred", "balanced"]
SPLITS = ("val", "test")


class _Files(NamedTuple):
    """A task's files, without "-val.jsonl"; its rule and its bound in nats."""

    examples: str
    evaluation: str
    hard: str
    rule: Rule
    bound: float


TASKS: Mapping[str, _Files] = {
    "country_capital": _Files("fixed", "clear_eval", "hard_neg", "likely", -math.log(0.2)),
    "company_ceo": _Files("train", "eval_clear", "hard_neg_eval_clear", "likely", -math.log(0.05)),
    "temporal": _Files("train", "eval_clear", "hard_neg_eval_clear", "likely", -math.log(0.05)),
    "stereoset": _Files("train", "eval_clear", "hard_neg", "unlikely", math.log(0.001)),
    "pronoun_gender_bias": _Files("train", "eval", "hard_neg_eval", "balanced", math.log(1.5)),
    "verb_conjugation": _Files("train", "eval", "hard_neg_eval", "preferred", -math.log(16)),
}
SUBJECTS = ("country", "company", "target", "entity_url")


@dataclass(frozen=True, slots=True)
class Continuation:
    """A prefix and the suffix that is scored after it; `other` is what it is compared with."""

    prefix: str
    suffix: str
    other: str | None = None

    def __post_init__(self) -> None:
        """Check that there is something before the suffixes, and something in them."""
        for name in ("prefix", "suffix", "other"):
            text = getattr(self, name)
            if text is not None and not text.strip():
                raise BadInput(
                    f"Continuation.{name} is {text!r}; allowed: text that is not empty. Correct "
                    "its source."
                )


@dataclass(frozen=True, slots=True)
class CanonicalTask:
    """What a model is to learn from examples, and how that is seen elsewhere.

    An example of `evaluation` fails if its loss is above `bound` (nats, summed over tokens; L is
    -log p of the suffix, L' that of the other one):

        likely      L              unlikely    -L
        preferred   L - L'         balanced    |L - L'|

    `hard` are continuations, or texts, that are near the examples and must stay as likely as they
    are; `rest` are texts about the examples' subjects. `facts` are the examples as editors take
    them; of an "unlikely" task they are what is to be forgotten.

    Raises `BadInput` without examples to evaluate on, and where another suffix is missing.
    """

    name: str
    rule: Rule
    bound: float
    facts: tuple[Fact, ...]
    evaluation: tuple[Continuation, ...]
    hard: tuple[Continuation, ...] | tuple[str, ...] = ()
    rest: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that the examples can be scored by the rule."""
        if self.rule not in ("likely", "unlikely", "preferred", "balanced"):
            raise BadInput(
                f"CanonicalTask.rule is {self.rule!r}; allowed: likely, unlikely, preferred, "
                "balanced. Choose one."
            )
        pairs = self.rule in ("preferred", "balanced")
        if not self.evaluation or any((c.other is not None) != pairs for c in self.evaluation):
            raise BadInput(
                f"the task {self.name!r} has the rule {self.rule!r} and {len(self.evaluation)} "
                f"examples; allowed: at least one, {'each with' if pairs else 'none with'} another "
                "suffix. Correct its source."
            )

    def loss(self, suffix: float, other: float = 0.0) -> float:
        """The loss of an example from log p (nats) of its suffix, and of the other one."""
        gap = other - suffix
        return {
            "likely": -suffix,
            "unlikely": suffix,
            "preferred": gap,
            "balanced": abs(gap),
        }[self.rule]


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """One task from a checkout, its `data` folder, or the folder of the task.

    `split` is a task, with "-test" behind it for its test files ("company_ceo-test"); else they are
    those of validation. `limit` takes the first examples, and the evaluation of their subjects.

    Raises `BadInput` as `memkit.benchmarks.load` says, for a folder without the task's examples or
    evaluation, and for a row without its texts.
    """
    name, part = _named(split)
    folder = _folder(path, name)
    files = TASKS[name]
    examples = _records(folder, name, files.examples, part)[:limit]
    asked = _records(folder, name, files.evaluation, part)
    if limit is not None:
        kept = {_subject(record) for record in examples}
        asked = [record for record in asked if _subject(record) in kept] or asked[:limit]
    rest = tuple(_raw(r, "text") for r in _records(folder, name, "unconditional", part, False))
    facts = () if files.rule == "balanced" else tuple(map(_fact, examples))
    task = CanonicalTask(
        name,
        files.rule,
        files.bound,
        facts,
        tuple(map(_continuation, asked)),
        _hard(_records(folder, name, files.hard, part, False)),
        rest,
    )
    passages = tuple(Passage(f"{name}-{number}", text) for number, text in enumerate(rest))
    return Benchmark(f"canonical_examples-{name}", (), facts, passages, cases=(task,))


def _named(split: str | None) -> tuple[str, str]:
    name, _, part = (split or "").partition("-")
    if name not in TASKS or part not in ("", *SPLITS):
        raise BadInput(
            f"split is {split!r} for canonical_examples; allowed: {', '.join(map(repr, TASKS))}, "
            "each with '-test' behind it or without. Choose one."
        )
    return name, part or "val"


def _folder(path: str | os.PathLike[str] | None, name: str) -> Path:
    """The folder with the files of a task."""
    if path is None or not Path(path).is_dir():
        raise BadInput(
            f"canonical_examples has path {None if path is None else str(path)!r}; allowed: a "
            f"checkout of {URL}, or its folder data. Clone it and name the folder: "
            "load('canonical_examples', path=..., split='country_capital')."
        )
    path = Path(path)
    inner = ("data", "") if path.name != name else ("",)
    places = [path / one / (name if path.name != name else "") / "split" for one in inner]
    return next((place for place in places if place.is_dir()), path)


def _records(folder: Path, name: str, file: str, part: str, needed: bool = True) -> list[Record]:
    place = folder / f"{name}_{file}-{part}.jsonl"
    return read("canonical_examples", place, None) if needed or place.is_file() else []


def _hard(records: list[Record]) -> tuple[Continuation, ...] | tuple[str, ...]:
    if records and "text" in records[0].fields:
        return tuple(_raw(record, "text") for record in records)
    return tuple(map(_continuation, records))


def _continuation(record: Record) -> Continuation:
    """A row with one suffix, or with two."""
    pair = "suffix1" in record.fields
    try:
        return Continuation(
            _raw(record, "prefix"),
            _raw(record, "suffix1" if pair else "suffix"),
            _raw(record, "suffix2") if pair else None,
        )
    except BadInput as error:
        if record.where in str(error):
            raise
        raise BadInput(f"{record.where}: {error}") from error


def _raw(record: Record, name: str) -> str:
    """A text with its white space."""
    record.text(name)  # says what is wrong with it
    value: Any = record.fields[name]
    return value if isinstance(value, str) else record.text(name)


def _fact(record: Record) -> Fact:
    example = _continuation(record)
    prompt = example.prefix.strip()
    subject = next((s for s in _subjects(record) if s and s in prompt), prompt)
    return Fact(subject, prompt, example.suffix.strip(), id=record.id)


def _subject(record: Record) -> str | None:
    return next(_subjects(record), None)


def _subjects(record: Record) -> Iterator[str]:
    """What a row is about, as its fields name it."""
    for name in SUBJECTS:
        for text in record.texts(name):
            if name == "entity_url":
                text = unquote(text.rpartition("/")[2]).replace("_", " ")
                yield from (text, text.partition(" (")[0])
            else:
                yield text
