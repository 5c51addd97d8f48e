"""Figures of reports on accuracy by popularity, as inline SVG or as PNG files.

In SVG text and axes take the colour of the page around them. After Mallen et al., ACL 2023:
accuracy and its correlation with popularity by relation (their figure 4), accuracy by relative
popularity (figure 8), and what grows with a model's size.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from memkit.protocols.arms import Cell
from memkit.protocols.popularity import PopularityReport
from memkit.protocols.popularity_result import Row

__all__ = [
    "COLOURS",
    "INK",
    "SHORT",
    "Drawing",
    "by_decile",
    "by_rate",
    "by_relation",
    "by_relative",
    "by_size",
    "by_threshold",
]

INK = "#010203"  # stands for the colour of the page's text in the plot
COLOURS = ("#2f7ed8", "#d9822b", "#3a9d5d", "#8f5fc2", "#9a9a9a", "#d1495b", "#7a6a55", "#888888")
DASHED = {"random at the same rate": ":", "oracle": "--", "random passage": ":"}
STRONG = "router"
SHORT = {"random at the same rate": "random, same rate"}  # so that a table fits into 80 columns


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure: what `draw` puts into axes side by side, with one legend.

    `height` is in inches, `grid` the axis whose ticks have lines across the plot.
    """

    draw: Callable[..., None]
    height: float = 4.8
    columns: int = 1
    grid: Literal["x", "y"] = "y"

    def svg(self) -> str:
        """Inline SVG, in the colours of the page around it."""
        buffer = io.StringIO()
        self._save(buffer, format="svg", transparent=True, metadata={"Date": None})
        drawn = buffer.getvalue()
        return drawn[drawn.index("<svg") :].replace(INK, "currentColor")

    def png(self, path: str | os.PathLike[str]) -> None:
        """Write a picture, dark on white."""
        self._save(path, format="png", dpi=160)

    def _save(self, target: Any, **options: Any) -> None:
        import matplotlib
        from matplotlib.figure import Figure

        settings = {
            "svg.fonttype": "none",
            "svg.hashsalt": "memkit",
            "font.size": 11,
            "text.parse_math": False,  # a name is a name, whatever it has of "$"
        }
        with matplotlib.rc_context(settings), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # the reader's fonts draw the letters
            figure = Figure(figsize=(9, self.height), layout="constrained")
            parts = figure.subplots(ncols=self.columns, squeeze=False)[0]
            self.draw(*parts)
            for axes in parts:
                axes.spines[["top", "right"]].set_visible(False)
                axes.set_axisbelow(True)
                axes.grid(axis=self.grid, color=INK, alpha=0.12)
                for spine in axes.spines.values():
                    spine.set_color(INK)
                axes.tick_params(colors=INK)
                axes.xaxis.label.set_color(INK)
                axes.yaxis.label.set_color(INK)
            figure.legend(loc="outside right upper", frameon=False, labelcolor=INK)
            figure.savefig(target, **options)


def by_decile(report: PopularityReport) -> Drawing:
    """Accuracy by decile of popularity, a line for each row of the report."""

    def draw(axes: Any) -> None:
        _lines(axes, report.rows, [row.deciles for row in report.rows])
        axes.set(
            xlabel="decile of popularity: 1 the rarest subjects, 10 the most popular",
            ylabel="right answers, %",
            ylim=(-3, 103),
            xticks=list(range(1, len(report.deciles) + 1)),
        )

    return Drawing(draw)


def by_relative(report: PopularityReport) -> Drawing:
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

    return Drawing(draw)


def by_relation(report: PopularityReport) -> Drawing:
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
        beside.set(xlim=(-1, 1), xlabel="correlation with ln popularity")
        beside.sharey(axes)
        beside.tick_params(labelleft=False)
        beside.axvline(0, color=INK, linewidth=0.6)

    return Drawing(draw, height=1.2 + 0.42 * max(4, len(names)), columns=2, grid="x")


def by_rate(report: PopularityReport) -> Drawing:
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

    return Drawing(draw)


