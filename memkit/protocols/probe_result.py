"""What the probe found: ranks, scores by relation, type and popularity, and the tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from memkit.benchmarks.cases import ClozeFact
from memkit.errors import BadInput
from memkit.metrics import bootstrap_means
from memkit.protocols.cells import EMPTY, Cell, aligned, cell_text, mean_cell, settings_text

__all__ = ["METRICS", "ProbeRecord", "ProbeResult", "ProbeScores", "scored"]

METRICS = ("P@1", "P@10", "MRR")
CONSISTENCY = ("consistency", "consistent P@1")
KINDS = ("1-1", "N-1", "N-M")
TOTAL = "all"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """One fact: the rank of its object among so many candidates (1 is the best), and the first."""

    fact: ClozeFact
    rank: int
    candidates: int
    first: str

    @property
    def scores(self) -> tuple[float, float, float]:
        """P@1, P@10 and the reciprocal rank."""
        return float(self.rank == 1), float(self.rank <= 10), 1 / self.rank


@dataclass(frozen=True, slots=True)
class ProbeScores:
    """Means over some facts, or over some relations: P@1, P@10 and MRR by name."""

    facts: int
    relations: int
    cells: Mapping[str, Cell]


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What `memkit.protocols.probe` found.

    `relations` are the means over each relation's facts; `macro` the means over relations, of "all"
    and of each type. `popularity` has the least and the most page views of each part of the facts,
    and the means over them. `consistency` is over facts that were asked in several patterns, by
    relation and of "all" relations; empty without such. `left_out` counts facts by the reason why
    they were not asked.
    """

    model: str
    settings: Mapping[str, Any]
    left_out: Mapping[str, int]
    relations: Mapping[str, ProbeScores]
    macro: Mapping[str, ProbeScores]
    popularity: tuple[tuple[float, float, ProbeScores], ...]
    consistency: Mapping[str, ProbeScores]
    records: tuple[ProbeRecord, ...]

    def cell(self, metric: str = "P@1", group: str = TOTAL) -> Cell:
        """The mean over a group's relations, or over one relation's facts.

        Raises `BadInput` if there is none.
        """
        found = {**self.relations, **self.macro}.get(group)
        if found is None or metric not in found.cells:
            raise BadInput(
                f"there is no {metric!r} of {group!r}; allowed: {', '.join(METRICS)}, of "
                f"{', '.join({**self.macro, **self.relations})}."
            )
        return found.cells[metric]

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """The tables: macro means, relations, popularity; 95 % intervals in brackets."""
        settings = settings_text(self.settings)
        left = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items() if count)
        lines = [self.model, f"{len(self.records):,} facts; left out: {left or 'none'}", settings]
        rows = [["mean over relations", "relations", "facts", *METRICS]]
        rows += [_row(name, found, macro=True) for name, found in self.macro.items()]
        lines += ["", *aligned(rows)]
        rows = [["relation", "facts", *METRICS]]
        rows += [_row(name, found) for name, found in self.relations.items()]
        lines += ["", *aligned(rows)]
        if self.consistency:
            rows = [["several patterns", "relations", "facts", *CONSISTENCY]]
            for name, found in self.consistency.items():
                cells = (cell_text(found.cells[metric]) for metric in CONSISTENCY)
                rows.append([name, f"{found.relations:,}", f"{found.facts:,}", *cells])
            lines += ["", *aligned(rows)]
        if self.popularity:
            rows = [["page views", "facts", *METRICS]]
            rows += [_row(f"{a:,.0f} to {b:,.0f}", found) for a, b, found in self.popularity]
            lines += ["", *aligned(rows)]
        return "\n".join(lines)


