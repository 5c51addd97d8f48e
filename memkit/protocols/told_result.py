"""What the protocols of told cases found: a table of arms and scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memkit.protocols.cells import Cell, aligned, cell_text, mean_cell, settings_text

__all__ = ["ToldRecord", "ToldResult", "summarised"]


@dataclass(frozen=True, slots=True)
class ToldRecord:
    """One case: what was asked, each arm's answers in that order, and its scores by name."""

    id: str | None
    asked: tuple[str, ...]
    answers: Mapping[str, tuple[str, ...]]
    scores: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class ToldResult:
    """What `memkit.protocols` temporal, events and longform found.

    `cells` are by arm and by score, means over cases with 95 % intervals; a score without a case is
    absent. `rejected` counts the edits that a guard refused, by arm.
    """

    protocol: str
    model: str
    settings: Mapping[str, Any]
    cells: Mapping[str, Mapping[str, Cell]]
    rejected: Mapping[str, int]
    records: tuple[ToldRecord, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """A row for each arm, 95 % intervals in brackets."""
        settings = settings_text(self.settings)
        names = list(dict.fromkeys(name for cells in self.cells.values() for name in cells))
        rows = [["", *names]]
        for arm, cells in self.cells.items():
            rows.append([arm, *(cell_text(cells[n]) if n in cells else "" for n in names)])
        head = [f"{self.protocol}, {self.model}", f"{len(self.records)} cases; {settings}", ""]
        refused = (f"{arm}: {n} edits refused" for arm, n in self.rejected.items() if n)
        return "\n".join([*head, *aligned(rows), *refused])


def summarised(
    records: Sequence[ToldRecord], samples: int, seed: int
) -> dict[str, dict[str, Cell]]:
    """The cells of every arm, in the order of the first record's scores."""
    arms = list(records[0].scores)
    names = dict.fromkeys(n for record in records for arm in arms for n in record.scores[arm])
    made: dict[str, dict[str, Cell]] = {}
    for arm in arms:
        rows = [record.scores[arm] for record in records]
        made[arm] = {
            name: mean_cell([row[name] for row in rows if name in row], samples, seed, name)
            for name in names
            if any(name in row for row in rows)
        }
    return made
