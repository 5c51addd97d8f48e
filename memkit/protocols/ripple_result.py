"""What the ripple protocol found: verdicts, cells with their intervals, and the tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from memkit.benchmarks.cases import CRITERIA, Criterion
from memkit.errors import BadInput
from memkit.metrics import bootstrap_means
from memkit.protocols.cells import EMPTY, Cell, aligned, cell_text, heading, mean_cell
from memkit.types import Fact

__all__ = [
    "READINGS",
    "Count",
    "Outcome",
    "Part",
    "Reading",
    "RippleRecord",
    "RippleResult",
    "Stage",
    "Verdict",
    "scored",
]

Reading = Literal["published", "words", "code"]
Stage = Literal["unedited", "edited", "all edits"]
READINGS: tuple[Reading, ...] = get_args(Reading)
STAGES: tuple[Stage, ...] = get_args(Stage)
MEAN = "mean"
SHORT: Mapping[str, str] = dict(zip(CRITERIA, ("LG", "CI", "CII", "SA", "PV", "RS"), strict=True))
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A test: whether it counts, and whether the unedited and the edited model pass it."""

    criterion: Criterion
    counts: bool
    unedited: bool
    edited: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """An edit by one reading: whether its fact was said before, and after; its tests in order."""

    known: bool
    learnt: bool
    outcomes: tuple[Outcome, ...]

    def share(self, criterion: Criterion, *, edited: bool) -> float:
        """Passed / (passed + failed) of a criterion; NaN where no test of it counts."""
        passed = [
            outcome.edited if edited else outcome.unedited
            for outcome in self.outcomes
            if outcome.counts and outcome.criterion == criterion
        ]
        return sum(passed) / len(passed) if passed else float("nan")


@dataclass(frozen=True, slots=True)
class RippleRecord:
    """One edit: what was written before and after it, by query, and the verdict by reading.

    `rejected` is the message of the guard that refused it; then `after` is what the unedited model
    wrote.
    """

    fact: Fact
    subset: str
    popularity: float | None
    rejected: str | None
    before: Mapping[str, str]
    after: Mapping[str, str]
    verdicts: Mapping[Reading, Verdict]


@dataclass(frozen=True, slots=True)
class Count:
    """Of a criterion: edits with a test that counts, such tests, and all tests."""

    edits: int
    counted: int
    tests: int


@dataclass(frozen=True, slots=True)
class Part:
    """Edits of similar popularity, from `low` to `high` page views, and their mean accuracy."""

    low: float
    high: float
    edits: int
    accuracy: Cell


@dataclass(frozen=True, slots=True)
class RippleResult:
    """What `memkit.protocols.ripple` found.

    `cells` are by reading, criterion (and "mean", that of the criteria) and stage; what has no case
    is absent. `counts` are by reading and criterion, `known` and `learnt` count edits by reading.
    """

    model: str
    editor: str
    settings: Mapping[str, Any]
    chosen: Mapping[str, str]
    rejected: int
    known: Mapping[Reading, int]
    learnt: Mapping[Reading, int]
    counts: Mapping[Reading, Mapping[str, Count]]
    cells: Mapping[Reading, Mapping[str, Mapping[Stage, Cell]]]
    records: tuple[RippleRecord, ...]

    def cell(
        self, column: str = MEAN, stage: Stage = "edited", reading: Reading = "published"
    ) -> Cell:
        """A criterion's cell, or that of the "mean". Raises `BadInput` if there is none."""
        found = self.cells.get(reading, {}).get(column, {})
        if stage not in found:
            has = [name for name, cells in self.cells.get(reading, {}).items() if stage in cells]
            raise BadInput(
                f"there is no cell {column!r}, {stage!r}, {reading!r}; allowed: readings "
                f"{', '.join(READINGS)}, stages {', '.join(STAGES)}, and here the columns "
                f"{', '.join(has) or 'none'}."
            )
        return found[stage]

    def by_popularity(
        self, parts: int = 3, stage: Stage = "edited", reading: Reading = "published"
    ) -> tuple[Part, ...]:
        """The mean accuracy over an edit's criteria, in equal parts of the edits by popularity.

        Edits without a known popularity or a test that counts are left out, and so are parts
        without any.

        Raises `BadInput` for fewer than one part.
        """
        if parts < 1:
            raise BadInput(f"parts is {parts!r}; allowed: 1 or more. Choose a larger one.")
        rows = []
        shares = _shares(self.records, stage, reading)
        for record, row in zip(self.records, shares, strict=True):
            if record.popularity is not None and not np.isnan(row).all():
                rows.append((record.popularity, float(np.nanmean(row))))
        rows.sort()
        made = []
        for some in np.array_split(np.array(rows).reshape(-1, 2), parts):
            if len(some):
                accuracy = mean_cell(some[:, 1].tolist(), *self._draw())
                made.append(Part(float(some[0, 0]), float(some[-1, 0]), len(some), accuracy))
        return tuple(made)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """A table for each reading: the unedited model first, 95 % intervals in brackets."""
        counts = f"{len(self.records)} edits, {self.rejected} refused by a guard"
        lines = heading(self.editor, self.model, counts, self.settings, self.chosen)
        for reading in READINGS:
            lines += ["", *self._table(reading)]
        return "\n".join(lines)

    def _table(self, reading: Reading) -> list[str]:
        title = (
            f"{reading}: {self.known[reading]} edits known before, {self.learnt[reading]} learnt"
        )
        shown = [name for name in CRITERIA if self.counts[reading][name].tests]
        columns = [name for name in (*shown, MEAN) if self.cells[reading].get(name)]
        counts = [self.counts[reading][name] for name in shown if name in columns]
        rows = [["", *(SHORT.get(name, name) for name in columns)]]
        rows.append(["edits", *(f"{c.edits:,}" for c in counts), ""])
        rows.append(["tests that count", *(f"{c.counted:,} of {c.tests:,}" for c in counts), ""])
        for stage in STAGES:
            cells = [self.cells[reading][name].get(stage) for name in columns]
            rows.append([stage, *(cell_text(cell) if cell else "" for cell in cells)])
        return [title, *aligned(rows)] if columns else [title, "no test counts"]

    def _draw(self) -> tuple[int, int]:
        return self.settings["samples"], self.settings["seed"]


