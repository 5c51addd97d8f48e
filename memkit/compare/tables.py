"""The tables of a comparison, made of records alone.

Roles are as `memkit.compare.spec` has them. "locality kept" is the share of locality rows whose
answer is that of the model as it is, if a memory of the specification is that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from memkit.compare.records import AnswerRecord
from memkit.compare.results import Outcome, Results
from memkit.compare.spec import ROLES
from memkit.compare.statistics import Pair, Score, Scores, holm, judged, pairs, score
from memkit.errors import BadInput
from memkit.metrics import same_answer
from memkit.protocols.conflicts import Conflicts, conflicts

__all__ = ["KEPT", "Group", "Line", "Table", "beside", "groups", "tables"]

KEPT = "locality kept"
MAIN = ("question", "asked")  # what pairs of memories are compared in
METRICS = {"exact_match": "EM", "contains": "contains", "token_f1": "F1"}
Measure = Callable[[AnswerRecord], float | None]


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


@dataclass(frozen=True, slots=True)
class Line:
    """One memory under one way of writing, with its cells of all seeds."""

    memory: str
    count: int
    schedule: str
    outcomes: tuple[Outcome, ...]

    @property
    def label(self) -> str:
        """The memory's name, with the way of writing where there is one."""
        if not self.count:
            return self.memory
        turn = " in turn" if self.schedule == "sequential" else ""
        return f"{self.memory}, {self.count}{turn}"

    def answers(self, role: str | None = None) -> Iterator[tuple[int, AnswerRecord]]:
        """The records of a role, each with its seed."""
        for outcome in self.outcomes:
            for record in outcome.answers:
                if role is None or record.role == role:
                    yield outcome.cell.seed, record

    def scores(self, role: str, measure: Measure) -> Scores:
        """What a measure gives for each row of a role; rows without are left out."""
        values, subjects = {}, {}
        for seed, record in self.answers(role):
            found = measure(record)
            if found is not None:
                key = (seed, record.id)
                values[key] = found
                subjects[key] = record.fact.subject if record.fact else _subject(record)
        return Scores(values, subjects)


@dataclass(frozen=True, slots=True)
class Group:
    """All lines of one model on one benchmark: what is set side by side."""

    model: str
    benchmark: str
    lines: tuple[Line, ...]
    plain: str | None

    @property
    def name(self) -> str:
        """Model and benchmark."""
        return f"{self.model} on {self.benchmark}"

    def roles(self) -> list[str]:
        """The roles that have rows, in order."""
        there = {record.role for line in self.lines for _, record in line.answers()}
        return [role for role in ROLES if role in there]

    def baseline(self) -> Line | None:
        """The model as it is."""
        return next((line for line in self.lines if line.memory == self.plain), None)

    def kept(self) -> Callable[[int], Measure] | None:
        """For a seed, whether a record's answer is that of the model as it is."""
        plain = self.baseline()
        if plain is None:
            return None
        said = {(seed, record.id): record.scored for seed, record in plain.answers("locality")}

        def measure(seed: int) -> Measure:
            return lambda record: (
                same_answer(said[seed, record.id], record.scored)
                if (seed, record.id) in said
                else None
            )

        return measure

    def score(self, line: Line, role: str, metric: str = "exact_match") -> Score | None:
        """A line's mean in a role, or in `KEPT`; None without rows."""
        if role == KEPT:
            kept = self.kept()
            if kept is None:
                return None
            values, subjects = {}, {}
            for seed, record in line.answers("locality"):
                found = kept(seed)(record)
                if found is not None:
                    values[seed, record.id] = found
                    subjects[seed, record.id] = record.fact.subject if record.fact else record.id
            found_scores = Scores(values, subjects)
        else:
            found_scores = line.scores(role, lambda record: record.metrics[metric])
        return score(found_scores) if found_scores.values else None

    def pairs(self, role: str, metric: str = "exact_match") -> tuple[Pair, ...]:
        """Every pair of lines with as many facts at a time, or none, in a role; corrected together.

        Whether they were written at once or in turn may differ.
        """
        scores = {
            line.label: line.scores(role, lambda record: record.metrics[metric])
            for line in self.lines
        }
        counts = {line.label: line.count for line in self.lines}

        def fair(a: str, b: str) -> bool:
            return counts[a] == counts[b] or 0 in (counts[a], counts[b])

        return pairs({name: own for name, own in scores.items() if own.values}, fair=fair)

    def conflicts(self, line: Line) -> Conflicts | None:
        """Who answered the questions about edited facts; None without those, or without plain."""
        plain = self.baseline()
        if plain is None:
            return None
        said = {(seed, record.id): record.answer for seed, record in plain.answers("asked")}
        asked = [
            (record.answer, record.fact, said[seed, record.id])
            for seed, record in line.answers("asked")
            if record.fact is not None and (seed, record.id) in said
        ]
        if not asked:
            return None
        answers, facts, before = zip(*asked, strict=True)
        return conflicts(list(answers), list(facts), list(before))


