"""WikiDYK: facts of Wikipedia's "Did you know", with a question each (Zhang et al. 2025).

arXiv:2505.12306; no licence stated. Read in the form of github.com/BunsenFeng/model_collaboration,
model_collaboration/data/wikidyk.json:

    {name, task_type, dev [{id, input, output, year, fact "that ...?"}], test [...]}

Fact        the question as prompt, and as subject, since no row names one; target is `output`,
            definition the fact as a sentence ("Sky Alps is ..."), for `protocols.unstructured`
Question    `input` with `output`
Passage     the sentence
"""

from __future__ import annotations

import json
import os
import re

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.edits import gather
from memkit.benchmarks.records import Record, read_text, to_records
from memkit.errors import BadInput
from memkit.types import Fact, Passage, Question

__all__ = ["SPLITS", "URL", "load"]

URL = "https://github.com/BunsenFeng/model_collaboration (model_collaboration/data/wikidyk.json)"
SPLITS = ("dev", "test")
ASKED = re.compile(r"^(?:\.\.\.|…)?\s*that\s+(.*?)\s*\?*$", re.DOTALL)


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """WikiDYK from its file; `split` None takes "dev", the only one that upstream filled.

    Raises `BadInput` as `memkit.benchmarks.load` says.
    """
    split = split or "dev"
    if path is None or split not in SPLITS:
        raise BadInput(
            f"wikidyk has path {path!r} and split {split!r}; allowed: a file, and one of "
            f"{', '.join(map(repr, SPLITS))}. Download {URL} and name that "
            "file: load('wikidyk', path=...)."
        )
    source = repr(str(path))
    try:
        found = json.loads(read_text(path, "wikidyk"))
        rows = list(found[split])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise BadInput(
            f"{source} cannot be read ({type(error).__name__}: {error}); allowed: an object with a "
            f"list {split!r}. Check the file."
        ) from error
    records = to_records(enumerate(rows, start=1), f"{source}, {split}", "id")[:limit]
    made = gather("wikidyk", records, _convert)
    passages = tuple(
        Passage(f"wikidyk-{fact.id}", fact.definition) for fact in made.facts if fact.definition
    )
    return Benchmark("wikidyk", made.questions, made.facts, passages)


def _convert(record: Record) -> tuple[Fact | str, Question]:
    question, answer, fact = (record.text(name) for name in ("input", "output", "fact"))
    match = ASKED.match(fact)
    said = match[1] if match else fact.rstrip("? ")
    sentence = f"{said[:1].upper()}{said[1:].removesuffix('.')}."
    made: Fact | str = f"the question {question[:60]!r} has '{{}}' in it, which a prompt fills"
    if "{}" not in question:
        made = Fact(question, question, answer, definition=sentence, id=record.id)
    return made, Question(question, answers=(answer,), id=record.id)
