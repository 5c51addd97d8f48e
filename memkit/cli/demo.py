"""`memkit demo`."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from memkit.cli.output import note, say, say_json
from memkit.errors import BadInput
from memkit.types import Answer

__all__ = ["answered", "demo"]


def demo(
    out: Annotated[Path | None, typer.Option(help="Write a report to this HTML file.")] = None,
    world: Annotated[Path | None, typer.Option(help="Another world's folder.")] = None,
    questions: Annotated[int, typer.Option(help="How many questions are asked.")] = 240,
    seed: Annotated[int, typer.Option(help="Which questions, and which random passages.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask the miniature world's questions on every road, and compare."""
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise BadInput(
            f"--out is {str(out)!r}; allowed: a file in a folder that exists. Choose another name."
        )
    from memkit import report
    from memkit.showcase import measure

    found = measure(world, questions, seed, announce=note)
    if as_json:
        say_json(found.to_dict())
    else:
        for line in aligned(report.table(found.report)):
            say(line)
        say()
        say("Right answers in per cent: all, and by decile of popularity (1 the rarest subjects).")
        say("ret.: per cent retrieved for. tok.: tokens of the prompt. ms: time of an answer.")
        for arm, reason in found.missing.items():
            say(f"Without a row: {arm}. {reason}")
        say()
        _paragraph(report.summary(found.report))
        for caption, answer in found.worked:
            say()
            _paragraph(caption)
            answered(answer)
    if out is not None:
        title = "Weights or text? The miniature world"
        page = report.html(
            found.report, title=title, about=found.about, worked=found.worked, missing=found.missing
        )
        report.write(page, out)
        note(f"wrote {out}")
    note(f"done in {found.about['seconds']} s")


def answered(answer: Answer, *, show_prompt: bool = False) -> None:
    """A question's way and its answer, with the evidence."""
    _field("question", answer.question.text)
    _field("route", f"{answer.decision.source}: {answer.decision.reason}")
    for hit in answer.hits:
        _field("passage", f"[{hit.passage.id}, score {hit.score:.2f}] {hit.passage.text}")
    if show_prompt:
        for line in answer.prompt.text.splitlines():
            _field("prompt", line)
    silent = answer.decision.source == "abstain"
    _field("answer", "none, the router abstains" if silent else answer.text)
    if answer.question.answers:
        _field("expected", " or ".join(answer.question.answers))


def _paragraph(text: str) -> None:
    """A text, folded to the width of a terminal, on one line elsewhere."""
    for line in _folded(text, 0):
        say(line)


def _folded(text: str, indent: int) -> list[str]:
    if not sys.stdout.isatty():
        return [text]
    return textwrap.wrap(text, max(20, shutil.get_terminal_size().columns - indent)) or [""]


def _field(name: str, text: str) -> None:
    """A name and a text, folded beside it."""
    for number, line in enumerate(_folded(text, 13)):
        say(f"  {name if not number else '':<9} {line}".rstrip())


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table: the first column to the left, the others to the right."""
    widths = [max(3, *map(len, column)) for column in zip(*table, strict=True)]
    return [
        " ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
