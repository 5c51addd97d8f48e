"""`memkit doctor`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from memkit.cli.output import say, say_json

__all__ = ["doctor"]


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what memkit finds here, and what to install for the rest."""
    from memkit.doctor import check

    findings = check()
    if as_json:
        say_json([dataclasses.asdict(finding) for finding in findings])
        return
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        say(f"{'ok' if finding.ok else '--'}  {finding.name:<{width}}  {finding.detail}")
        if finding.next_step:
            say(f"    {'':<{width}}  to have it: {finding.next_step}")
