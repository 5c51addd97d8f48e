"""QAEdit: questions of NQ, TriviaQA and SimpleQA as edits (Yang et al., ACL 2025).

arXiv:2502.11177. Apache-2.0, github.com/WanliYoung/Revisit-Editing-Evaluation; on the Hub as
WenDingY/QAEdit.

    {id, source "NQ" | "TQA" | "SQA", prompt, target, subject, rephrase, locality [{loc, loc_ans}]}

Fact        target is what upstream calls the answer; `locality` are 5 questions of NQ each
Question    the prompt with the target as its one answer

An id stands twice where two sources use it: the second becomes "ID#2". Some targets are fragments,
such as ")": they are upstream's, and are kept.
"""

from __future__ import annotations

import os

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.edits import edit, gather, pairs
from memkit.benchmarks.records import Record, read
from memkit.types import Fact, Question

__all__ = ["HUB", "load"]

HUB = "WenDingY/QAEdit"


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """QAEdit from a file, or from the Hub (None: WenDingY/QAEdit, one split). `limit`: first rows.

    Raises `BadInput` as `memkit.benchmarks.load` says.
    """
    return gather("qaedit", read("qaedit", path, split, hub=HUB, key="id")[:limit], _convert)


def _convert(record: Record) -> tuple[Fact | str, Question]:
    prompt, target, subject = (record.text(name) for name in ("prompt", "target", "subject"))
    fact = edit(
        record,
        subject,
        prompt,
        target=target,
        paraphrases=record.texts("rephrase"),
        locality=pairs(record.items("locality"), "loc", "loc_ans"),
    )
    return fact, Question(prompt, answers=(target,), subject=subject, id=record.id)
