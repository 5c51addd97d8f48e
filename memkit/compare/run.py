"""Running a specification: what is done stays done, what changed or failed is run again."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from memkit import progress
from memkit.compare.executors import Executor, Serial
from memkit.compare.grid import Cell, Grid, grid
from memkit.compare.log import Log, locked, stored
from memkit.compare.manifest import begun, ended, write_manifest
from memkit.compare.records import AnswerRecord, CellRecord, Record
from memkit.compare.results import Results, results
from memkit.compare.spec import Spec, read_spec
from memkit.compare.trackers import Tracker, cell_metrics, tracker

__all__ = ["run"]

Announce = Callable[[str], None]


def run(
    spec: str | os.PathLike[str] | Mapping[str, Any] | Spec,
    out: str | os.PathLike[str],
    *,
    executor: Executor | None = None,
    track: str | None = None,
    announce: Announce = lambda text: None,
) -> Results:
    """Run what is not done yet of a specification, and give all results of the folder `out`.

    `executor` says where; None is this process, one cell after the other. `track` names a tracker
    (`memkit.compare.trackers`) that is sent the scores of each cell, too. `announce` is told of
    every cell that ends.

    A cell that fails, for whatever reason, is recorded with its traceback, and the others go on;
    `Results.failures` has them, and the next call tries them again.

    Raises `BadInput` for a specification that is not allowed, before anything runs, and for a
    folder that another process works in; `MissingDependency` for a tracker that is not installed.
    """
    made = grid(read_spec(spec))
    send = None if track is None else tracker(track, made.spec.name)
    if not any(memory.plain for memory in made.memories.values()):
        announce(
            "no memory is the model as it is, so the tables cannot show what changed; an empty "
            "[memories.none] is that"
        )
    folder = Path(out)
    with locked(folder), Log(folder) as log:
        session = _Session(made, log, announce, send)
        manifest = begun(made, folder, session.ended())
        write_manifest(manifest, folder)
        how = "done"
        try:
            session.run(executor or Serial())
        except BaseException as error:
            how = "interrupted" if isinstance(error, KeyboardInterrupt) else repr(error)
            raise
        finally:
            manifest = ended(manifest, made, session.ended(), how)
            try:
                write_manifest(manifest, folder)
            except OSError as error:  # the disk is full: what is known is given all the same
                announce(f"the manifest stays as it was when the run began, {error}")
    return results(folder, manifest)


class _Session:
    """One process's work on a grid: it alone writes."""

    def __init__(self, grid: Grid, log: Log, announce: Announce, send: Tracker | None) -> None:
        self.grid = grid
        self.log = log
        self.announce = announce
        self.send = send
        self.unwritten: dict[str, CellRecord] = {}  # ends that the disk did not take

    def ended(self) -> dict[str, CellRecord]:
        """How each cell ended, as far as it did."""
        return {**self.log.ended, **self.unwritten}

    def run(self, executor: Executor) -> None:
        """Run all cells that have not ended well."""
        waiting = [cell for cell in self.grid.cells if not self.log.done(cell.id)]
        done = len(self.grid.cells) - len(waiting)
        if done:
            self.announce(f"{done} of {len(self.grid.cells)} cells are done already")
        names = {cell.id: cell.name for cell in waiting}
        for end in progress.track(self._ends(executor, waiting), "cells", total=len(waiting)):
            how = f"failed, {end.error}" if end.error is not None else f"{end.seconds:.1f} s"
            self.announce(f"{names[end.cell]}: {how}")
            if self.send is not None and end.status == "done":
                self._track(end.cell, self.send)

    def _track(self, cell: str, send: Tracker) -> None:
        """Send a cell's scores; where that fails it is said, and the run goes on."""
        own = stored(self.log.path.parent, {cell})
        records = [record for record in own if isinstance(record, AnswerRecord)]
        try:
            send(self.grid.find(cell), cell_metrics(records))
        except Exception as error:  # whatever a service and its client may raise
            self.announce(f"the tracker failed, {type(error).__name__}: {error}")

    def _ends(self, executor: Executor, waiting: Sequence[Cell]) -> Iterator[CellRecord]:
        """Write records as they come; give the ends."""
        broken: dict[str, CellRecord] = {}
        start = time.perf_counter()
        for records in executor.run(self.grid, waiting, self.log.seen):
            yield from self._written(records, broken, start)

    def _written(
        self, records: Sequence[Record], broken: dict[str, CellRecord], start: float
    ) -> Iterator[CellRecord]:
        """Write records; those of a cell that the disk did not take are left out, but its end."""
        cell, over = records[0].cell, _end(records)
        if cell in broken:
            if not over:
                return
            records = [broken[cell]]
        try:
            self.log.append(records)
            self.unwritten.pop(cell, None)
        except OSError as error:
            said, last = f"{type(error).__name__}: {error}", traceback.format_exception(error)
            seconds = time.perf_counter() - start
            broken[cell] = CellRecord(cell, "failed", seconds, said, "".join(last))
            if over:
                self.unwritten[cell] = broken[cell]
        if over:
            yield self.ended()[cell]


def _end(records: Sequence[Record]) -> bool:
    return isinstance(records[-1], CellRecord)
