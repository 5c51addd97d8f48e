"""Patience with a server: time-outs, retries with back-off, and an error that names the host."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from memkit.errors import BadInput, Unreachable

__all__ = ["Patience"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a server, and how often to ask again.

    timeout: seconds that one request may take; more than 0.
    retries: how often a request is repeated that the server did not answer; at least 0.
    backoff: seconds before the first repetition, twice as many before each further one.

    Only requests that can be repeated without harm are sent through `ask`: reading, and writing
    what overwrites itself.

    Raises `BadInput` for a value that is not allowed.
    """

    timeout: float = 30.0
    retries: int = 3
    backoff: float = 0.5

    def __post_init__(self) -> None:
        """Check the values."""
        for name, value, low in (
            ("timeout", self.timeout, 1e-3),
            ("retries", self.retries, 0),
            ("backoff", self.backoff, 0),
        ):
            if not low <= value < float("inf"):
                raise BadInput(
                    f"Patience.{name} is {value!r}; allowed: a number of at least {low}. Leave it "
                    "out for the usual one."
                )

    def ask(
        self,
        request: Callable[[], T],
        *,
        host: str,
        doing: str,
        transient: tuple[type[Exception], ...],
    ) -> T:
        """The answer to a request, repeated while it fails with a `transient` exception.

        Raises `Unreachable` when all repetitions have failed too; other exceptions pass.
        """
        for attempt in range(self.retries + 1):
            try:
                return request()
            except transient as error:
                if attempt == self.retries:
                    raise Unreachable(
                        f"{host} did not answer while {doing}, {self.retries + 1} times "
                        f"({type(error).__name__}: {' '.join(str(error).split())[:200]}). Check "
                        "that the server runs and that address, port and firewall let you reach "
                        "it; for a slow one give a larger timeout."
                    ) from error
                time.sleep(self.backoff * 2**attempt)
        raise AssertionError("unreachable")
