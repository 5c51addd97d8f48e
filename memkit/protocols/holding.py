"""Ways for edits to hold: written into the weights, told in the prompt, or found in a store.

`memkit.protocols.ripple` and `multihop` take an editor, or one of the two others, and ask all of
them the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from memkit.errors import BadInput
from memkit.lm.checks import check_count
from memkit.retrieval.base import Retriever
from memkit.types import Fact, Passage

__all__ = ["FRAME", "Asker", "Held", "InContext", "Retrieval", "Told", "bare"]

Form = Literal["imagine", "statement"]
Store = Literal["bm25", "dense", "definitions"]
FRAME = "{question}"


@dataclass(frozen=True, slots=True)
class InContext:
    """The edits stand in the prompt, before the query: the in-context baseline.

    form: "imagine" is that of Cohen et al. (TACL 2024, section 5), "Imagine that TARGET would have
        been the name of ... of SUBJECT.", where the fact's prompt ends with "is" or "are", else
        "Imagine that STATEMENT". "statement" tells the edit as it is; so does the paper's code.
    separator: stands between edits and query. In the code it is a line break.

    Where not all edits fit into the window, the first ones do.
    """

    form: Form = "imagine"
    separator: str = "\n"

    def __post_init__(self) -> None:
        """Check the form."""
        if self.form not in get_args(Form):
            allowed = ", ".join(map(repr, get_args(Form)))
            raise BadInput(f"InContext.form is {self.form!r}; allowed: {allowed}. Choose one.")


@dataclass(frozen=True, slots=True)
class Retrieval:
    """The edits are passages of a store; what a search finds for a query stands before it.

    store: "bm25", "dense", or "definitions", which finds the edits whose subject the query names;
        or a function that makes a retriever of passages (their titles are the subjects).
    k: how many passages are shown.
    gate: whether only passages are shown whose subject the query names. Without it an unrelated
        query gets an unrelated edit.
    separator: as of `InContext`.
    """

    store: Store | Callable[[Sequence[Passage]], Retriever] = "bm25"
    k: int = 1
    gate: bool = False
    separator: str = "\n"

    def __post_init__(self) -> None:
        """Check store and k."""
        check_count("Retrieval.k", self.k)
        if not callable(self.store) and self.store not in get_args(Store):
            allowed = ", ".join(map(repr, get_args(Store)))
            raise BadInput(
                f"Retrieval.store is {self.store!r}; allowed: {allowed}, or a function of passages."
                " Choose one."
            )


@dataclass(frozen=True, slots=True)
class Told:
    """An edit as a fact and as a sentence."""

    fact: Fact
    statement: str


class Asker(Protocol):
    """Makes prompts of queries, while edits hold."""

    def __call__(self, queries: Sequence[str], frames: Sequence[str] | None = None) -> list[str]:
        """One prompt a query; a frame has "{question}" where the query goes (None: it is all)."""
        ...


class Held(Protocol):
    """A way that is ready for a model: makes edits hold within a block."""

    chosen: Mapping[str, str]

    def __str__(self) -> str:
        """The way, with what was chosen filled in."""
        ...

    def holding(self, told: Sequence[Told]) -> contextlib.AbstractContextManager[Asker]:
        """Within the block these edits hold. Raises `EditRejected` if a guard refuses them."""
        ...


def bare(queries: Sequence[str], frames: Sequence[str] | None = None) -> list[str]:
    """The queries in their frames, with nothing before them: an `Asker` while no edit holds."""
    frames = frames or [FRAME] * len(queries)
    return [f.replace(FRAME, q) for f, q in zip(frames, queries, strict=True)]
