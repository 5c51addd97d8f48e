"""What a run will take: each model is loaded, and a little of everything is timed on it.

    questions   one batch of each form (question, prompt to go on from), spread over the rows, for
                each memory, after one that is not timed; a row's share times all rows
    edits       one block of one fact, and where more are written at once a block of up to 4: cost
                is taken as a + b n; in turn, as n times the first
    corpora     one block's change of the corpus, with the last
    once        loading the model, building indexes, fitting routers and choosing settings: done
                here as in the run, and timed; the seeds after the first as the first

Memory is what the process has in use with the model loaded, and the most that a batch or a block
took beyond it. What is not seen here is what grows with the number of edits in a handle.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from memkit.compare.grid import Cell, Grid, grid
from memkit.compare.rows import Block, Row, Rows
from memkit.compare.spec import Spec, read_spec
from memkit.compare.worker import Worker
from memkit.editors.cost import measured

__all__ = ["Calibration", "Estimate", "estimate", "expected"]

Announce = Callable[[str], None]
FEW = 4  # facts in the larger block that is timed


@dataclass(slots=True)
class Calibration:
    """Seconds that were measured of one memory on one model and benchmark.

    `once` before its first answer; of `row` and `cloze` one question and one prompt; of `one` and
    `few` a block of 1 and of `size` facts. `peak` in bytes.
    """

    once: float = 0.0
    row: float = 0.0
    cloze: float = 0.0
    one: float = 0.0
    few: float = 0.0
    size: int = 1
    peak: int = 0

    def block(self, facts: int, schedule: str) -> float:
        """Seconds for writing so many facts."""
        if schedule == "sequential" or self.size == 1:
            return facts * self.one
        slope = max(0.0, (self.few - self.one) / (self.size - 1))
        return self.one + slope * (facts - 1)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Cells and rows of a grid, and what they are expected to take, by model in seconds.

    `failures` are the errors of what failed already when a little of it was tried.
    """

    grid: Grid
    rows: int
    writes: int
    seconds: dict[str, float] = field(default_factory=dict)
    bytes: int = 0
    failures: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For people."""
        made = self.grid
        axes = (len(made.spec.models), len(made.memories), len(made.spec.benchmarks))
        found = [
            f"{made.spec.name}: {len(made.cells)} cells ({axes[0]} models, {axes[1]} memories, "
            f"{axes[2]} benchmarks, {len(made.spec.seeds)} seeds), {self.rows:,} answers, "
            f"{self.writes:,} facts written",
        ]
        found += [f"left out: {pair}" for pair in made.impossible]
        found += [f"will fail: {failure}" for failure in self.failures]
        for model, seconds in self.seconds.items():
            found.append(f"{model}: about {_time(seconds)}")
        total = sum(self.seconds.values())
        memory = f"{self.bytes / 1e9:.1f} GB of memory"
        found.append(f"in all about {_time(total)} in one process, {memory}")
        return found


def estimate(
    spec: str | os.PathLike[str] | Spec, *, announce: Announce = lambda text: None
) -> Estimate:
    """Check a specification, and say what running it here will take; nothing is recorded.

    What fails when it is tried is listed, and counts no time. Raises as `memkit.compare.run`.
    """
    made = grid(read_spec(spec))
    seconds, most, failures = {}, 0, list[str]()
    for model in dict.fromkeys(cell.model for cell in made.cells):
        announce(f"timing a little of everything on {model}")
        start = time.perf_counter()
        with Worker(made, model) as worker:
            _ = worker.lm
            loading, before = time.perf_counter() - start, _in_use(worker)
            cells = [cell for cell in made.cells if cell.model == model]
            measures: dict[tuple[str, str], Calibration] = {}
            for cell in cells:
                key = (cell.memory, cell.benchmark)
                if key not in measures:
                    try:
                        measures[key] = _calibrated(worker, cell)
                    except Exception as error:
                        measures[key] = Calibration()
                        failures.append(f"{cell.memory} on {model}, {cell.benchmark}: {error}")
        most = max(most, before + max(one.peak for one in measures.values()))
        seconds[model] = loading + expected(made, cells, measures)
    answers = sum(len(made.rows[cell.benchmark, cell.seed].rows) for cell in made.cells)
    facts = [len(made.rows[c.benchmark, c.seed].facts) for c in made.cells if c.count]
    return Estimate(made, answers, sum(facts), seconds, most, tuple(failures))


def expected(
    made: Grid, cells: Sequence[Cell], measures: dict[tuple[str, str], Calibration]
) -> float:
    """Seconds for cells, from what was measured of their memories."""
    total, begun = 0.0, set[tuple[str, str, int]]()
    for cell in cells:
        found, own = measures[cell.memory, cell.benchmark], made.rows[cell.benchmark, cell.seed]
        if (cell.memory, cell.benchmark, cell.seed) not in begun:
            begun.add((cell.memory, cell.benchmark, cell.seed))
            total += found.once
        cloze = sum(row.cloze for row in own.rows)
        total += cloze * found.cloze + (len(own.rows) - cloze) * found.row
        if cell.count:
            total += sum(
                found.block(len(block.facts), cell.schedule) for block in own.blocks(cell.count)
            )
    return total


def _calibrated(worker: Worker, cell: Cell) -> Calibration:
    """Time a little of one memory."""
    memory, own = worker.grid.memories[cell.memory], worker.rows(cell)
    found = Calibration()
    start = time.perf_counter()
    qa = worker.qa(memory, own)
    if memory.editor is not None:
        worker.fitted(memory, own)
    found.once = time.perf_counter() - start
    plain = replace(cell, count=0, schedule="")
    for form in (False, True):
        rows = _spread([row for row in own.rows if row.cloze == form], worker.spec.batch_size)
        if not rows:
            continue
        block = Block(0, (), tuple(rows))
        worker.asked(plain, qa, own, block, rows[:1])
        start = time.perf_counter()
        records = worker.asked(plain, qa, own, block, rows)
        share = (time.perf_counter() - start) / len(rows)
        found.peak = max(found.peak, *(record.peak_bytes for record in records))
        if form:
            found.cloze = share
        else:
            found.row = share
    if memory.writes:
        sizes = [1]
        if worker.spec.edits is not None and max(worker.spec.edits.counts) > 1:
            sizes.append(min(FEW, len(own.facts)))
        times = [_block(worker, cell, own, size, found) for size in sizes]
        found.one, found.few, found.size = times[0], times[-1], sizes[-1]
    return found


def _block(worker: Worker, cell: Cell, own: Rows, size: int, found: Calibration) -> float:
    """Seconds for writing a block and taking it back."""
    block = Block(0, tuple(range(size)), ())
    with measured(worker.lm.device) as cost:
        written: Any = list(worker.block(replace(cell, count=size, schedule="batch"), own, block))
    found.peak = max(found.peak, cost.peak_bytes, written[0][0].peak_bytes)
    return cost.seconds


def _spread(rows: Sequence[Row], size: int) -> list[Row]:
    """At most so many rows, spread over all of them."""
    step = max(1, len(rows) / size)
    return [rows[int(place * step)] for place in range(min(size, len(rows)))]


def _in_use(worker: Worker) -> int:
    """Bytes in use with the model loaded: on its device, or of this process."""
    import torch

    if worker.lm.device.type == "cuda":
        return torch.cuda.memory_allocated(worker.lm.device)
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return sum(weight.nbytes for weight in worker.lm.model.parameters())


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
