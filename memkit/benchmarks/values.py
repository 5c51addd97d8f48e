"""memkit's own values in JSON lines: a row holds the fields of a fact, a passage, an opinion."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from memkit.errors import BadInput

__all__ = ["read_rows", "read_values"]

T = TypeVar("T")


def read_values(path: Path, kind: type[T]) -> list[T]:
    """The rows of a file as values of a kind: facts, questions, passages, opinions.

    Raises `BadInput`, naming file and row, for a file that cannot be read or a row that is none.
    """
    made = []
    for where, row in read_rows(path):
        try:
            made.append(kind(**{name: _frozen(value) for name, value in row.items()}))
        except (TypeError, BadInput) as error:
            raise BadInput(
                f"{where} is no {kind.__name__} ({error}); allowed: a row with its fields. "
                "Correct the row."
            ) from error
    return made


def read_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where each row stands, in words, and the row."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{str(path)!r} cannot be read ({error}); allowed: JSON lines in UTF-8. Check the path."
        ) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{str(path)!r}, row {number},"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadInput(f"{where} is no JSON ({error}). Correct it.") from error
        if not isinstance(row, dict):
            raise BadInput(f"{where} is {line[:80]!r}; allowed: a JSON object. Correct it.")
        yield where, row


def _frozen(value: Any) -> Any:
    """JSON's lists as tuples, all the way down."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
