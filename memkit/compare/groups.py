"""Records set side by side: lines of one memory each, in groups of one model and benchmark.

Roles are as `memkit.compare.spec` has them. `KEPT` is one more: the share of locality rows whose
answer is that of the model as it is, if a memory of the specification is that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from memkit.compare.records import AnswerRecord
from memkit.compare.results import Outcome, Results
from memkit.compare.spec import ROLES
from memkit.compare.statistics import Pair, Score, Scores, pairs, score
from memkit.metrics import same_answer
from memkit.protocols.conflicts import Conflicts, conflicts

__all__ = ["KEPT", "Group", "Line", "Measure", "groups"]

KEPT = "locality kept"
Measure = Callable[[int, AnswerRecord], float | None]  # of a seed's record


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
            found = measure(seed, record)
            if found is not None:
                values[seed, record.id] = found
                subjects[seed, record.id] = _subject(record)
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

    def kept(self) -> Measure:
        """Whether a record's answer is that of the model as it is; None where there is none."""
        plain = self.baseline()
        asked = [] if plain is None else plain.answers("locality")
        said = {(seed, record.id): record.scored for seed, record in asked}

        def measure(seed: int, record: AnswerRecord) -> float | None:
            old = said.get((seed, record.id))
            return None if old is None else same_answer(old, record.scored)

        return measure

    def score(self, line: Line, role: str, metric: str = "exact_match") -> Score | None:
        """A line's mean in a role, or in `KEPT`; None without rows."""
        if role == KEPT:
            found = line.scores("locality", self.kept())
        else:
            found = line.scores(role, _by(metric))
        return score(found) if found.values else None

    def pairs(self, role: str, metric: str = "exact_match") -> tuple[Pair, ...]:
        """Every pair of lines with as many facts at a time, or none, in a role; corrected together.

        Whether they were written at once or in turn may differ.
        """
        scores = {line.label: line.scores(role, _by(metric)) for line in self.lines}
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


def _by(metric: str) -> Measure:
    return lambda seed, record: record.metrics.get(metric)


def _subject(record: AnswerRecord) -> str:
    """What the record is a sample of: rows on one subject are right or wrong together."""
    question = record.answer.question
    return record.fact.subject if record.fact else question.subject or question.text
