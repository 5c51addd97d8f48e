"""Two runs side by side: what both have, on the rows that both asked in the same words."""

from __future__ import annotations

from memkit.compare.groups import Group, Line, groups
from memkit.compare.results import Results
from memkit.compare.statistics import Pair, Scores, holm, judged, pairs
from memkit.compare.tables import Table, p_value, points
from memkit.errors import BadInput

__all__ = ["beside"]


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
    words = {}
    for seed, record in line.answers(role):
        question = record.answer.question
        words[seed, record.id] = (seed, f"{record.id} {question.text} {question.answers[0]}")
    found = line.scores(role, lambda seed, record: record.right)
    return Scores(
        {words[key]: value for key, value in found.values.items()},
        {words[key]: group for key, group in found.groups.items()},
    )
