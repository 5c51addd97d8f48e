"""Ctrl-C waits while bytes are put back."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

__all__ = ["ending_with", "uninterrupted"]


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back SIGINT until the block is done, where Python handles it: in the main thread.

    If the signal came, it is raised again afterwards, once, for the handler that was there.
    """
    outside = signal.getsignal(signal.SIGINT) is None  # a handler that is not Python's
    if outside or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if came:
            signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def ending_with(action: Callable[[], None]) -> Iterator[None]:
    """Run `action` when the block ends, whole, also if Ctrl-C comes just before or within it.

    The action must do the same when it is run twice: it is, where the signal may have come before.
    """
    try:
        yield
    finally:
        try:
            with uninterrupted():
                action()
        except KeyboardInterrupt:
            with uninterrupted():
                action()
            raise
