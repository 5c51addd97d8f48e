"""What a model's weights are now: their fingerprint, and what is kept as long as they stay."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from memkit.lm.fingerprint import versions, weights_hash

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["Mark", "State"]

T = TypeVar("T")


class Mark:
    """Stands for what weights and live adaptors are at one time; hashed once, if at all.

    `versions` say where each parameter lies and how often it was written to, `over` which adaptors
    are live, as of what step.
    """

    def __init__(self, versions: tuple[tuple[int, int], ...], over: list[tuple[int, int]]) -> None:
        self.versions = versions
        self.over = over
        self.fingerprint: str | None = None


class State:
    """The weights and live adaptors of a model, watched: nothing is hashed twice."""

    def __init__(self, lm: LM) -> None:
        self.lm = lm
        self._now = Mark((), [])
        self._kept: tuple[Mark, dict[Any, Any]] = (self._now, {})

    def mark(self) -> Mark:
        """Stands for what is there now: the same one until something changes."""
        seen, over = versions(self.lm.model), self._over()
        if (self._now.versions, self._now.over) != (seen, over):
            self._now = Mark(seen, over)
        return self._now

    def fingerprint(self) -> str:
        """SHA-256 of config, weights and adaptors as they are; computed only after a change."""
        mark = self.mark()
        if mark.fingerprint is None:
            over = "".join(edit.digest() for edit in self.lm.edits if edit.adaptor is not None)
            whole = weights_hash(self.lm.model) + over
            mark.fingerprint = hashlib.sha256(whole.encode()).hexdigest() if over else whole
        return mark.fingerprint

    def returned(self, mark: Mark, restored: Iterable[Tensor], earlier: Iterable[Mark]) -> None:
        """Say that these parameters have the bytes that they had at the mark.

        If nothing else was written to since, all is as it was then. In `earlier` marks these
        parameters count as not written to since.
        """
        ours = {id(parameter) for parameter in restored}
        back = [id(parameter) in ours for parameter in self.lm.model.parameters()]
        before, seen, over = mark.versions, versions(self.lm.model), self._over()
        if len(seen) != len(before):
            return
        for other in earlier:
            rows = zip(other.versions, before, seen, back, strict=True)
            other.versions = tuple(new if b and own == old else own for own, old, new, b in rows)
        same = all(b or old == new for old, new, b in zip(before, seen, back, strict=True))
        if same and mark.over == over:
            mark.versions = seen
            self._now = mark

    def keep(self, key: object, make: Callable[[], T], slot: str | None = None) -> T:
        """What `make` gives: made once, kept as long as the weights are what they are now.

        Of what is large, name a slot: it holds what was asked for last, and nothing else.
        """
        mark, (held, kept) = self.mark(), self._kept
        same = mark is held or (mark.fingerprint and mark.fingerprint == held.fingerprint)
        if not same:
            kept = {}
        self._kept = mark, kept
        place = key if slot is None else ("slot", slot)
        if place not in kept or kept[place][0] != key:
            kept.pop(place, None)  # before another one is made
            kept[place] = key, make()
        value: T = kept[place][1]
        return value

    def _over(self) -> list[tuple[int, int]]:
        return [(id(edit), edit.revision) for edit in self.lm.edits if edit.adaptor is not None]
