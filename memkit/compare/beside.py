"""Two runs side by side: what both have, on the rows that both asked in the same words."""

from __future__ import annotations

from collections import Counter

from memkit.compare.groups import Group, Line, groups
from memkit.compare.results import Results
from memkit.compare.statistics import Key, Pair, Scores, holm, judged, pairs, score
from memkit.compare.tables import Table, p_value, points
from memkit.errors import BadInput

__all__ = ["beside"]

NOTE = (
    "Rows that both runs asked in the same words, under the same seed. Better or worse: as for any "
    "pair, corrected by Holm over this table; else open."
)


def beside(a: Results, b: Results) -> list[Table]:
    """Two runs: each line that both have, on the rows that both asked in the same words.

    The difference is b - a, with its verdict as for any pair. A line whose rows are all others (of
    another seed, say) has both means, and no difference. Raises `BadInput` if the runs have no line
    in common.
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
                made.append(Table(title, header, tuple(rows), NOTE))
    if not made:
        raise BadInput(
            f"{str(a.folder)!r} and {str(b.folder)!r} have no model, benchmark and memory in "
            "common; allowed: runs of similar specifications. Report them one by one."
        )
    return made


def _beside(group: Group, other: Group, role: str) -> list[tuple[str, ...]]:
    """A row for each line of both groups; p is corrected over the table."""
    second = {line.label: line for line in other.lines}
    scores = {
        line.label: (_worded(line, role), _worded(second[line.label], role))
        for line in group.lines
        if line.label in second
    }
    found: dict[str, Pair] = {}
    for label, (mine, theirs) in scores.items():
        for pair in pairs({"second": theirs, "first": mine}):
            found[label] = pair
    corrected = dict(zip(found, holm([pair.p for pair in found.values()]), strict=True))
    rows: list[tuple[str, ...]] = []
    for label, both in scores.items():
        if label not in found:
            means = [score(own) for own in both if own.values]
            if len(means) == 2:
                shown = (f"{100 * own.mean:.1f}" for own in means)
                rows.append((label, "0", *shown, "-", "-", "other rows"))
            continue
        own = judged(found[label], corrected[label])
        word = {"a": "better", "b": "worse", "open": "open"}[own.verdict]
        first, last = (f"{100 * mean:.1f}" for mean in reversed(own.means))
        rows.append((label, str(own.rows), first, last, points(own), p_value(own.holm), word))
    return rows


def _worded(line: Line, role: str) -> Scores:
    """The scores under keys that hold the question's words: rows of other words are others."""
    words: dict[Key, Key] = {}
    often: Counter[Key] = Counter()
    for seed, record in line.answers(role):
        question = record.answer.question
        said = (seed, f"{question.text} {question.answers[0]}")
        often[said] += 1
        words[seed, record.id] = (seed, f"{said[1]} {often[said]}")
    found = line.scores(role, lambda seed, record: record.right)
    return Scores(
        {words[key]: value for key, value in found.values.items()},
        {words[key]: group for key, group in found.groups.items()},
    )
