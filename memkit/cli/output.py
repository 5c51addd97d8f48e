"""How the command line speaks."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer

__all__ = ["complain", "finite", "note", "say", "say_json"]


def say(text: str = "") -> None:
    """A line of the result."""
    typer.echo(text)


def say_json(value: Any) -> None:
    """The result for a program: JSON, infinities and NaN as null."""
    typer.echo(json.dumps(finite(value), ensure_ascii=False, indent=1))


def note(text: str) -> None:
    """A line for whoever is watching."""
    typer.echo(text, err=True)


def complain(error: Exception) -> None:
    """What is wrong, and with a known error what to do."""
    text = f"{type(error).__name__}: {error}"
    typer.secho(text, err=True, fg="red" if sys.stderr.isatty() else None)


def finite(value: Any) -> Any:
    """The same with None for the numbers that JSON does not have."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return value
