"""Figures of a report on accuracy by popularity, as inline SVG.

Text and axes take the colour of the page around them. After Mallen et al., ACL 2023: accuracy and
its correlation with popularity by relation (their figure 4), and accuracy by relative popularity
(figure 8).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from memkit.protocols.arms import Cell
from memkit.protocols.popularity import PopularityReport
from memkit.protocols.popularity_result import Row

__all__ = ["COLOURS", "INK", "SHORT", "by_decile", "by_rate", "by_relation", "by_relative", "svg"]

INK = "#010203"  # stands for the colour of the page's text in the plot
COLOURS = ("#2f7ed8", "#d9822b", "#3a9d5d", "#8f5fc2", "#9a9a9a", "#d1495b", "#7a6a55", "#888888")
DASHED = {"random at the same rate": ":", "oracle": "--", "random passage": ":"}
STRONG = "router"
SHORT = {"random at the same rate": "random, same rate"}  # so that a table fits into 80 columns


def by_decile(report: PopularityReport) -> str:
    """Accuracy by decile of popularity, a line for each row of the report."""

    def draw(axes: Any) -> None:
        _lines(axes, report.rows, [row.deciles for row in report.rows])
        axes.set(
            xlabel="decile of popularity: 1 the rarest subjects, 10 the most popular",
            ylabel="right answers, %",
            ylim=(-3, 103),
            xticks=list(range(1, len(report.deciles) + 1)),
        )

    return svg(draw)


def by_relative(report: PopularityReport) -> str:
    """Accuracy by relative popularity: within a relation, from its rarest to its most popular."""

    def draw(axes: Any) -> None:
        parts = len(report.rows[0].relative)
        _lines(axes, report.rows, [row.relative for row in report.rows])
        axes.set(
            xlabel="popularity within the relation, ln(1 + page views): tenths of its range",
            ylabel="right answers, %",
            ylim=(-3, 103),
            xticks=list(range(1, parts + 1)),
        )

    return svg(draw)


def by_relation(report: PopularityReport) -> str:
    """By relation, for each arm: accuracy, and its correlation with ln(1 + page views)."""
    rows = [row for row in report.rows if row.name in (report.weights, report.retrieval, STRONG)]
    names = list(report.relations)

    def draw(axes: Any, beside: Any) -> None:
        height = 0.8 / len(rows)
        for place, (row, colour) in enumerate(zip(rows, COLOURS, strict=False)):
            at = [n + place * height for n in range(len(names))]
            values = [100 * row.relations[name].accuracy for name in names]
            axes.barh(at, values, height, color=colour, label=row.name)
            r = [row.correlations[name] or 0.0 for name in names]
            beside.barh(at, r, height, color=colour)
        middle = [n + 0.4 - height / 2 for n in range(len(names))]
        labels = [f"{name} ({report.relations[name]})" for name in names]
        axes.set(yticks=middle, yticklabels=labels, xlim=(0, 103), xlabel="right answers, %")
        axes.invert_yaxis()
        beside.set(yticks=[], xlim=(-1, 1), xlabel="correlation with ln popularity")
        beside.sharey(axes)
        beside.axvline(0, color=INK, linewidth=0.6)

    return svg(draw, height=1.2 + 0.42 * max(4, len(names)), columns=2)


def by_rate(report: PopularityReport) -> str:
    """Accuracy by the share retrieved for: the router's score swept, and its points of work."""

    def draw(axes: Any) -> None:
        never, always = (
            report.row(name).overall.accuracy for name in (report.weights, report.retrieval)
        )
        axes.plot([0, 100], [100 * never, 100 * always], color="#888888", linestyle=":")
        if report.signal is not None:
            curve = report.signal.curve
            x, y = ([100 * value for value in part] for part in (curve.rates, curve.accuracies))
            axes.plot(x, y, color=COLOURS[0], label="the router's score, any threshold")
        for row, colour in zip(report.rows, COLOURS * 3, strict=False):
            if row.name in (report.weights, report.retrieval, STRONG, "oracle", *DASHED):
                cell = row.overall
                label = SHORT.get(row.name, row.name)
                place = 100 * cell.retrieval_rate, 100 * cell.accuracy
                axes.plot(*place, "o", color=colour, label=label)
        axes.set(xlabel="retrieved for, % of questions", ylabel="right answers, %", xlim=(-3, 103))

    return svg(draw)


def _lines(axes: Any, rows: Sequence[Row], parts: Sequence[Sequence[Cell | None]]) -> None:
    """A line for each row; an empty part has no point."""
    for row, cells, colour in zip(rows, parts, COLOURS * 3, strict=False):
        kept = [(n, 100 * cell.accuracy) for n, cell in enumerate(cells, 1) if cell is not None]
        axes.plot(
            [x for x, _ in kept],
            [y for _, y in kept],
            color=colour,
            label=SHORT.get(row.name, row.name),
            linestyle=DASHED.get(row.name, "-"),
            linewidth=3.2 if row.name == STRONG else 1.8,
            zorder=3 if row.name == STRONG else 2,
            marker="o",
            markersize=5 if row.name == STRONG else 3.5,
        )


def svg(draw: Callable[..., None], height: float = 4.8, columns: int = 1) -> str:
    """What `draw` puts into axes side by side, with one legend."""
    import matplotlib
    from matplotlib.figure import Figure

    settings = {"svg.fonttype": "none", "svg.hashsalt": "memkit", "font.size": 11}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(9, height), layout="constrained")
        parts = figure.subplots(ncols=columns, squeeze=False)[0]
        draw(*parts)
        for axes in parts:
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y" if columns == 1 else "x", color=INK, alpha=0.12)
            for spine in axes.spines.values():
                spine.set_color(INK)
            axes.tick_params(colors=INK)
            axes.xaxis.label.set_color(INK)
            axes.yaxis.label.set_color(INK)
        figure.legend(loc="outside right upper", frameon=False, labelcolor=INK)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    drawn = buffer.getvalue()
    return drawn[drawn.index("<svg") :].replace(INK, "currentColor")
