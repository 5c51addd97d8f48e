"""Every error that memkit raises on purpose.

    MemkitError
    ├── BadInput            a value that the caller gave is not allowed
    │   └── MissingSignal   a router needs a signal that it was not given; QA computes it
    ├── UnsupportedModel    no layout knows this architecture, or it cannot do what was asked
    ├── NotTrained          used before `fit` or `train`
    ├── EditRejected        a guard found an edit harmful; it was taken back
    ├── FingerprintMismatch an edit or statistics on disk belong to another model
    ├── IndexMismatch       an index on disk is truncated, foreign, or of another corpus or encoder
    ├── MissingDependency   an optional package or runtime is absent
    └── Unreachable         a server did not answer in time, after all retries

Each message names the value, what is allowed, and the next step. Raised before anything is
changed, or after everything was put back.
"""

from __future__ import annotations

__all__ = [
    "BadInput",
    "EditRejected",
    "FingerprintMismatch",
    "IndexMismatch",
    "MemkitError",
    "MissingDependency",
    "MissingSignal",
    "NotTrained",
    "Unreachable",
    "UnsupportedModel",
]


class MemkitError(Exception):
    """Root of all errors that memkit raises on purpose; the command line exits with 2 on it."""


class BadInput(MemkitError, ValueError):
    """A value that the caller gave is not allowed."""


class MissingSignal(BadInput):
    """A router needs signals that it was not given: `names`. QA computes them and asks again."""

    def __init__(self, message: str, names: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.names = names


class UnsupportedModel(MemkitError):
    """No layout knows this architecture, or the model's kind cannot do what was asked."""


class NotTrained(MemkitError):
    """Used before `fit` or `train`; the message says which to call."""


class EditRejected(MemkitError):
    """A guard found an edit harmful: the message names the figure and its bound.

    The model is as it was before the edit.
    """


class FingerprintMismatch(MemkitError):
    """An edit or statistics on disk belong to another model; the message has both fingerprints."""


class IndexMismatch(MemkitError):
    """An index on disk is truncated, foreign, or of another corpus, engine or encoder."""


class MissingDependency(MemkitError, ImportError):
    """An optional package or runtime is absent; the message says what to install."""


class Unreachable(MemkitError):
    """A server did not answer in time, after all retries; the message names it and what to check.

    Nothing that had come until then is passed off as the whole answer.
    """
