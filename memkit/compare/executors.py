"""Executors: who runs the cells. Whatever it is, the records are the same, and one process writes.

An executor is given cells, and what is known of each already; it gives back records as they are
made, and says of every cell how it ended. It raises nothing but what ends the whole run.
"""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from memkit.compare.grid import Cell, Grid
from memkit.compare.records import CellRecord, Record
from memkit.compare.worker import Worker

__all__ = ["Executor", "Serial", "attempt", "by_model"]

Seen = Mapping[str, Collection[str]]


class Executor(Protocol):
    """Runs cells somewhere."""

    def run(self, grid: Grid, cells: Sequence[Cell], seen: Seen) -> Iterator[list[Record]]:
        """Records of the cells that are not in `seen`, a few at a time; each cell ends with its
        `CellRecord`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Serial:
    """One cell after the other in this process, each model loaded once."""

    def run(self, grid: Grid, cells: Sequence[Cell], seen: Seen) -> Iterator[list[Record]]:
        """See `Executor`."""
        for model, own in by_model(cells).items():
            with Worker(grid, model) as worker:
                for cell in own:
                    yield from attempt(worker, cell, seen.get(cell.id, ()))


def attempt(worker: Worker, cell: Cell, seen: Collection[str]) -> Iterator[list[Record]]:
    """A cell's records and its end; an error is a failed cell, and the rest goes on."""
    start = time.perf_counter()
    said = last = None
    try:
        yield from worker.run(cell, seen)
    except Exception as error:
        said, last = f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error))
    seconds = time.perf_counter() - start
    if said is None:
        yield [CellRecord(cell.id, "done", seconds)]
        return
    free()  # only now: the error held on to all that filled the memory
    yield [CellRecord(cell.id, "failed", seconds, said, last)]


def by_model(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """The cells of each model, in order."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.model, []).append(cell)
    return found


def free() -> None:
    """Give back what a failed cell held."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
