"""Cells on Ray: on all cores or GPUs of this machine, or on a cluster.

Each worker is a process that loads a model once and runs cell after cell; what it makes comes back
as it is made, and the process that asked writes it. A worker that dies (its machine is lost, the
system ends it for its memory) is replaced, and its cell goes on where its last record is, up to
`retries` times; then the cell has failed, and the rest goes on.

A cell's records depend on the cell alone, so they are those of a serial run, but for time and
memory, and the order in which cells come. A worker refuses a model whose files are others than
here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from memkit.compare.executors import Seen, attempt, by_model
from memkit.compare.grid import Cell, Grid, files_hash, model_folder
from memkit.compare.records import CellRecord, Record
from memkit.compare.worker import Worker
from memkit.errors import BadInput, FingerprintMismatch
from memkit.retrieval.on_ray import running

__all__ = ["OnRay"]

Attempt = Callable[[Worker, Cell, Collection[str]], Iterator[list[Record]]]


@dataclass(frozen=True, slots=True)
class OnRay:
    """An executor on Ray, which is started here unless there is a cluster.

    workers: processes at most for a model. None: one for each CPU, or for each share of a GPU.
    gpus: GPUs of a worker; a fraction shares one. With 0 workers see none, and run on CPUs.
    address: of a cluster; None is `RAY_ADDRESS`, or else this machine alone.
    retries: how often a cell is tried again after its worker was lost.
    attempt: how a worker runs a cell.

    Raises `BadInput` for numbers that make no sense; `MissingDependency` without Ray.
    """

    workers: int | None = None
    gpus: float = 0.0
    address: str | None = None
    retries: int = 3
    attempt: Attempt = attempt

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.workers is not None and self.workers < 1:
            raise BadInput(
                f"workers is {self.workers!r}; allowed: at least 1. Leave it out for all."
            )
        if self.gpus < 0 or self.retries < 0:
            raise BadInput(
                f"gpus is {self.gpus!r} and retries {self.retries!r}; allowed: at least 0."
            )

    def run(self, grid: Grid, cells: Sequence[Cell], seen: Seen) -> Iterator[list[Record]]:
        """See `memkit.compare.executors.Executor`."""
        if not cells:
            return
        with running(self.address) as ray:
            shared = ray.put(grid)
            for model, own in by_model(cells).items():
                room = self._room(ray, len(own))
                yield from _Pool(ray, self, shared, model, deque(own), seen).run(room)

    def _room(self, ray: Any, cells: int) -> int:
        """How many workers there are to be."""
        there = ray.cluster_resources()
        gpus, most = int(there.get("GPU", 0)), max(1, int(there.get("CPU", 1)))
        if self.gpus:
            # a share is of one GPU: what is left over of several makes no worker
            shares = gpus * int(1 / self.gpus) if self.gpus < 1 else int(gpus / self.gpus)
            if shares < 1:
                raise BadInput(
                    f"gpus is {self.gpus!r}, and the cluster has {gpus} GPUs; allowed: no more "
                    "than there are. Leave it out for CPUs."
                )
            most = min(most, shares)
        return min(self.workers or most, cells, most)


class _Place:
    """A worker's process."""

    def __init__(self, grid: Grid, model: str, attempt: Attempt) -> None:
        self.attempt = attempt
        self.worker = Worker(_found(grid, model), model)

    def run(self, cell: Cell, seen: Collection[str]) -> Iterator[list[Record]]:
        """A cell's records, as they come."""
        yield from self.attempt(self.worker, cell, seen)


def _found(grid: Grid, model: str) -> Grid:
    """The grid with the model as it lies on this machine, which has to be the same."""
    folder = grid.folders[model]
    if not Path(folder).is_dir():
        folder = model_folder(grid.spec, model)
    here = files_hash(Path(folder))
    if here != grid.models[model]:
        raise FingerprintMismatch(
            f"a worker has models.{model} with hash {here}, and the run has {grid.models[model]}; "
            "allowed: the same files everywhere. Put them there."
        )
    return replace(grid, folders={**grid.folders, model: folder})


@dataclass(slots=True)
class _Pool:
    """The workers of one model, and the cells that wait for them."""

    ray: Any
    executor: OnRay
    grid: Any
    model: str
    waiting: deque[Cell]
    seen: Seen
    busy: dict[Any, tuple[Any, Cell]] = field(default_factory=dict)  # by stream of records
    lost: dict[str, int] = field(default_factory=dict)

    def run(self, room: int) -> Iterator[list[Record]]:
        """Records as they come from any worker."""
        for _ in range(room):
            self._next(self._place())
        while self.busy:
            (stream,), _ = self.ray.wait(list(self.busy), num_returns=1)
            place, cell = self.busy[stream]
            try:
                records: list[Record] = self.ray.get(next(stream))
            except StopIteration:
                del self.busy[stream]
                self._next(place)
            except self.ray.exceptions.RayError as error:
                del self.busy[stream]
                yield from self._again(cell, error)
                if self.waiting:
                    self._next(self._place())
            else:
                yield records

    def _place(self) -> Any:
        """A new worker."""
        options = {"num_cpus": 1, "num_gpus": self.executor.gpus, "max_restarts": 0}
        remote = self.ray.remote(**options)(_Place)
        return remote.remote(self.grid, self.model, self.executor.attempt)

    def _next(self, place: Any) -> None:
        """Give a worker its next cell, or let it go."""
        if not self.waiting:
            self.ray.kill(place)
            return
        cell = self.waiting.popleft()
        stream = place.run.options(num_returns="streaming").remote(
            cell, frozenset(self.seen.get(cell.id, ()))
        )
        self.busy[stream] = (place, cell)

    def _again(self, cell: Cell, error: Exception) -> Iterator[list[Record]]:
        """Put a lost worker's cell back, or give it up."""
        self.lost[cell.id] = self.lost.get(cell.id, 0) + 1
        if self.lost[cell.id] <= self.executor.retries:
            self.waiting.appendleft(cell)
            return
        said = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        yield [CellRecord(cell.id, "failed", 0.0, said, str(error))]
