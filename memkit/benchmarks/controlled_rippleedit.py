"""Controlled RippleEdit: stories of invented people, and questions that go through them.

Liu, Durrett and Choi 2025 (PropMEND): a story of three sentences ties one invented entity to three
real ones; a question asks for something known of one of these.
No licence is stated, github.com/leo-liuzy/propmend.

    {text, questions [], answers [], loc "nq question: ...", loc_ans}

Passage     the story, by the number of its row
Question    each question; gold is its story, id "<row>/<number>"
Fact        none: a story is no triple. The locality questions are questions too, "<row>/loc"
"""

from __future__ import annotations

import os

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.edits import parallel
from memkit.benchmarks.records import Record, read
from memkit.types import Passage, Question

__all__ = ["URL", "load"]

URL = "https://github.com/leo-liuzy/propmend"


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """Controlled RippleEdit from one of its files. `limit` takes the first stories.

    Raises `BadInput` as `memkit.benchmarks.load` says, without a path, and for a row with more
    questions than answers, or fewer.
    """
    records = read("controlled_rippleedit", path, split, url=URL)[:limit]
    questions = tuple(question for record in records for question in _questions(record))
    passages = tuple(Passage(record.id, record.text("text")) for record in records)
    return Benchmark(name="controlled_rippleedit", questions=questions, passages=passages)


def _questions(record: Record) -> list[Question]:
    made = [
        Question(text, (answer,), gold=(record.id,), id=f"{record.id}/{number}")
        for number, (text, answer) in enumerate(parallel(record, "questions", "answers"))
    ]
    if record.texts("loc"):
        text = record.text("loc").removeprefix("nq question:").strip()
        made.append(Question(text, (record.text("loc_ans"),), id=f"{record.id}/loc"))
    return made
