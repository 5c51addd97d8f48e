"""The forms in which PopQA is found, each brought to the same rows.

TSV             upstream's 17 columns: id subj prop obj ... s_pop o_pop question possible_answers;
                the last is a JSON list in a string. The same as JSON list or JSON lines, and with
                `paragraphs` [{title, text}] in KennyCaty/NeuroPath.
golden_answers  JSON lines {id, question, golden_answers, metadata: {subj, prop, obj, s_pop, ...}}:
                FlashRAG, GaurisankarJ/reason_over_search
input, output   JSON {name, dev: [{input, output, id, s_pop}], test: [...]}, `output` a JSON list in
                a string: BunsenFeng/model_collaboration
by id           JSON {id: {question, possible_answers, contriever_passage, s_pop}}:
                tLabruna/Adapt-LLM
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memkit.benchmarks.records import from_hub, is_hub_id, json_lines, read_text
from memkit.errors import BadInput

__all__ = ["HUB", "Row", "read"]

HUB = "akariasai/PopQA"
ALLOWED = (
    "upstream's TSV, its rows as JSON or JSON lines, rows with golden_answers, dev and test with "
    "input and output, or an object of questions by id"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One question in the terms that all forms share; `where` it stands, for messages."""

    where: str
    id: str
    question: str
    answers: tuple[str, ...]
    popularity: float | None
    subject: str | None = None
    relation: str | None = None
    object: str | None = None
    paragraphs: tuple[tuple[str | None, str], ...] = ()


def read(path: str | os.PathLike[str] | None, split: str | None) -> list[Row]:
    """The rows of a file, or of a data set on the Hub (None: akariasai/PopQA).

    Raises `BadInput` as `memkit.benchmarks.popqa.load` says.
    """
    if path is None or is_hub_id(path):
        name = str(path or HUB)
        return _rows(name, enumerate(from_hub("popqa", name, split or "test"), start=1))
    name = repr(str(path))
    splits = _parse(name, read_text(path, f"PopQA ({ALLOWED})"))
    if split is None:
        return [row for rows in splits.values() for row in rows]
    if split not in splits:
        raise BadInput(
            f"{name} has no split {split!r}; allowed: "
            f"{', '.join(map(repr, splits))}, or None for all."
        )
    return splits[split]


def _parse(name: str, text: str) -> dict[str, list[Row]]:
    """The rows of each split; "test" where the form has none, as upstream."""
    header = text.split("\n", 1)[0].strip("\r").split("\t")
    if "question" in header and "possible_answers" in header:
        return {"test": _rows(name, _table(text, name))}
    try:
        data: Any = json.loads(text)
    except ValueError:
        return {"test": _rows(name, json_lines(text, name, ALLOWED))}
    if isinstance(data, list):
        return {"test": _rows(name, enumerate(data, start=1))}
    if isinstance(data, dict) and isinstance(data.get("test"), list):
        parts = {key: value for key, value in data.items() if isinstance(value, list)}
        return {key: _rows(f"{name}, {key}", enumerate(v, start=1)) for key, v in parts.items()}
    if isinstance(data, dict) and "question" in data:  # a single line of JSON lines
        return {"test": _rows(name, [(1, data)])}
    if isinstance(data, dict) and all(isinstance(value, dict) for value in data.values()):
        by_id = enumerate(({"id": key, **value} for key, value in data.items()), start=1)
        return {"test": _rows(name, by_id)}
    raise _unknown(name, data)


def _table(text: str, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Row numbers and rows of a TSV, quoted as pandas does it."""
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t")
    for number, row in enumerate(reader, start=1):
        columns = len(reader.fieldnames or ())
        found = sum(v is not None for k, v in row.items() if k) + len(row.get(None) or ())
        if found != columns:
            raise BadInput(
                f"{name}, row {number} has {found} columns; allowed: {columns}, as many as the "
                "header. Check the file for a line that is cut off."
            )
        yield number, row


def _rows(name: str, numbered: Iterable[tuple[int, Any]]) -> list[Row]:
    rows = [_row(entry, f"{name}, row {number}", number) for number, entry in numbered]
    if not rows:
        raise BadInput(f"{name} has no rows; allowed: at least one question. Check the file.")
    return rows


def _row(entry: Any, where: str, number: int) -> Row:
    """One row of any form; what makes the form is which fields there are."""
    if not isinstance(entry, Mapping):
        raise _unknown(where, entry)
    metadata = entry.get("metadata")
    fields = {**entry, **(metadata if isinstance(metadata, Mapping) else {})}
    question = fields.get("question", fields.get("input"))
    answers = next(
        (fields[key] for key in ("possible_answers", "golden_answers", "output") if key in fields),
        None,
    )
    if not isinstance(question, str) or answers is None:
        raise _unknown(where, entry)
    target = _name(fields.get("obj"))
    passage = fields.get("contriever_passage")
    paragraphs = fields.get("paragraphs") or ([{"text": passage}] if passage else [])
    return Row(
        where=where,
        id=str(entry.get("id", number)),
        question=question,
        answers=_first(target, _answers(answers, where)),
        popularity=_popularity(fields.get("s_pop"), where),
        subject=_name(fields.get("subj")),
        relation=_name(fields.get("prop")),
        object=target,
        paragraphs=tuple(_paragraphs(paragraphs, where)),
    )


def _name(value: Any) -> str | None:
    """A name as text ("1984" is a novel), None where there is none."""
    return None if value is None or not str(value).strip() else str(value)


def _answers(value: Any, where: str) -> tuple[str, ...]:
    """A list, or a list in a string; empty names are left out."""
    try:
        names = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        names = None
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise BadInput(
            f"{where}: the answers are {value!r}; allowed: a list of names, as JSON where it is in "
            "a string. Correct the row."
        )
    return tuple(name for name in names if name.strip())


def _first(target: str | None, answers: tuple[str, ...]) -> tuple[str, ...]:
    """The answers with the row's object first, which it is not in 6 of 100 rows of PopQA."""
    return tuple(sorted(answers, key=lambda answer: answer != target))


def _popularity(value: Any, where: str) -> float | None:
    """The page views, None where they are not given."""
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise BadInput(
            f"{where}: s_pop is {value!r}; allowed: a count of at least 0, or nothing where it is "
            "unknown. Correct the row."
        ) from None


def _paragraphs(values: Any, where: str) -> Iterator[tuple[str | None, str]]:
    """Title (None: it has none) and text of each."""
    for value in values:
        if not isinstance(value, Mapping) or not isinstance(value.get("text"), str):
            raise BadInput(
                f"{where}: a paragraph is {str(value)[:80]!r}; allowed: an object with title and "
                "text. Correct the row."
            )
        if value["text"].strip():
            yield value.get("title") or None, value["text"]


def _unknown(where: str, found: Any) -> BadInput:
    """What was found instead of PopQA."""
    if isinstance(found, Mapping):
        what = f"an object with {', '.join(map(repr, list(found)[:8])) or 'nothing in it'}"
    else:
        what = f"{type(found).__name__} {str(found)[:60]!r}"
    return BadInput(f"{where} is {what}; allowed: {ALLOWED}. Check that the file is PopQA.")