def groups(found: Results) -> list[Group]:
    """The groups of a run's finished cells, lines in the order of the specification."""
    order = {name: place for place, name in enumerate(found.memories())}
    lines: dict[tuple[str, str], dict[tuple[str, int, str], list[Outcome]]] = {}
    for outcome in found.done:
        cell = outcome.cell
        own = lines.setdefault((cell.model, cell.benchmark), {})
        own.setdefault((cell.memory, cell.count, cell.schedule), []).append(outcome)
    return [
        Group(
            model,
            benchmark,
            tuple(
                Line(*axes, tuple(outcomes))
                for axes, outcomes in sorted(
                    own.items(), key=lambda item: (order.get(item[0][0], 0), *item[0][1:])
                )
            ),
            found.plain(),
        )
        for (model, benchmark), own in lines.items()
    ]


def tables(found: Results) -> list[Table]:
    """All tables of a run: scores, costs, conflicts, pairs; then what was left out or failed."""
    made: list[Table] = []
    for group in groups(found):
        made += [_accuracy(group), _costs(group)]
        made += [table for table in (_conflicts(group), _seeds(group)) if table is not None]
        made += [_pairs(group, role) for role in MAIN if role in group.roles()]
    left = [(str(row["memory"]), str(row["model"]), str(row["why"])) for row in _left_out(found)]
    if left:
        made.append(Table("Impossible, left out", ("memory", "model", "why"), tuple(left)))
    failed = tuple((o.cell.name, str(o.end.error)) for o in found.failures if o.end is not None)
    if failed:
        made.append(Table("Failed", ("cell", "error"), failed))
    return made


def beside(a: Results, b: Results) -> list[Table]:
    """Two runs: each line that both have, on the rows that both asked in the same words.

    The difference is b - a, with its verdict as for any pair. Raises `BadInput` if the runs have no
    line in common.
    """
    made = []
    others = {(group.model, group.benchmark): group for group in groups(b)}
    for group in groups(a):
        other = others.get((group.model, group.benchmark))
        if other is None:
            continue
        for role in group.roles():
            rows = _beside(group, other, role)
            if rows:
                header = ("memory", "rows", "first, %", "second, %", "second - first", "p", "")
                title = f"{group.name}: {a.folder.name} and {b.folder.name}, {role}"
                made.append(Table(title, header, tuple(rows)))
    if not made:
        raise BadInput(
            f"{str(a.folder)!r} and {str(b.folder)!r} have no model, benchmark and memory in "
            "common; allowed: runs of similar specifications. Report them one by one."
        )
    return made


def _beside(group: Group, other: Group, role: str) -> list[tuple[str, ...]]:
    """A row for each line of both groups; p is corrected over the table."""
    second = {line.label: line for line in other.lines}
    found: list[tuple[str, Pair]] = []
    for line in group.lines:
        if line.label in second:
            mine, theirs = _worded(line, role), _worded(second[line.label], role)
            found += [(line.label, pair) for pair in pairs({"second": theirs, "first": mine})]
    corrected = holm([pair.p for _, pair in found])
    rows: list[tuple[str, ...]] = []
    for (label, pair), p in zip(found, corrected, strict=True):
        own = judged(pair, p)
        word = {"a": "better", "b": "worse", "open": "open"}[own.verdict]
        means = (f"{100 * own.means[1]:.1f}", f"{100 * own.means[0]:.1f}")
        rows.append((label, str(own.rows), *means, points(own), p_value(p), word))
    return rows


def _worded(line: Line, role: str) -> Scores:
    """The scores under keys that hold the question's words: rows of other words are others."""
    values, subjects = {}, {}
    for seed, record in line.answers(role):
        question = record.answer.question
        key = (seed, f"{record.id} {question.text} {question.answers[0]}")
        values[key] = record.right
        subjects[key] = record.fact.subject if record.fact else _subject(record)
    return Scores(values, subjects)


def percent(found: Score | None) -> str:
    """A share with its interval, in per cent."""
    if found is None:
        return "-"
    return f"{100 * found.mean:.0f} [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def points(pair: Pair) -> str:
    """A difference with its interval, in points."""
    d = pair.difference
    return f"{100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"


def p_value(p: float | None) -> str:
    """A p-value to two digits."""
    if p is None:
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def _accuracy(group: Group) -> Table:
    roles = [*group.roles()]
    if "locality" in roles and group.baseline() is not None:
        roles.append(KEPT)
    rows = [
        (line.label, *(percent(group.score(line, role)) for role in roles)) for line in group.lines
    ]
    counts = {role: len(list(group.lines[0].answers(role.split()[0]))) for role in roles}
    return Table(
        f"{group.name}: exact match by free generation, %",
        ("memory", *(f"{role} (n={counts[role]})" for role in roles)),
        tuple(rows),
        "95 % intervals, by subjects. A number behind a memory: facts written at a time.",
        kind="main",
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


def _learnt(edit: object) -> int:
    return sum(edit.learnt)  # type: ignore[attr-defined]


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


def _seeds(group: Group) -> Table | None:
    """Means of each seed, where there are several."""
    roles = [role for role in group.roles() if role in MAIN]
    rows, many = [], False
    for line in group.lines:
        cells = []
        for role in roles:
            found = group.score(line, role)
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


def _pairs(group: Group, role: str) -> Table:
    rows = []
    for pair in group.pairs(role):
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


def _subject(record: AnswerRecord) -> str:
    return record.answer.question.subject or record.answer.question.text


def _left_out(found: Results) -> Sequence[dict[str, object]]:
    rows: Sequence[dict[str, object]] = found.manifest["impossible"]
    return rows
