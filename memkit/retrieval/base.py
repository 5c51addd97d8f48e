"""What a retriever is: anything with `search`. Nobody inherits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, Self, runtime_checkable

from memkit.errors import BadInput
from memkit.types import Hit, Passage

__all__ = [
    "Closing",
    "Index",
    "Retriever",
    "check_corpus",
    "check_search",
    "ranked",
    "taken",
    "unknown",
]


@runtime_checkable
class Retriever(Protocol):
    """Finds passages for queries.

    Promises: one list for each query, in order; ranks 1..k; scores never increase; ties are broken
    by passage id; `k` beyond the corpus gives what there is; a batch equals one query at a time.
    """

    def search(self, queries: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """The `k` best passages for each query. Raises `BadInput` for an empty query or k < 1."""
        ...


@runtime_checkable
class Index(Retriever, Protocol):
    """A retriever that can change: the non-parametric twin of an edit."""

    def __len__(self) -> int:
        """Number of passages."""
        ...

    def add(self, passages: Iterable[Passage]) -> None:
        """Make the passages searchable at once. Raises `BadInput` for an id already there."""
        ...

    def remove(self, ids: Iterable[str]) -> None:
        """Forget the passages. Raises `BadInput` for an id that is not there, before any goes."""
        ...

    def replace(self, passages: Iterable[Passage]) -> None:
        """Give passages that are there another title and text, at once and together.

        Raises `BadInput` for an id that is not there or stands twice, before any changes.
        """
        ...


class Closing:
    """What is closed where its `with` block ends."""

    def close(self) -> None:
        """Let go of whatever is held."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_search(queries: Sequence[str], k: int) -> None:
    """Raise `BadInput` unless `queries` is a list of non-empty texts and `k` at least 1."""
    if isinstance(queries, str):
        raise BadInput(f"queries is the string {queries!r}; allowed: a list. Pass [{queries!r}].")
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise BadInput(
            f"k is {k!r}; allowed: an integer of at least 1. Ask for one passage or more."
        )
    for number, query in enumerate(queries):
        if not isinstance(query, str) or not query.strip():
            raise BadInput(
                f"query {number} is {query!r}; allowed: text that is not empty. Leave it out."
            )


def check_corpus(passages: Iterable[Passage]) -> list[Passage]:
    """The passages as a list. Raises `BadInput` if there are none or an id stands twice."""
    passages = list(passages)
    if not passages:
        raise BadInput("the corpus is empty; allowed: at least one passage. Check its source.")
    seen: set[str] = set()
    for passage in passages:
        if passage.id in seen:
            raise BadInput(
                f"passage id {passage.id!r} stands twice; allowed: each id once. "
                "Rename or drop one of them."
            )
        seen.add(passage.id)
    return passages


def ranked(scored: Iterable[tuple[Passage, float]], k: int) -> list[Hit]:
    """The `k` best of (passage, score) pairs as hits: by score, then by id, ranks from 1."""
    best = sorted(scored, key=lambda pair: (-pair[1], pair[0].id))[:k]
    return [Hit(passage, score, rank) for rank, (passage, score) in enumerate(best, start=1)]


def taken(id: str) -> BadInput:
    """What to raise for a passage to be added whose id is there already."""
    return BadInput(
        f"passage id {id!r} is in the index already; allowed: new ids. Replace the old passage, "
        "or rename the new one; nothing was changed."
    )


def unknown(id: str) -> BadInput:
    """What to raise for an id that is not there."""
    return BadInput(
        f"no passage has the id {id!r}; allowed: ids of passages in the index. Check the id; "
        "nothing was changed."
    )
