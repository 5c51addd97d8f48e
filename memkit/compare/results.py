"""What a folder of records holds, as values: cells, their answers and edits, and what failed."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memkit.compare.grid import Cell
from memkit.compare.log import stored
from memkit.compare.manifest import read_manifest
from memkit.compare.records import AnswerRecord, CellRecord, EditRecord

__all__ = ["Outcome", "Results", "results"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A cell with all that was recorded of it; `end` is None while it is not through.

    `answers` and `edits` are in order of id and block.
    """

    cell: Cell
    answers: tuple[AnswerRecord, ...]
    edits: tuple[EditRecord, ...]
    end: CellRecord | None

    @property
    def done(self) -> bool:
        """Whether it has ended well."""
        return self.end is not None and self.end.status == "done"


@dataclass(frozen=True, slots=True)
class Results:
    """The cells of the specification that was run last in a folder."""

    folder: Path
    manifest: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]

    @property
    def done(self) -> tuple[Outcome, ...]:
        """The cells that ended well: what tables are made of."""
        return tuple(outcome for outcome in self.outcomes if outcome.done)

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The cells that failed, with error and traceback in `end`."""
        return tuple(o for o in self.outcomes if o.end is not None and o.end.status == "failed")

    @property
    def name(self) -> str:
        """Of the specification."""
        return str(self.manifest["name"])

    def memories(self) -> list[str]:
        """In the order of the specification."""
        return list(self.manifest["spec"]["memories"])

    def plain(self) -> str | None:
        """The memory that is the model as it is: what has changed is measured against it."""
        for name, parts in self.manifest["spec"]["memories"].items():
            if not any(parts.values()):
                return str(name)
        return None


def results(folder: str | os.PathLike[str], manifest: Mapping[str, Any] | None = None) -> Results:
    """Read a folder that `run` wrote, also while it runs.

    Records of cells that are not in the newest specification are left aside. The file is read line
    by line, and what records have in common (questions, passages, prompts) is kept once.

    `manifest` is that of the run, where it is known and not to be read.

    Raises `BadInput` for a folder that is none, or was written by another version.
    """
    place = Path(folder)
    manifest = read_manifest(place) if manifest is None else manifest
    axes = ("id", "model", "memory", "benchmark", "seed", "count", "schedule")
    cells = [Cell(**{axis: row[axis] for axis in axes}) for row in manifest["cells"]]
    answers: defaultdict[str, list[AnswerRecord]] = defaultdict(list)
    edits: defaultdict[str, list[EditRecord]] = defaultdict(list)
    ends: dict[str, CellRecord] = {}
    kept: dict[Any, Any] = {}
    known = {cell.id for cell in cells}
    for record in stored(place, known, lambda part: kept.setdefault(part, part)):
        if isinstance(record, AnswerRecord):
            answers[record.cell].append(record)
        elif isinstance(record, EditRecord):
            edits[record.cell].append(record)
        else:
            ends[record.cell] = record
    for row in manifest["cells"]:  # an end that found no room in the file
        if row["status"] == "failed" and row["id"] not in ends:
            said = row["error"], row.get("traceback")
            ends[row["id"]] = CellRecord(row["id"], "failed", 0.0, *said)
    outcomes = tuple(
        Outcome(
            cell,
            tuple(sorted(answers[cell.id], key=lambda record: record.id)),
            tuple(sorted(edits[cell.id], key=lambda record: record.block)),
            ends.get(cell.id),
        )
        for cell in cells
    )
    return Results(place, manifest, outcomes)
