"""The tables of a comparison, made of records alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from memkit.compare.groups import KEPT, Group, groups
from memkit.compare.records import EditRecord
from memkit.compare.results import Results
from memkit.compare.scoring import FORCED
from memkit.compare.statistics import Pair, Score
from memkit.errors import BadInput

__all__ = ["METRICS", "Table", "p_value", "percent", "points", "tables"]

MAIN = ("question", "asked")  # what pairs of memories are compared in
METRICS = {
    "exact_match": "exact match",
    "contains": "answer mentioned",
    "token_f1": "token F1",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A title, names of the columns, and rows of text; the first column is a name.

    `kind` says what it is for: "main" to be read first, "more" after it, "long" to look things up.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    kind: Literal["main", "more", "long"] = "more"


def tables(found: Results, metric: str = "exact_match") -> list[Table]:
    """All tables of a run: scores, costs, conflicts, pairs; then what was left out or failed.

    Raises `BadInput` for a metric that is not in `METRICS`.
    """
    if metric not in METRICS:
        names = ", ".join(map(repr, METRICS))
        raise BadInput(f"metric is {metric!r}; allowed: {names}. Choose one of these.")
    made: list[Table] = []
    for group in groups(found):
        made += [_accuracy(group, metric), _costs(group)]
        others = (_forced(group), _conflicts(group), _seeds(group, metric))
        made += [table for table in others if table is not None]
        made += [_pairs(group, role, metric) for role in MAIN if role in group.roles()]
    left = [(str(row["memory"]), str(row["model"]), str(row["why"])) for row in _left_out(found)]
    if left:
        made.append(Table("Impossible, left out", ("memory", "model", "why"), tuple(left)))
    failed = tuple((o.cell.name, str(o.end.error)) for o in found.failures if o.end is not None)
    if failed:
        made.append(Table("Failed", ("cell", "error"), failed))
    return made


def percent(found: Score | None) -> str:
    """A share with its interval, in per cent."""
    if found is None:
        return "-"
    return f"{100 * found.mean:.0f} [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def points(pair: Pair) -> str:
    """A difference with its interval, in points."""
    d = pair.difference
    value, low, high = (_signed(100 * part) for part in (d.value, d.low, d.high))
    return f"{value} [{low}, {high}]"


def _signed(number: float) -> str:
    """A digit after the point, or more for an end that is nearly, but not, 0."""
    return f"{number:+.1g}" if 0 < abs(number) < 0.05 else f"{number + 0.0:+.1f}"


def p_value(p: float | None) -> str:
    """A p-value to two digits."""
    if p is None:
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def _accuracy(group: Group, metric: str) -> Table:
    roles = [*group.roles()]
    if "locality" in roles and group.baseline() is not None:
        roles.append(KEPT)
    rows = [
        (line.label, *(percent(group.score(line, role, metric)) for role in roles))
        for line in group.lines
    ]
    counts = {role: len(list(group.lines[0].answers(role.split()[0]))) for role in roles}
    return Table(
        f"{group.name}: {METRICS[metric]} by free generation, %",
        ("memory", *(f"{role} (n={counts[role]})" for role in roles)),
        tuple(rows),
        "95 % intervals, by subjects. A number behind a memory: facts written at a time.",
        kind="main",
    )


def _forced(group: Group) -> Table | None:
    """Teacher forcing, and what it is above free generation."""
    rows = []
    for line in group.lines:
        cells = []
        for role in group.roles():
            forced, free = group.score(line, role, FORCED), group.score(line, role)
            if forced is None or free is None:
                cells.append("-")
            else:
                cells.append(f"{100 * forced.mean:.0f} ({100 * (forced.mean - free.mean):+.0f})")
        rows.append((line.label, *cells))
    if all(set(cells) == {"-"} for _, *cells in rows):
        return None
    return Table(
        f"{group.name}: teacher forcing, % of the answer's tokens, and the gap to exact match",
        ("memory", *group.roles()),
        tuple(rows),
        "Beside the main score, since much of the literature reports it; the gap is what it hides.",
    )


def _costs(group: Group) -> Table:
    rows = []
    for line in group.lines:
        records = [record for _, record in line.answers()]
        edits = [edit for outcome in line.outcomes for edit in outcome.edits]
        facts = sum(len(edit.facts) for edit in edits)
        times = np.array([1000 * record.answer.seconds for record in records])
        rows.append(
            (
                line.label,
                f"{100 * np.mean([r.answer.decision.source == 'retrieval' for r in records]):.0f}",
                f"{np.mean([record.answer.prompt.tokens for record in records]):.0f}",
                f"{np.median(times):.1f}",
                f"{np.quantile(times, 0.95):.1f}",
                f"{sum(edit.seconds for edit in edits) / facts:.3f}" if facts else "-",
                f"{sum(edit.stored_bytes for edit in edits) / facts / 1e3:.1f}" if facts else "-",
                f"{sum(map(_learnt, edits))} of {facts}" if facts else "-",
            )
        )
    header = ("ret., %", "tokens", "ms p50", "ms p95", "s an edit", "kB a fact", "learnt")
    return Table(f"{group.name}: what it costs", ("memory", *header), tuple(rows))


def _learnt(edit: EditRecord) -> int:
    return sum(edit.learnt)


def _conflicts(group: Group) -> Table | None:
    rows = []
    for line in group.lines:
        found = group.conflicts(line)
        if found is not None:
            counts = (found.edited, found.retrieved, found.pre_edit, found.other)
            rows.append((line.label, *map(str, counts)))
    if not rows:
        return None
    title = f"{group.name}: who answers the questions about edited facts"
    return Table(title, ("memory", "edited", "retrieved", "pre-edit", "other"), tuple(rows))


def _seeds(group: Group, metric: str) -> Table | None:
    """Means of each seed, where there are several."""
    roles = [role for role in group.roles() if role in MAIN]
    rows, many = [], False
    for line in group.lines:
        cells = []
        for role in roles:
            found = group.score(line, role, metric)
            if found is None or found.deviation is None:
                cells.append("-")
                continue
            many = True
            means = ", ".join(f"{100 * mean:.1f}" for mean in found.seeds)
            cells.append(f"{means} (sd {100 * found.deviation:.1f})")
        rows.append((line.label, *cells))
    if not many:
        return None
    return Table(f"{group.name}: by seed, %", ("memory", *roles), tuple(rows))


def _pairs(group: Group, role: str, metric: str) -> Table:
    rows = []
    for pair in group.pairs(role, metric):
        winner = {"a": pair.a, "b": pair.b, "open": "open"}[pair.verdict]
        ratio = pair.ratio[0]
        odds = "inf" if math.isinf(ratio) else f"{ratio:.2f}"
        cells = (points(pair), p_value(pair.subjects), p_value(pair.mcnemar))
        rest = (p_value(pair.holm), f"{pair.h:+.2f}", odds, winner)
        rows.append((f"{pair.a} - {pair.b}", *cells, *rest))
    header = ("difference, points", "p subjects", "p McNemar", "p Holm", "h", "odds", "better")
    return Table(
        f"{group.name}: every pair, {role}",
        ("pair", *header),
        tuple(rows),
        "Better: the interval leaves out 0 and the larger p, corrected by Holm over this table, is "
        "below 0.05; else open.",
        kind="long",
    )


def _left_out(found: Results) -> Sequence[dict[str, object]]:
    rows: Sequence[dict[str, object]] = found.manifest["impossible"]
    return rows
