"""Figures of a comparison, as inline SVG: popularity, price, retention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memkit.compare.groups import Group, Line
from memkit.figures import Drawing
from memkit.metrics import wilson_interval
from memkit.protocols.popularity_parts import Strata

__all__ = ["Curve", "by_popularity", "curves", "frontier", "popularity", "retention"]

DECILES = 10
WAYS = {"sequential": "--"}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8f5fc2", "#7a6a55")
MARKERS = "osD^vPX*"  # so that lines which lie on each other are still told apart
BANDS = 5  # lines at most that are drawn with their intervals


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of one line: x, mean, and the ends of its 95 % interval, all in plain numbers."""

    label: str
    points: tuple[tuple[float, float, float, float], ...]
    dashed: bool = False


def shown(group: Group) -> list[Line]:
    """The lines that fit into one figure: of each memory the one with the most facts at a time."""
    best: dict[str, Line] = {}
    for line in group.lines:
        known = best.get(line.memory)
        if known is None or (line.count, line.schedule != "sequential") > (
            known.count,
            known.schedule != "sequential",
        ):
            best[line.memory] = line
    return list(best.values())


def popularity(group: Group) -> list[Curve]:
    """Exact match on the questions by decile of popularity, a curve for each memory."""
    first = [record for _, record in group.lines[0].answers("question")]
    if not any(record.answer.question.popularity is not None for record in first):
        return []
    found = []
    for line in shown(group):
        records = [record for _, record in line.answers("question")]
        questions = [record.answer.question for record in records]
        subjects = [question.subject or question.text for question in questions]
        strata = Strata.of(questions, subjects, DECILES)
        right = np.array([record.right for record in records])
        points = []
        for number, rows in enumerate(strata.deciles, start=1):
            if len(rows):
                low, high = wilson_interval(right[rows], [subjects[row] for row in rows])
                points.append((float(number), float(right[rows].mean()), low, high))
        found.append(Curve(line.label, tuple(points)))
    return found


def curves(group: Group, role: str) -> list[Curve]:
    """Exact match in a role by how many facts are in the model, a curve for each writing memory."""
    made: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
    for line in group.lines:
        score = group.score(line, role)
        if not line.count or score is None:
            continue
        ways = {other.schedule for other in group.lines if other.memory == line.memory}
        own = ways if line.count == 1 else {line.schedule}
        for way in own:  # one fact at a time is the beginning of both
            point = (float(line.count), score.mean, score.low, score.high)
            made.setdefault((line.memory, way), []).append(point)
    return [
        Curve(f"{memory}, in turn" if way in WAYS else memory, tuple(sorted(points)), way in WAYS)
        for (memory, way), points in made.items()
    ]


def by_popularity(group: Group) -> str:
    """Accuracy by popularity; "" where it is not known."""
    lines = popularity(group)

    def draw(axes: Any) -> None:
        _draw(axes, lines)
        axes.set(
            xlabel="decile of popularity: 1 the rarest subjects, 10 the most popular",
            ylabel="right answers, %",
            ylim=(-3, 103),
            xticks=list(range(1, DECILES + 1)),
        )

    return Drawing(draw).svg() if lines else ""


def frontier(group: Group) -> str:
    """Accuracy on the first role against the prompt's length; the frontier is the best so far."""
    role = group.roles()[0]
    places = []
    for line in shown(group):
        records = [record for _, record in line.answers(role)]
        tokens = float(np.mean([record.answer.prompt.tokens for record in records]))
        right = float(np.mean([record.right for record in records]))
        places.append((line.label, tokens, 100 * right))

    def draw(axes: Any) -> None:
        for number, (label, x, y) in enumerate(places):
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            size = max(5, 12 - number)
            axes.plot(x, y, marker, color=colour, label=_named(label), markersize=size)
        best, steps = -1.0, []
        for _, x, y in sorted(places, key=lambda place: (place[1], -place[2])):
            if y > best:
                steps.append((x, y))
                best = y
        axes.step(*zip(*steps, strict=True), where="post", color="#888888", linestyle=":", zorder=1)
        axes.set(xlabel="tokens of a prompt, mean", ylabel="right answers, %", ylim=(-3, 103))

    return Drawing(draw).svg()


def retention(group: Group, roles: Sequence[str]) -> Mapping[str, str]:
    """By role, accuracy by how many facts are in the model at once; roles without are left out."""
    found = {}
    for role in roles:
        lines = curves(group, role)
        if not lines or all(len(line.points) < 2 for line in lines):
            continue

        def draw(axes: Any, lines: Sequence[Curve] = lines) -> None:
            _draw(axes, lines)
            counts = sorted({point[0] for line in lines for point in line.points})
            axes.set(
                xscale="log",
                xlabel="facts in the model at once",
                ylabel="right answers, %",
                ylim=(-3, 103),
            )
            axes.set_xticks(counts, [f"{count:.0f}" for count in counts])
            axes.minorticks_off()

        found[role] = Drawing(draw, height=4.2).svg()
    return found


def _named(label: str) -> str:
    """A label that the legend shows: one that begins with "_" it leaves out."""
    return f"\u200b{label}" if label.startswith("_") else label


def _draw(axes: Any, lines: Sequence[Curve]) -> None:
    """Means, with their intervals as a band if there is room; dashed where written in turn."""
    places: dict[str, int] = {}
    for line in lines:
        number = places.setdefault(line.label.removesuffix(", in turn"), len(places))
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        x, mean, low, high = (np.array(part) for part in zip(*line.points, strict=True))
        axes.plot(
            x,
            100 * mean,
            "--" if line.dashed else "-",
            color=colour,
            label=_named(line.label),
            marker=marker,
            markersize=max(4, 9 - number),
            fillstyle="none" if line.dashed else "full",
        )
        if len(lines) <= BANDS:
            axes.fill_between(x, 100 * low, 100 * high, color=colour, alpha=0.1, linewidth=0)
