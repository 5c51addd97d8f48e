"""Tables as text: Markdown, CSV, and LaTeX with booktabs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from memkit.compare.tables import Table

__all__ = ["FORMATS", "csv_text", "latex", "markdown"]

SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
TAG = re.compile(r"<(?=[A-Za-z/!?])")  # what Markdown would take for HTML


def markdown(tables: Iterable[Table]) -> str:
    """Each table under its title, with its note below."""
    parts = []
    for table in tables:
        lines = [f"## {table.title}", "", _bar(table.header)]
        lines += ["|---" + "|---:" * (len(table.header) - 1) + "|", *map(_bar, table.rows)]
        parts.append("\n".join([*lines, *(["", table.note] if table.note else [])]) + "\n")
    return "\n".join(parts)


def csv_text(tables: Iterable[Table]) -> str:
    """All tables in one file: a first column names the table, each has its own header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for table in tables:
        writer.writerow(["table", *table.header])
        writer.writerows([table.title, *row] for row in table.rows)
    return out.getvalue()


def latex(tables: Iterable[Table]) -> str:
    r"""A `table` for each, with \toprule and its friends: \usepackage{booktabs}.

    Letters beyond Latin need XeLaTeX or LuaLaTeX.
    """
    parts = []
    for table in tables:
        columns = "l" + "r" * (len(table.header) - 1)
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{_escaped(table.title)}}}"]
        lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _row(table.header), r"\midrule"]
        lines += [*map(_row, table.rows), r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par\smallskip\footnotesize {_escaped(table.note)}"] if table.note else []
        parts.append("\n".join([*lines, r"\end{table}", ""]))
    return "\n".join(parts)


FORMATS: Mapping[str, Callable[[Iterable[Table]], str]] = {
    "md": markdown,
    "csv": csv_text,
    "latex": latex,
}


def _bar(cells: Sequence[str]) -> str:
    safe = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(TAG.sub('&lt;', cell) for cell in safe)} |"


def _row(cells: Sequence[str]) -> str:
    text = " & ".join(map(_escaped, cells))
    # a line break, or a rule, before it would take these for its own options
    guard = "{}" if text.lstrip()[:1] in ("[", "*") else ""
    return rf"{guard}{text} \\"


def _escaped(text: str) -> str:
    return "".join(SPECIAL.get(letter, letter) for letter in text.replace("\n", " "))
