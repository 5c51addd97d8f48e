"""A report on accuracy by popularity: a table in plain text, a plot, and one HTML file of both."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from memkit import __version__
from memkit.metrics import exact_match
from memkit.protocols.arms import Cell
from memkit.protocols.popularity import PopularityReport
from memkit.types import Answer

__all__ = ["html", "plot", "summary", "table", "write"]

INK = "#010203"  # stands for the colour of the page's text in the plot
COLOURS = ("#2f7ed8", "#d9822b", "#3a9d5d", "#8f5fc2", "#9a9a9a", "#d1495b", "#7a6a55", "#888888")
DASHED = {"random at the same rate": ":", "oracle": "--", "random passage": ":"}
STRONG = "router"
SHORT = {"random at the same rate": "random, same rate"}  # so that a table fits into 80 columns


def table(report: PopularityReport) -> list[list[str]]:
    """Header and rows as text: accuracy in per cent overall and by decile, then what it cost.

    "ret." is the share of questions for which something was retrieved, in per cent; "tok." the
    prompt's mean length in tokens; "ms" the mean time of an answer. An empty decile is "-".
    """
    header = ["", "all", *(str(n) for n in range(1, len(report.deciles) + 1)), "ret.", "tok.", "ms"]
    rows = []
    for row in report.rows:
        cell = row.overall
        cost = (100 * cell.retrieval_rate, cell.tokens, cell.milliseconds)
        accuracies = (_percent(part) for part in (cell, *row.deciles))
        rows.append(
            [SHORT.get(row.name, row.name), *accuracies, *(f"{value:.0f}" for value in cost)]
        )
    return [header, *rows]


def summary(report: PopularityReport) -> str:
    """What the router's row means, in a few sentences."""
    gain, routes = report.gain, report.routes
    sure = "more than chance" if report.significant else "which may be chance"
    closed = (
        "There was nothing that a router could gain."
        if report.gap_closed is None
        else f"It closes {100 * report.gap_closed:.0f} % of the gap to the oracle."
    )
    return (
        f"The router, fitted on other subjects than it decides, scores {100 * gain.value:+.1f} "
        f"points against {report.best!r}, the better single road (95 % interval "
        f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}, {sure}). {closed} Of "
        f"{report.questions:,} questions, text helped {routes.helped}, hurt "
        f"{routes.hurt} and made no difference to {routes.same}; it would have helped "
        f"{routes.missed} more, and {routes.fine} were rightly left to the weights."
    )


def plot(report: PopularityReport) -> str:
    """Accuracy by decile of popularity, a line for each row of the report: inline SVG.

    Text and axes take the colour of the page around it.
    """
    import matplotlib
    from matplotlib.figure import Figure

    settings = {"svg.fonttype": "none", "svg.hashsalt": "memkit", "font.size": 11}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(9, 4.8), layout="constrained")
        axes = figure.add_subplot()
        places = range(1, len(report.deciles) + 1)
        for row, colour in zip(report.rows, COLOURS * 3, strict=False):
            values = [None if cell is None else 100 * cell.accuracy for cell in row.deciles]
            kept = [(x, y) for x, y in zip(places, values, strict=True) if y is not None]
            axes.plot(
                *zip(*kept, strict=True),
                color=colour,
                label=SHORT.get(row.name, row.name),
                linestyle=DASHED.get(row.name, "-"),
                linewidth=3.2 if row.name == STRONG else 1.8,
                zorder=3 if row.name == STRONG else 2,
                marker="o",
                markersize=5 if row.name == STRONG else 3.5,
            )
        axes.set(
            xlabel="decile of popularity: 1 the rarest subjects, 10 the most popular",
            ylabel="right answers, %",
            ylim=(-3, 103),
            xticks=list(places),
        )
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=INK, alpha=0.12)
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


def html(
    report: PopularityReport,
    *,
    title: str,
    about: Mapping[str, str] | None = None,
    worked: Sequence[tuple[str, Answer]] = (),
    missing: Mapping[str, str] | None = None,
) -> str:
    """One page that needs nothing else: no script, no network, light and dark.

    `about` says what was run, `worked` are answers under captions, `missing` what to install for
    an arm that could not run.
    """
    import jinja2

    source = resources.files("memkit").joinpath("templates/popularity.html.jinja")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    header, *rows = table(report)
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        title=title,
        report=report,
        header=header,
        rows=rows,
        cells=[(row.overall, *row.deciles) for row in report.rows],
        plot=plot(report),
        summary=summary(report),
        about=about or {},
        worked=worked,
        missing=missing or {},
        right=lambda answer: exact_match(answer.text, answer.question.answers) == 1,
        version=__version__,
    )


def write(page: str, path: str | os.PathLike[str]) -> None:
    """Write a page to a file, which is whole or as it was before."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _percent(cell: Cell | None) -> str:
    return "-" if cell is None else f"{100 * cell.accuracy:.0f}"
