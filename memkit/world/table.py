"""A user's own facts as a world: subject, relation, object, popularity, and perhaps a passage.

This is how real facts are studied where no pretrained model is at hand: `memkit world train --facts
FILE` makes a model whose knowledge of them is known.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memkit.benchmarks.base import Benchmark
from memkit.errors import BadInput
from memkit.types import Fact, Passage, Question

__all__ = ["Wording", "from_table", "read_wordings"]

COLUMNS = ("subject", "relation", "object", "popularity")
SEPARATORS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True, slots=True)
class Wording:
    """How a relation is put into words, with "{}" for the subject.

    Each phrasing ends where the object begins. Raises `BadInput` for one without "{}".
    """

    question: str
    phrasings: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that there is a phrasing, and that each form has a place for the subject."""
        if not self.phrasings:
            raise BadInput(
                f"the wording {self.question!r} has no phrasing; allowed: at least one. "
                "Write what stands before the object, as in '{} was born in'."
            )
        for form in (self.question, *self.phrasings):
            if "{}" not in form:
                raise BadInput(
                    f"the wording {form!r} lacks '{{}}'; allowed: text with '{{}}' in it. "
                    "Put '{}' where the subject stands."
                )

    @classmethod
    def of(cls, relation: str) -> Wording:
        """Plain forms that fit the name of any relation, as in "the capital of {}"."""
        name = relation.replace("_", " ")
        return cls(
            question=f"What is the {name} of {{}}?",
            phrasings=(
                f"The {name} of {{}} is",
                f"{{}} has the {name}",
                f"As for {{}}, the {name} is",
                f"The {name} that belongs to {{}} is",
            ),
        )


def read_wordings(path: str | os.PathLike[str]) -> dict[str, Wording]:
    """Wordings from a JSON file: {relation: {"question": "...", "phrasings": ["...", ...]}}.

    Raises `BadInput` if the file has another form.
    """
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
        return {
            relation: Wording(entry["question"], tuple(entry["phrasings"]))
            for relation, entry in entries.items()
        }
    except OSError as error:
        raise BadInput(f"cannot read the wordings {str(path)!r}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"{str(path)!r} holds no wordings ({type(error).__name__}: {error}); allowed: JSON of "
            '{relation: {"question": "Where was {} born?", "phrasings": ["{} was born in"]}}.'
        ) from error


def from_table(
    path: str | os.PathLike[str], wordings: Mapping[str, Wording] | None = None
) -> Benchmark:
    """A table of facts as a benchmark, ready for `train`.

    The file is CSV, TSV or JSON lines with the columns subject, relation, object and popularity;
    "passage" is optional. Without one, the subject's passage is its definition: every fact in the
    first wording of its relation. A relation without a wording gets plain forms of its name.

    Raises `BadInput` for a missing column, an empty field, a popularity that is no count, or a
    file without rows; the message names file and line.
    """
    wordings = wordings or {}
    rows = [_checked(row, f"{path}, line {line}") for line, row in _rows(Path(path))]
    if not rows:
        raise BadInput(f"{str(path)!r} has no rows; allowed: at least one fact. Check the file.")
    return _benchmark(Path(path).stem, rows, wordings)


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line of the table."""

    subject: str
    relation: str
    object: str
    popularity: float
    passage: str


def _benchmark(name: str, rows: list[TableRow], wordings: Mapping[str, Wording]) -> Benchmark:
    """Facts and questions in the order of the table, passages and definitions by subject."""
    words = {row.relation: wordings.get(row.relation) or Wording.of(row.relation) for row in rows}
    stated: dict[str, list[str]] = {}
    texts: dict[str, list[str]] = {}
    for row in rows:
        phrase = words[row.relation].phrasings[0].replace("{}", row.subject)
        stated.setdefault(row.subject, []).append(f"{phrase} {row.object}.")
        own = texts.setdefault(row.subject, [])
        if row.passage and row.passage not in own:
            own.append(row.passage)
    definitions = {subject: " ".join(parts) for subject, parts in stated.items()}
    passages = {
        subject: [
            Passage(f"{subject}#{number}", text, subject)
            for number, text in enumerate(own or [definitions[subject]], start=1)
        ]
        for subject, own in texts.items()
    }
    facts, questions = [], []
    for number, row in enumerate(rows, start=1):
        wording, ids = words[row.relation], passages[row.subject]
        gold = tuple(passage.id for passage in ids if row.object in passage.text)
        identity = f"{number}/{row.relation}"
        facts.append(
            Fact(
                subject=row.subject,
                prompt=wording.phrasings[0],
                target=row.object,
                relation=row.relation,
                paraphrases=wording.phrasings[1:],
                definition=definitions[row.subject],
                id=identity,
            )
        )
        questions.append(
            Question(
                text=wording.question.replace("{}", row.subject),
                answers=(row.object,),
                subject=row.subject,
                relation=row.relation,
                popularity=row.popularity,
                gold=gold,
                id=identity,
            )
        )
    return Benchmark(
        name=name,
        questions=tuple(questions),
        facts=tuple(facts),
        passages=tuple(passage for group in passages.values() for passage in group),
        definitions=definitions,
    )


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line numbers and rows of a CSV, TSV or JSON-lines file."""
    allowed = (*SEPARATORS, ".jsonl")
    if path.suffix not in allowed:
        raise BadInput(
            f"{str(path)!r} ends in {path.suffix!r}; allowed: {', '.join(allowed)}. "
            "Save the table in one of these formats."
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".jsonl":
                yield from _json_lines(file, path)
            else:
                reader = csv.DictReader(file, delimiter=SEPARATORS[path.suffix])
                yield from ((reader.line_num, row) for row in reader)
    except OSError as error:
        raise BadInput(f"cannot read the facts {str(path)!r}: {error.strerror}.") from error


def _json_lines(lines: Iterable[str], path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line numbers and objects; blank lines are passed over."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadInput(f"{path}, line {number} is no JSON: {error}. Correct it.") from error
        if not isinstance(row, dict):
            raise BadInput(f"{path}, line {number} is {row!r}; allowed: a JSON object.")
        yield number, row


def _checked(row: Mapping[str, Any], where: str) -> TableRow:
    """The row with its fields checked."""
    for column in COLUMNS:
        if str(row.get(column) if row.get(column) is not None else "").strip() == "":
            raise BadInput(
                f"{where}: {column} is {row.get(column)!r}; allowed: a value in each of the "
                f"columns {', '.join(COLUMNS)}. The columns found are {', '.join(map(str, row))}."
            )
    try:
        popularity = float(row["popularity"])
    except (TypeError, ValueError):
        popularity = math.nan
    if not (math.isfinite(popularity) and popularity >= 0):
        raise BadInput(
            f"{where}: popularity is {row['popularity']!r}; allowed: a count of at least 0. "
            "Correct the number, or take the row out."
        )
    return TableRow(
        subject=str(row["subject"]).strip(),
        relation=str(row["relation"]).strip(),
        object=str(row["object"]).strip(),
        popularity=popularity,
        passage=str(row.get("passage") or "").strip(),
    )
