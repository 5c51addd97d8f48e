"""RetrievalQA: questions that a model cannot answer without text, and others (Zhang et al., 2024).

arXiv:2402.16457 (ACL Findings 2024). 2,785 short-form questions of several sources. MIT,
github.com/hyintell/RetrievalQA; on the Hub as hyintell/RetrievalQA.

    {data_source, question_id, question, ground_truth[], context[{title, text}]}

where an entry of the context may also be a text, or such an object as JSON in a string (the Hub).

Question    relation is the data source, so that scores and thresholds come by source. There is no
            popularity and no subject
Passage     the retrieved context of all questions; `Question.gold` are those of the question's own
            that hold an answer as whole words

Upstream's figures: answers that contain a gold one (`contains`), and how often the model retrieves
where it must.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.context import gold, passage
from memkit.benchmarks.records import Record, read
from memkit.errors import BadInput
from memkit.types import Passage, Question

__all__ = ["HUB", "load"]

HUB = "hyintell/RetrievalQA"


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """RetrievalQA from a file, or from the Hub (None: hyintell/RetrievalQA). `limit`: first rows.

    Raises `BadInput` as `memkit.benchmarks.load` says.
    """
    passages: dict[str, Passage] = {}
    records = read("retrieval_qa", path, split, hub=HUB, key="question_id")[:limit]
    questions = tuple(_question(record, passages) for record in records)
    return Benchmark(name="retrieval_qa", questions=questions, passages=tuple(passages.values()))


def _question(record: Record, passages: dict[str, Passage]) -> Question:
    """The question; its passages are added to those known."""
    answers = record.texts("ground_truth")
    if not answers:
        raise BadInput(
            f"{record.where} has no answers in 'ground_truth'; allowed: at least one. Correct the "
            "row, or take it out."
        )
    own = []
    for found in _opened(record).items("context"):
        texts = found.texts("text")
        if texts:
            title = next(iter(found.texts("title")), None)
            made = passage("retrieval_qa", title, texts[0])
            own.append(passages.setdefault(made.id, made))
    return Question(
        record.text("question"),
        answers=answers,
        relation=next(iter(record.texts("data_source")), None),
        gold=gold(own, answers),
        id=record.id,
    )


def _opened(record: Record) -> Record:
    """The row with objects where its context has strings."""
    context = record.fields.get("context")
    if not isinstance(context, list | tuple):
        return record
    objects = [_object(entry) if isinstance(entry, str) else entry for entry in context]
    return replace(record, fields={**record.fields, "context": objects})


def _object(entry: str) -> Mapping[str, Any]:
    with contextlib.suppress(ValueError):
        if isinstance(found := json.loads(entry), dict) and "text" in found:
            return found
    return {"text": entry}
