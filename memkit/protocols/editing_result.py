"""What the editing protocol found: records, columns with their intervals, and the tables."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput
from memkit.metrics import bootstrap_means, harmonic_mean
from memkit.protocols.cells import (
    COSTS,
    EMPTY,
    Cell,
    aligned,
    cell_of,
    cell_text,
    heading,
    mean_cell,
    percentile,
)
from memkit.protocols.editing_modes import Snapshot
from memkit.protocols.editing_probes import Probe, View, values
from memkit.types import Fact

__all__ = [
    "Column",
    "CurvePoint",
    "EditingResult",
    "Record",
    "columns",
    "curve",
]

Floats = npt.NDArray[np.float64]
FIRST = 10  # edits whose retention is watched
PARTS = ("ES", "PS", "NS")
BYTES = ("peak_bytes", "stored_bytes")

# Title, names of the columns, and for each line of the table the scores in it, "" for none.
Table = tuple[str, tuple[str, ...], Mapping[str, tuple[str, ...]]]
SUCCESS = ("reliability", "generalisation", "portability")
TABLES: tuple[Table, ...] = (
    (
        "Free generation is the main score; gap = teacher-forced tokens less exact match",
        SUCCESS,
        {
            "exact match": SUCCESS,
            "exact match, not known": ("reliability_not_known",),
            "token F1": tuple(f"{name}_f1" for name in SUCCESS),
            "answer mentioned": tuple(f"{name}_contains" for name in SUCCESS),
            "teacher-forced tokens": tuple(f"{name}_forced_tokens" for name in SUCCESS),
            "teacher-forced sequence": tuple(f"{name}_forced_sequence" for name in SUCCESS),
            "gap": tuple(f"{name}_gap" for name in SUCCESS),
        },
    ),
    (
        "Locality, by free generation",
        ("all", "other subjects", "same subject"),
        {
            f"answer {what}": tuple(
                f"locality_{what}{where}" for where in ("", "_other_subjects", "_same_subject")
            )
            for what in ("unchanged", "right")
        },
    ),
    (
        "CounterFact: is the right one of two objects likelier (ES, PS, NS), how much (EM, PM, NM)",
        ("E: own prompt", "P: paraphrases", "N: locality", "S"),
        {"success": (*PARTS, "S"), "magnitude": ("EM", "PM", "NM")},
    ),
    ("Text of up to 100 tokens", ("fluency GE", "consistency"), {"": ("fluency", "consistency")}),
    (
        "Cost of an edit",
        ("seconds", "peak MB", "stored MB"),
        {"": COSTS},
    ),
)


@dataclass(frozen=True, slots=True)
class Record:
    """One fact: all that was asked, what was answered, and its scores.

    `views` (one for each probe), `essays` (the long text, if `fluency`) and `scores` (by name, each
    the mean over its probes) are by stage. `known` says whether the unedited model was right by
    free generation. `rejected` is the message of the guard that refused the edit, None if none did.
    """

    fact: Fact
    known: bool
    rejected: str | None
    warnings: tuple[str, ...]
    probes: tuple[Probe, ...]
    views: Mapping[str, tuple[View, ...]]
    essays: Mapping[str, str]
    scores: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Column:
    """One score: how many facts and probes it is over, and its cell at each stage that has one."""

    facts: int
    probes: int
    cells: Mapping[str, Cell]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The model after so many sequential edits; after 0 it is the unedited one.

    `reliability` is exact match over all facts so far (after 0: over all there are), `first` over
    the first 10 of them, both by free generation; `unchanged` and `right` are the locality of a
    fixed set of probes. None where there are none.
    """

    edits: int
    reliability: Cell | None
    first: Cell | None
    unchanged: Cell | None
    right: Cell | None


