"""What a model's weights are now: their fingerprint, and what is kept as long as they stay."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from memkit.lm.fingerprint import versions, weights_hash

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["State"]

T = TypeVar("T")


class State:
    """The weights and live adaptors of a model, watched: nothing is hashed twice."""

    def __init__(self, lm: LM) -> None:
        self.lm = lm
        self._print: tuple[object, str] | None = None
        self._kept: tuple[str, dict[Any, Any]] = ("", {})

    def fingerprint(self) -> str:
        """SHA-256 of config, weights and adaptors as they are; computed only after a change."""
        version = self._version()
        if self._print is None or self._print[0] != version:
            over = "".join(edit.digest() for edit in self.lm.edits if edit.adaptor is not None)
            whole = weights_hash(self.lm.model) + over
            self._print = (version, hashlib.sha256(whole.encode()).hexdigest() if over else whole)
        return self._print[1]

    def known(self) -> str | None:
        """The fingerprint, if it need not be computed."""
        current = self._print is not None and self._print[0] == self._version()
        return self._print[1] if self._print is not None and current else None

    def remember(self, known: str | None) -> None:
        """Say what the fingerprint is now; None: not known."""
        self._print = None if known is None else (self._version(), known)

    def keep(self, key: object, make: Callable[[], T], slot: str | None = None) -> T:
        """What `make` gives: made once, kept as long as the weights are what they are now.

        Of what is large, name a slot: it holds what was asked for last, and nothing else.
        """
        current = self.fingerprint()
        if self._kept[0] != current:
            self._kept = (current, {})
        kept, place = self._kept[1], key if slot is None else ("slot", slot)
        if place not in kept or kept[place][0] != key:
            kept.pop(place, None)  # before another one is made
            kept[place] = key, make()
        value: T = kept[place][1]
        return value

    def _version(self) -> object:
        """What differs whenever weights or live adaptors do."""
        over = [(id(e), e.revision) for e in self.lm.edits if e.adaptor is not None]
        return versions(self.lm.model), over
