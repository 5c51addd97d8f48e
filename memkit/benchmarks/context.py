"""Passages that a row brings with its question."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from memkit.metrics import contains
from memkit.types import Passage

__all__ = ["gold", "passage"]


def passage(benchmark: str, title: str | None, text: str) -> Passage:
    """A passage with a hash of its contents as id: equal ones, and only those, are one."""
    digest = hashlib.sha256(f"{title or ''}\0{text}".encode()).hexdigest()
    return Passage(f"{benchmark}-{digest[:16]}", text, title)


def gold(own: Iterable[Passage], answers: Sequence[str]) -> tuple[str, ...]:
    """The ids of those that hold an answer as whole words, each once."""
    return tuple(dict.fromkeys(p.id for p in own if contains(p.contents, answers)))