@dataclass(frozen=True, slots=True)
class EditingResult:
    """What `memkit.protocols.editing` found.

    `editor` is its representation with what was chosen filled in, `chosen` says why; `settings` are
    the call's. `stages` are "unedited", "edited" and, of sequential edits, "after all"; `columns`
    are by score. `known` and `rejected` count facts, `left_out` locality probes that another fact
    of the run writes. `curve` is empty unless edits are sequential.
    """

    model: str
    editor: str
    settings: Mapping[str, Any]
    chosen: Mapping[str, str]
    stages: tuple[str, ...]
    known: int
    rejected: int
    left_out: int
    columns: Mapping[str, Column]
    curve: tuple[CurvePoint, ...]
    records: tuple[Record, ...]

    def cell(self, score: str, stage: str = "edited") -> Cell:
        """A score's cell at a stage. Raises `BadInput` if there is none."""
        cells = self.columns[score].cells if score in self.columns else {}
        if stage not in cells:
            has = ", ".join(name for name, column in self.columns.items() if stage in column.cells)
            raise BadInput(
                f"there is no score {score!r} at stage {stage!r}; allowed: stages "
                f"{', '.join(self.stages)}, and at this one {has or 'none'}."
            )
        return cells[stage]

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """The tables: the unedited model first, counts, and 95 % intervals in brackets."""
        counts = (
            f"{len(self.records)} facts: {self.known} known before, {self.rejected} edits "
            f"rejected, {self.left_out} locality probes left out"
        )
        lines = heading(self.editor, self.model, counts, self.settings, self.chosen)
        for table in TABLES:
            lines += self._table(table)
        return "\n".join([*lines, *self._curve()])

    def _table(self, table: Table) -> list[str]:
        """One table; scores without a case are left out, and a table without any."""
        title, names, rows = table
        first = next(iter(rows.values()))
        kept = [i for i, score in enumerate(first) if score in self.columns]
        if not kept:
            return []
        made = [["", *(names[i] for i in kept)]]
        counts = (self.columns[first[i]] for i in kept)
        width = max(map(len, self.stages))
        made.append(["facts (probes)", *(f"{c.facts:,} ({c.probes:,})" for c in counts)])
        for label, scores in rows.items():
            for stage in self.stages:
                shown = [self._shown(scores[i] if i < len(scores) else "", stage) for i in kept]
                if any(shown):
                    made.append([f"{stage:{width}}  {label}".rstrip(), *shown])
        return ["", title, *aligned(made)]

    def _shown(self, score: str, stage: str) -> str:
        if score not in self.columns or stage not in self.columns[score].cells:
            return ""
        found = self.columns[score].cells[stage]
        if score not in COSTS:
            return cell_text(found)
        unit = 1e6 if score in BYTES else 1.0
        return cell_text(Cell(found.mean / unit, found.low / unit, found.high / unit), ".3g", ".3g")

    def _curve(self) -> list[str]:
        if not self.curve:
            return []
        made = [["edits", "all so far", "the first 10", "locality unchanged", "locality right"]]
        for point in self.curve:
            cells = (point.reliability, point.first, point.unchanged, point.right)
            made.append([f"{point.edits:,}", *(cell_text(c) if c else "" for c in cells)])
        return ["", "Retention: exact match after so many edits", *aligned(made)]


def columns(
    records: Sequence[Record], stages: Sequence[str], samples: int, seed: int
) -> dict[str, Column]:
    """The columns of the records: means over facts, intervals by resampling facts."""
    asked: Counter[str] = Counter()
    for record in records:
        for probe, view in zip(record.probes, record.views[stages[0]], strict=True):
            asked.update(values(probe, view, view).keys())
    names = list(dict.fromkeys(n for r in records for stage in stages for n in r.scores[stage]))
    cells: dict[str, dict[str, Cell]] = {name: {} for name in [*names, "S"]}
    facts = dict.fromkeys(names, 0)
    for stage in stages:
        rows = np.array([[r.scores[stage].get(n, np.nan) for n in names] for r in records])
        drawn = bootstrap_means(rows, resamples=samples, seed=seed)
        for i, name in enumerate(names):
            here = rows[~np.isnan(rows[:, i]), i]
            facts[name] = max(facts[name], len(here))
            if len(here):
                cells[name][stage] = cell_of(here, drawn[:, i], name)
        if all(stage in cells.get(part, {}) for part in PARTS):
            where = [names.index(part) for part in PARTS]
            cells["S"][stage] = _harmonic([cells[part][stage] for part in PARTS], drawn[:, where])
    made = {n: Column(facts[n], asked[n] or facts[n], cells[n]) for n in names}
    if cells["S"]:
        parts = [made[part] for part in PARTS]
        probes = sum(column.probes for column in parts)
        made["S"] = Column(min(column.facts for column in parts), probes, cells["S"])
    return made


def curve(snapshots: Sequence[Snapshot], samples: int, seed: int) -> tuple[CurvePoint, ...]:
    """The curve with its intervals, by resampling facts."""

    def over(values: Sequence[float]) -> Cell | None:
        return mean_cell(values, samples, seed) if values else None

    return tuple(
        CurvePoint(s.edits, over(s.own), over(s.own[:FIRST]), over(s.unchanged), over(s.right))
        for s in snapshots
    )


def _harmonic(parts: Sequence[Cell], drawn: Floats) -> Cell:
    """S: the harmonic mean of ES, PS and NS; where resamples agree, that of the parts' bounds."""
    bounds = harmonic_mean(np.array([dataclasses.astuple(part) for part in parts]).T)
    found = percentile(float(bounds[0]), harmonic_mean(drawn))
    return Cell(*map(float, bounds)) if found.high - found.low < EMPTY else found