def scored(
    *,
    model: str,
    editor: str,
    settings: Mapping[str, Any],
    chosen: Mapping[str, str],
    records: tuple[RippleRecord, ...],
) -> RippleResult:
    """The result of these records, with all counts and cells."""
    samples, seed = settings["samples"], settings["seed"]
    verdicts = {reading: [record.verdicts[reading] for record in records] for reading in READINGS}
    return RippleResult(
        model=model,
        editor=editor,
        settings=settings,
        chosen=chosen,
        rejected=sum(record.rejected is not None for record in records),
        known={reading: sum(v.known for v in own) for reading, own in verdicts.items()},
        learnt={reading: sum(v.learnt for v in own) for reading, own in verdicts.items()},
        counts={
            reading: {criterion: _count(own, criterion) for criterion in CRITERIA}
            for reading, own in verdicts.items()
        },
        cells={reading: _cells(records, reading, samples, seed) for reading in READINGS},
        records=records,
    )


def _count(verdicts: Sequence[Verdict], criterion: Criterion) -> Count:
    own = [[o for o in verdict.outcomes if o.criterion == criterion] for verdict in verdicts]
    counted = [sum(outcome.counts for outcome in some) for some in own]
    return Count(sum(n > 0 for n in counted), sum(counted), sum(map(len, own)))


def _shares(records: Sequence[RippleRecord], stage: Stage, reading: Reading) -> Floats:
    """Each edit's share of passed tests by criterion, [edits, 6]; NaN where it has none."""
    rows = []
    for record in records:
        verdict = record.verdicts[reading]
        if stage == "edited" and not verdict.learnt:
            rows.append([float("nan")] * len(CRITERIA))
        else:
            rows.append([verdict.share(name, edited=stage != "unedited") for name in CRITERIA])
    return np.array(rows)


def _cells(
    records: Sequence[RippleRecord], reading: Reading, samples: int, seed: int
) -> dict[str, dict[Stage, Cell]]:
    cells: dict[str, dict[Stage, Cell]] = {}
    for stage in STAGES:
        shares = _shares(records, stage, reading)
        parts: list[Cell] = []
        for name, column in zip(CRITERIA, shares.T, strict=True):
            own = column[~np.isnan(column)]
            if own.size:
                cells.setdefault(name, {})[stage] = mean_cell(own.tolist(), samples, seed)
                parts.append(cells[name][stage])
        if parts:
            drawn = bootstrap_means(shares, resamples=samples, seed=seed)
            drawn = drawn[:, ~np.isnan(shares).all(axis=0)]
            whole = drawn[~np.isnan(drawn).any(axis=1)]  # those that have every criterion
            cells.setdefault(MEAN, {})[stage] = _mean(parts, whole.mean(axis=1))
    return cells


def _mean(parts: Sequence[Cell], drawn: Floats) -> Cell:
    """The mean of the criteria; where resamples agree, with the mean of their bounds."""
    low, high = np.quantile(drawn, [0.025, 0.975]) if drawn.size else (0.0, 0.0)
    if high - low < EMPTY:
        low, high = (sum(getattr(p, end) for p in parts) / len(parts) for end in ("low", "high"))
    return Cell(sum(part.mean for part in parts) / len(parts), float(low), float(high))
