"""What the loaders of streams share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from memkit.benchmarks.base import Metric, Stream
from memkit.errors import BadInput
from memkit.types import Fact, Question

__all__ = ["made", "shuffled", "split_text"]

T = TypeVar("T")


def shuffled(items: Sequence[T], seed: int) -> list[T]:
    """The items in the order of numpy's legacy permutation, which the GRACE code draws with 42."""
    return [items[i] for i in np.random.RandomState(seed).permutation(len(items))]


def split_text(text: str, id: str | None = None) -> Question | None:
    """A running text as a question: its first word, to be continued with the rest."""
    first, _, rest = text.strip().partition(" ")
    return Question(first, answers=(rest.strip(),), id=id) if rest.strip() else None


def made(
    name: str,
    metric: Metric,
    edits: Sequence[Fact],
    upstream: Sequence[Question],
    holdout: Sequence[Question] = (),
    accurate: Sequence[Question] = (),
) -> Stream:
    """The stream. Raises `BadInput` without edits or without test data."""
    for what, rows in (("edits", edits), ("upstream", upstream)):
        if not rows:
            raise BadInput(
                f"the stream {name!r} has no {what}; allowed: at least one. Check its source."
            )
    return Stream(name, metric, tuple(edits), tuple(upstream), tuple(holdout), tuple(accurate))