def scored(
    *,
    model: str,
    settings: Mapping[str, Any],
    left_out: Mapping[str, int],
    parts: int,
    records: tuple[ProbeRecord, ...],
) -> ProbeResult:
    """The result of these records, with all means."""
    samples, seed = settings["samples"], settings["seed"]
    by_relation: dict[str, list[ProbeRecord]] = {}
    for record in records:
        by_relation.setdefault(record.fact.relation, []).append(record)
    relations = {name: _means(own, samples, seed) for name, own in by_relation.items()}
    types = {name: own[0].fact.kind for name, own in by_relation.items()}
    groups = {TOTAL: list(relations)}
    groups |= {k: own for k in KINDS if (own := [n for n in relations if types[n] == k])}
    macro = {
        group: _macro({name: by_relation[name] for name in names}, relations, samples, seed)
        for group, names in groups.items()
    }
    known = [record for record in records if record.fact.popularity is not None]
    known.sort(key=lambda record: record.fact.popularity or 0.0)
    split = np.array_split(np.arange(len(known)), parts)
    popularity = tuple(
        (
            float(known[some[0]].fact.popularity or 0),
            float(known[some[-1]].fact.popularity or 0),
            _means([known[place] for place in some], samples, seed),
        )
        for some in split
        if len(some)
    )
    consistency = _consistency(by_relation, samples, seed)
    return ProbeResult(
        model, settings, left_out, relations, macro, popularity, consistency, records
    )


def _row(name: str, found: ProbeScores, *, macro: bool = False) -> list[str]:
    counts = [f"{found.relations:,}"] if macro else []
    cells = (cell_text(found.cells[metric]) for metric in METRICS)
    return [name, *counts, f"{found.facts:,}", *cells]


def _means(records: Sequence[ProbeRecord], samples: int, seed: int) -> ProbeScores:
    """The means over facts."""
    columns = zip(*(record.scores for record in records), strict=True)
    cells = {
        metric: mean_cell(column, samples, seed)
        for metric, column in zip(METRICS, columns, strict=True)
    }
    return ProbeScores(len(records), len({r.fact.relation for r in records}), cells)


def _consistency(
    by_relation: Mapping[str, Sequence[ProbeRecord]], samples: int, seed: int
) -> dict[str, ProbeScores]:
    """Of each relation with facts in several patterns, and of all: the mean over relations."""
    rows: dict[str, Floats] = {}
    for relation, records in by_relation.items():
        facts: dict[tuple[str, str], dict[str, ProbeRecord]] = {}
        for record in records:
            same = facts.setdefault((record.fact.subject, record.fact.object), {})
            same.setdefault(record.fact.template, record)
        own = [_agreeing(list(some.values())) for some in facts.values() if len(some) > 1]
        if own:
            rows[relation] = np.array(own)
    made: dict[str, ProbeScores] = {}
    for relation, values in rows.items():
        cells = (mean_cell(column.tolist(), samples, seed) for column in values.T)
        made[relation] = ProbeScores(len(values), 1, dict(zip(CONSISTENCY, cells, strict=True)))
    return {TOTAL: _whole(rows, made, samples, seed), **made} if made else {}


def _agreeing(records: Sequence[ProbeRecord]) -> tuple[float, float]:
    """The share of pairs of patterns with one first candidate, and whether all have the object."""
    firsts = [record.first for record in records]
    pairs = [a == b for i, a in enumerate(firsts) for b in firsts[i + 1 :]]
    return sum(pairs) / len(pairs), float(all(record.rank == 1 for record in records))


def _macro(
    records: Mapping[str, Sequence[ProbeRecord]],
    relations: Mapping[str, ProbeScores],
    samples: int,
    seed: int,
) -> ProbeScores:
    """The means over relations; facts are drawn anew within each."""
    rows = {name: np.array([record.scores for record in own]) for name, own in records.items()}
    return _whole(rows, relations, samples, seed)


def _whole(
    rows: Mapping[str, Floats], relations: Mapping[str, ProbeScores], samples: int, seed: int
) -> ProbeScores:
    """The means over relations of rows [facts, metrics], whose own means are in `relations`."""
    drawn = [
        bootstrap_means(own, resamples=samples, seed=seed + place)
        for place, own in enumerate(rows.values())
    ]
    low, high = np.quantile(np.mean(drawn, axis=0), [0.025, 0.975], axis=0)
    cells = {}
    for place, metric in enumerate(relations[next(iter(rows))].cells):
        parts = [relations[name].cells[metric] for name in rows]
        cells[metric] = _mean(parts, float(low[place]), float(high[place]))
    return ProbeScores(sum(map(len, rows.values())), len(rows), cells)


def _mean(parts: Sequence[Cell], low: float, high: float) -> Cell:
    """The mean of the relations; where resamples agree, with the mean of their bounds."""
    if high - low < EMPTY:
        low, high = (sum(getattr(p, end) for p in parts) / len(parts) for end in ("low", "high"))
    return Cell(sum(part.mean for part in parts) / len(parts), low, high)
