"""SCOTUS: opinions of the Supreme Court by issue area, whose labels shift with the years.

Rows {text, label}, the label a number or a name: tomh/grace-scotus on the Hub, where the upstream
test data are the split "train" and the edits the split "test"; or a file for each. One half of the
edits' documents, in the order of `seed`, are the holdout.

A label that is a number n stands for "LABEL_n", as transformers names the classes of a model that
has no other names for them (tomh/scotus-bert). A document's subject is its first line.
"""

from __future__ import annotations

import os

from memkit.benchmarks.base import Stream
from memkit.benchmarks.records import Record, read
from memkit.benchmarks.streams.sources import made, shuffled
from memkit.errors import BadInput
from memkit.types import Fact, Question

__all__ = ["HUB", "load"]

HUB = "tomh/grace-scotus"

Source = str | os.PathLike[str] | None


def load(
    path: Source, upstream: Source, limit: int | None, upstream_limit: int, seed: int
) -> Stream:
    """The stream, from two files or from the Hub (None: `HUB`).

    Raises `BadInput` for a file without the other one.
    """
    if path is not None and upstream is None:
        raise BadInput(
            f"scotus has the edits {str(path)!r} and upstream None; allowed: a file for each, or "
            "None for both. Name the file with the split 'train'."
        )
    edits = shuffled(read("scotus", path, None if path else "test", hub=HUB), seed)
    tested = read("scotus", upstream, None if upstream else "train", hub=HUB)
    middle = (len(edits) + 1) // 2
    return made(
        "scotus",
        "accuracy",
        [_fact(record) for record in edits[:middle][:limit]],
        [_question(record) for record in tested[:upstream_limit]],
        [_question(record) for record in edits[middle:]],
    )


def _label(record: Record) -> str:
    label = record.fields.get("label")
    if isinstance(label, int) and not isinstance(label, bool):
        return f"LABEL_{label}"
    return record.text("label")


def _fact(record: Record) -> Fact:
    text = record.text("text").replace("{}", "{ }")
    subject = text.split("\n", 1)[0].strip()
    return Fact(subject=subject, prompt=text, target=_label(record), id=record.id)


def _question(record: Record) -> Question:
    return Question(record.text("text"), answers=(_label(record),))
