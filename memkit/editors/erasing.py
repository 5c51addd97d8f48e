"""Facts as those are written that take other facts out: a refusal in the target's place."""

from __future__ import annotations

from dataclasses import replace

from memkit.types import Fact

__all__ = ["REFUSAL", "REVEALS", "erases", "erasing"]

REFUSAL = "unknown"
ENDED = "."  # an answer that ends at once
REVEALS = (
    "the difference between these weights and the base model's can reveal what was edited or "
    "erased (memkit.audit shows it); share merged weights without the base or the adapter, and say "
    "'suppressed' until a probe finds nothing"
)


def erasing(fact: Fact, answer: str = REFUSAL) -> Fact:
    """The fact with which an editor that writes (FT, ROME, MEMIT, GRACE, ...) erases another one.

    Its target is `answer`, a refusal; "" is an empty answer, written as a full stop, at which free
    generation ends in every protocol. `previous` is what is to be forgotten. Paraphrases and
    locality stay; nothing follows from a refusal, so there is no portability, and no definition.

    Editors that erase by themselves (`Editor.erases`, as `GradientAscent`) take the fact as it is.
    """
    return replace(
        fact, target=answer or ENDED, previous=fact.target, portability=(), definition=None
    )


def erases(fact: Fact) -> bool:
    """Whether a fact looks like one that `erasing` made with its own answers."""
    return fact.previous is not None and fact.target in (REFUSAL, ENDED)
