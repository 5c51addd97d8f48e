"""A user's corpus: passages from a JSON-lines, CSV or TSV file."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from memkit.errors import BadInput
from memkit.progress import track
from memkit.types import Passage

__all__ = ["read_corpus"]

SEPARATORS = {".csv": ",", ".tsv": "\t"}
ALLOWED = (*SEPARATORS, ".jsonl")
TEXTS = ("text", "contents")


def read_corpus(path: str | os.PathLike[str]) -> list[Passage]:
    """The passages of a file: .jsonl with an object a line, .csv or .tsv with a header.

    Columns: id, text (or contents, as pyserini calls it) and, if wanted, title; others are ignored.

    Raises `BadInput`, naming file and row, for a row without id or text, for an id that stands
    twice, for a file that cannot be read, and for one without rows.
    """
    path = Path(path)
    passages: list[Passage] = []
    first: dict[str, int] = {}
    for number, row in track(_rows(path), "reading the corpus"):
        where = f"{str(path)!r}, row {number}"
        passage = _passage(row, where)
        if passage.id in first:
            raise BadInput(
                f"{where}: the id {passage.id!r} stands in row {first[passage.id]} already; "
                "allowed: each id once. Rename or drop one of them."
            )
        first[passage.id] = number
        passages.append(passage)
    if not passages:
        raise BadInput(f"the corpus {str(path)!r} is empty; allowed: at least one passage.")
    return passages


def _passage(row: Mapping[str, Any], where: str) -> Passage:
    found = ", ".join(map(repr, row))
    for name, columns in (("id", ("id",)), ("text", TEXTS)):
        if all(row.get(column) is None for column in columns):
            raise BadInput(
                f"{where}: the passage has no {name}; its columns are {found or 'none'}. Allowed: "
                f"{' or '.join(columns)} in every row. Add it."
            )
    text = next(row[column] for column in TEXTS if row.get(column) is not None)
    try:
        return Passage(str(row["id"]), text, row.get("title") or None)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from error


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number, from 1, and columns of each row."""
    if path.suffix not in ALLOWED:
        raise BadInput(
            f"the corpus {str(path)!r} ends in {path.suffix!r}; allowed: {', '.join(ALLOWED)}. "
            "Save it in one of these formats."
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix in SEPARATORS:
                yield from enumerate(csv.DictReader(file, delimiter=SEPARATORS[path.suffix]), 1)
                return
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _json(line, f"{str(path)!r}, row {number}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(
            f"the corpus {str(path)!r} cannot be read ({error}); allowed: a file in UTF-8. Check "
            "the path, and the encoding."
        ) from error


def _json(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise BadInput(f"{where} is no JSON ({error}); it begins with {line[:60]!r}.") from error
    if not isinstance(row, dict):
        raise BadInput(
            f"{where} is {line.strip()[:60]!r}; allowed: a JSON object with id and text."
        )
    return row