def by_size(reports: Mapping[str, PopularityReport], parameters: Mapping[str, int]) -> Drawing:
    """Models side by side: right answers by decile of popularity, and overall by size.

    `parameters` are the models' numbers of weights. The paper's second finding is that size does
    not help with rare subjects (section 4).
    """
    models = sorted(reports, key=parameters.__getitem__)
    first = reports[models[0]]

    def draw(axes: Any, beside: Any) -> None:
        for name, colour in zip(models, COLOURS * 3, strict=False):
            row = reports[name].row(first.weights)
            label = f"{_short(parameters[name])} weights"
            axes.plot(*_filled(row.deciles), color=colour, marker="o", markersize=3.5, label=label)
        axes.set(xlabel="decile of popularity", ylabel="right answers, %", ylim=(-3, 103))
        axes.set(title=first.weights, xticks=list(range(1, len(first.deciles) + 1)))
        sizes = [parameters[name] for name in models]
        styles = {first.weights: "-", first.retrieval: ":", STRONG: "--"}
        for (road, style), marker in zip(styles.items(), "os^", strict=True):
            right = [100 * reports[name].row(road).overall.accuracy for name in models]
            beside.plot(sizes, right, f"{style}{marker}", color=INK, label=road)
        beside.set(title="all questions", xlabel="weights", xscale="log", ylim=(-3, 103))
        beside.set_xticks(sizes, [_short(size) for size in sizes])
        beside.minorticks_off()

    return Drawing(draw, height=4, columns=2)


def by_threshold(reports: Mapping[str, PopularityReport], parameters: Mapping[str, int]) -> Drawing:
    """Adaptive retrieval by model: right answers by the share retrieved for, and by tokens.

    The curve is the router's score with any one threshold; the router's own mark is that of the
    fitted thresholds, on questions which they were not fitted on. The dotted line retrieves for as
    many questions at random.
    """
    models = sorted(reports, key=parameters.__getitem__)

    def draw(axes: Any, beside: Any) -> None:
        for name, colour in zip(models, COLOURS * 3, strict=False):
            report = reports[name]
            roads = {report.weights: "o", report.retrieval: "s", STRONG: "D", "oracle": "x"}
            cells = {road: report.row(road).overall for road in roads}
            ends = [100 * cells[road].accuracy for road in (report.weights, report.retrieval)]
            axes.plot((0, 100), ends, ":", color=colour)
            if report.signal is not None:
                curve = report.signal.curve
                x, y = ([100 * value for value in part] for part in (curve.rates, curve.accuracies))
                axes.plot(x, y, color=colour, linewidth=1.2)
            for road, cell in cells.items():
                mark = {"color": colour, "marker": roads[road], "linestyle": ""}
                axes.plot(100 * cell.retrieval_rate, 100 * cell.accuracy, **mark)
                beside.plot(cell.tokens, 100 * cell.accuracy, **mark)
            axes.plot([], [], color=colour, label=f"{_short(parameters[name])} weights")
        for road, marker in roads.items():
            axes.plot([], [], marker, color=INK, label=road)
        axes.plot([], [], color=INK, linewidth=1.2, label="any one threshold")
        axes.plot([], [], ":", color=INK, label="at random")
        axes.set(xlabel="retrieved for, % of questions", ylabel="right answers, %")
        beside.set(xlabel="tokens of a prompt, mean", ylim=axes.get_ylim())

    return Drawing(draw, height=4, columns=2)


def _short(count: int) -> str:
    """A number of weights, as 2.6 M."""
    size, unit = (count / 1e9, "B") if count >= 1e9 else (count / 1e6, "M")
    return f"{size:.2g} {unit}" if size < 10 else f"{size:.0f} {unit}"


def _filled(cells: Sequence[Cell | None]) -> tuple[list[int], list[float]]:
    """The numbers of those that have questions, from 1, and their accuracies in per cent."""
    kept = [(n, 100 * cell.accuracy) for n, cell in enumerate(cells, 1) if cell is not None]
    return [n for n, _ in kept], [accuracy for _, accuracy in kept]


def _lines(axes: Any, rows: Sequence[Row], parts: Sequence[Sequence[Cell | None]]) -> None:
    """A line for each row; an empty part has no point."""
    for row, cells, colour in zip(rows, parts, COLOURS * 3, strict=False):
        axes.plot(
            *_filled(cells),
            color=colour,
            label=SHORT.get(row.name, row.name),
            linestyle=DASHED.get(row.name, "-"),
            linewidth=3.2 if row.name == STRONG else 1.8,
            zorder=3 if row.name == STRONG else 2,
            marker="o",
            markersize=5 if row.name == STRONG else 3.5,
        )
