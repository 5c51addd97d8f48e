"""Progress on stderr, for work that takes longer than two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

__all__ = ["track"]

T = TypeVar("T")
PATIENCE = 2.0  # seconds of work before a bar appears


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield the items; after two seconds show a bar named `what` on stderr.

    `total` is the number of items where `items` does not know it. Nothing is drawn where stderr
    is not a terminal.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if not sys.stderr.isatty():
        yield from items
        return

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    start, shown, done = time.monotonic(), False, 0
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = progress.add_task(what, total=total)
    try:
        for item in items:
            yield item
            done += 1
            if not shown and time.monotonic() - start > PATIENCE:
                progress.start()
                shown = True
            progress.update(task, completed=done)
    finally:
        if shown:
            progress.stop()
