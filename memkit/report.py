"""A report on accuracy by popularity: a table in plain text, a plot, and one HTML file of both."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from memkit import __version__
from memkit.errors import BadInput
from memkit.figures import SHORT, by_decile, by_rate, by_relation, by_relative
from memkit.files import write_text
from memkit.metrics import Difference, exact_match
from memkit.protocols.arms import Cell
from memkit.protocols.popularity import PopularityReport
from memkit.types import Answer

__all__ = ["details", "html", "scale", "summary", "table", "write"]


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


def scale(
    reports: Mapping[str, PopularityReport], parameters: Mapping[str, int]
) -> list[list[str]]:
    """Header and a row for each model, the smallest first: what grows with its size.

    `parameters` are the numbers of weights. Accuracies in per cent: closed book overall, in the
    rarest and in the most popular decile that has questions, with text, by the router; r is the
    correlation of ln(1 + page views) with closed-book answers, "ret." the router's share of
    questions retrieved for. The paper's second finding is read in the third column: rare facts
    hardly gain by size (Mallen et al., ACL 2023, section 4).

    Raises `BadInput` for a model without a number of parameters.
    """
    header = ["model", "parameters", "closed book", "rarest", "most popular", "r"]
    rows = []
    for name, report in reports.items():
        if name not in parameters:
            raise BadInput(
                f"the model {name!r} has no number of parameters; allowed: "
                f"{', '.join(map(repr, parameters))}. Count its weights."
            )
        closed, fed = report.row(report.weights), report.row(report.retrieval)
        filled = [cell for cell in closed.deciles if cell is not None]
        router = report.row("router").overall
        ends = (filled[0], filled[-1]) if filled else (None, None)
        r = "-" if closed.correlation is None else f"{closed.correlation:+.2f}"
        rest = [_percent(fed.overall), _percent(router), f"{100 * router.retrieval_rate:.0f}"]
        gain = _points(report.gain)
        rows.append(
            [name, f"{parameters[name]:,}", *map(_percent, (closed.overall, *ends)), r, *rest, gain]
        )
    rows.sort(key=lambda row: parameters[row[0]])
    return [[*header, "with text", "router", "ret.", "gain"], *rows]


def details(report: PopularityReport) -> list[str]:
    """What else the report found, a line each: differences, the signal, thresholds, costs."""
    lines = [
        f"against {c.other}: {_points(c.difference)}, bootstrap p {c.difference.p:.3g}"
        + ("" if c.mcnemar is None else f", McNemar p {c.mcnemar:.3g}")
        for c in report.comparisons
    ]
    if report.routes.abstained and report.answered_error is not None:
        error = 100 * report.answered_error
        lines.append(f"abstained from {report.routes.abstained}; of the rest {error:.1f} % wrong")
    if report.signal is not None:
        signal = report.signal
        known, flips = ("-" if x is None else f"{x:.2f}" for x in (signal.known, signal.flips))
        area = "no headroom" if signal.area is None else f"{signal.area:.2f}"
        lines.append(
            f"signal: AUROC {known} for right from the weights, {flips} for the better road; ECE "
            f"{signal.calibration_error:.3f}; area under the rate curve {area} (chance 0, oracle 1)"
        )
    for name, threshold in report.thresholds.items():
        ends = f"{threshold.value:.4g} [{threshold.low:.4g}, {threshold.high:.4g}]"
        lines.append(f"threshold {f'of {name}' if name else 'over all'}: {ends}")
    for row in report.rows:
        cell = row.overall
        other = ", ".join(f"{rule} {100 * value:.1f}" for rule, value in row.beside.items())
        r = "-" if row.correlation is None else f"{row.correlation:+.2f}"
        lines.append(
            f"{row.name}: {other}; r with ln popularity {r}; tokens p50 {cell.tokens_p50:.0f}, p95 "
            f"{cell.tokens_p95:.0f}; ms p50 {cell.milliseconds_p50:.0f}, p95 "
            f"{cell.milliseconds_p95:.0f}"
        )
    return lines


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
        plot=by_decile(report).svg(),
        figures=_figures(report),
        summary=summary(report),
        details=details(report),
        about=about or {},
        worked=worked,
        missing=missing or {},
        right=lambda answer: exact_match(answer.text, answer.question.answers) == 1,
        version=__version__,
    )


def write(page: str, path: str | os.PathLike[str]) -> None:
    """Write a page to a file, which is whole or as it was before."""
    write_text(Path(path), page)


def _percent(cell: Cell | None) -> str:
    return "-" if cell is None else f"{100 * cell.accuracy:.0f}"


def _points(difference: Difference) -> str:
    """A difference of accuracies in points, with its interval."""
    return (
        f"{100 * difference.value:+.1f} points [{100 * difference.low:+.1f}, "
        f"{100 * difference.high:+.1f}]"
    )


def _figures(report: PopularityReport) -> list[tuple[str, str]]:
    """Captions and figures that come after the first."""
    figures = [("Accuracy by the share retrieved for", by_rate(report).svg())]
    if report.relations:
        figures.append(("By relation: accuracy, and its correlation", by_relation(report).svg()))
        figures.append(("By popularity within the relation", by_relative(report).svg()))
    return figures
