"""ConflictEdit and RoundEdit: pairs of edits that disturb each other (Li et al., ICLR 2024).

arXiv:2310.02129, sections 3 and 4. MIT, github.com/zjunlp/PitfallsKnowledgeEditing, data/<model>.

    {coverage,reverse,composite}_edit.json
                    {rule, triples [{relation, subject, object}], prerequisites [place of a triple],
                     type, edits [2 x {relation {id, prompt, query, label}, subject {label},
                     object {label}, new_object {label}}]}                            ConflictEdit
    {easy,hard}.json    {type "1-N@P...", edit {relation, subject, object, new_object},
                     true_objects [{label}]}                                          RoundEdit
    {conflict,round}_prompts.json   {relation id: ["{} studied at", ...]}, other wordings

Fact            ConflictEdit: both edits, "3/0" and "3/1", which cannot both hold; written one after
                the other, the later one should win. RoundEdit: the edit to a wrong object ("3/0")
                and back to the true one ("3/1"); locality are the other true objects, which must
                survive this. target is `new_object`, previous `object`; paraphrases are the
                relation's other wordings, where their file lies beside
Question        the edit's question form with its target
ConflictCase    both edits, what then follows, and of a composite edit the triple that ties them
RoundCase       the edit there and back, and the other true objects
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.records import Record, read, read_text
from memkit.errors import BadInput
from memkit.types import Fact, Question

__all__ = ["URL", "ConflictCase", "Kind", "RoundCase", "load"]

URL = "https://github.com/zjunlp/PitfallsKnowledgeEditing"
Kind = Literal["coverage", "reverse", "composite"]


@dataclass(frozen=True, slots=True)
class ConflictCase:
    """Two edits that contradict each other.

    `implied` is what holds after the second one in place of the first: of a "coverage" the second
    itself; of a "reverse" edit the first with the second's object as subject; of a "composite" edit
    the first with the second's object. `tied` is the fact from which that follows, and which must
    survive.
    """

    kind: Kind
    first: Fact
    second: Fact
    implied: Fact
    tied: Fact | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class RoundCase:
    """An edit to a wrong object, the one back, and the other objects that are right."""

    there: Fact
    back: Fact
    others: tuple[str, ...]
    id: str | None = None


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """ConflictEdit or RoundEdit from one of their files. `limit` takes the first rows.

    Raises `BadInput` as `memkit.benchmarks.load` says, without a path, and for a row of neither
    form.
    """
    records = read("pitfalls", path, split, url=URL)[:limit]
    wordings = {part: _wordings(path, f"{part}_prompts.json") for part in ("conflict", "round")}
    facts, questions, cases = [], [], []
    for record in records:
        rows = _rows(record)
        told = wordings["round" if "edit" in record.fields else "conflict"]
        own = [_worded(_fact(*row), told) for row in rows]
        cases.append(_case(record, own, told))
        for (edit, *_), fact in zip(rows, own, strict=True):
            asked = edit.inner("relation").text("query").replace("{}", fact.subject)
            questions.append(
                Question(asked, (fact.target,), fact.subject, fact.relation, id=fact.id)
            )
        facts += own
    return Benchmark("pitfalls", tuple(questions), tuple(facts), cases=tuple(cases))


def _wordings(path: str | os.PathLike[str] | None, name: str) -> Mapping[str, tuple[str, ...]]:
    """Other wordings by relation, from the file beside; the space at the end of some goes."""
    place = Path(path or "").parent / name
    if not place.is_file():
        return {}
    try:
        rows = json.loads(read_text(place, "other wordings of relations"))
        return {name: tuple(text.rstrip() for text in own) for name, own in rows.items()}
    except (json.JSONDecodeError, AttributeError, TypeError) as error:
        raise BadInput(
            f"{str(place)!r} holds no lists of texts by relation ({error}); allowed: an object of "
            "them. Get the file again."
        ) from error


def _worded(fact: Fact, wordings: Mapping[str, tuple[str, ...]]) -> Fact:
    return replace(fact, paraphrases=wordings.get(fact.relation or "", ()))


Row = tuple[Record, str, str, str, tuple[tuple[str, str], ...]]  # what `_fact` takes


def _rows(record: Record) -> list[Row]:
    """Each edit of a row with its id, new and old object, and what must survive it."""
    if "edit" in record.fields:
        edit = record.inner("edit")
        old, new = (edit.inner(name).text("label") for name in ("object", "new_object"))
        there: Row = (edit, f"{record.id}/0", new, old, ())
        text = _fact(*there).text
        kept = tuple((text, name) for name in _others(record, old))
        return [there, (edit, f"{record.id}/1", old, new, kept)]
    edits = record.items("edits")
    if len(edits) != 2:
        found = ", ".join(map(repr, record.fields)) or "none"
        raise BadInput(
            f"{record.where} has neither 'edit' nor 'edits' with two; its fields are {found}. "
            "Allowed: rows of ConflictEdit or RoundEdit. Check the file."
        )
    made: list[Row] = []
    for number, edit in enumerate(edits):
        old, new = (edit.inner(name).text("label") for name in ("object", "new_object"))
        made.append((edit, f"{record.id}/{number}", new, old, ()))
    return made


def _others(record: Record, own: str) -> tuple[str, ...]:
    labels = [row.text("label") for row in record.items("true_objects")]
    return tuple(dict.fromkeys(name for name in labels if name != own))


def _case(
    record: Record, facts: list[Fact], wordings: Mapping[str, tuple[str, ...]]
) -> ConflictCase | RoundCase:
    first, second = facts
    if "edit" in record.fields:
        return RoundCase(first, second, _others(record, second.target), record.id)
    kind = record.text("type")
    if kind not in get_args(Kind):
        raise BadInput(
            f"{record.where}: type is {kind!r}; allowed: {', '.join(get_args(Kind))}. Correct the "
            "row."
        )
    implied = {
        "coverage": second,
        "reverse": replace(first, subject=second.target, previous=None),
        "composite": replace(first, target=second.target, previous=first.target),
    }[kind]
    tied = _tied(record, wordings) if kind == "composite" else None
    return ConflictCase(kind, first, second, implied, tied, record.id)  # type: ignore[arg-type]


def _tied(record: Record, wordings: Mapping[str, tuple[str, ...]]) -> Fact:
    """The triple that ties two edits: the one that `prerequisites` names, else the first."""
    triples = record.items("triples")
    places = record.fields.get("prerequisites") or [0]
    place = places[0] if isinstance(places, list) else None
    if not isinstance(place, int) or not 0 <= place < len(triples):
        raise BadInput(
            f"{record.where} has {len(triples)} triples, and prerequisites is {places!r}; allowed: "
            "the place of one of them. Correct the row, or take it out."
        )
    label = triples[place].inner("object").text("label")
    return _worded(_fact(triples[place], f"{record.id}/tied", label, None), wordings)


def _fact(
    edit: Record,
    name: str,
    target: str,
    previous: str | None,
    locality: tuple[tuple[str, str], ...] = (),
) -> Fact:
    relation = edit.inner("relation")
    try:
        return Fact(
            subject=edit.inner("subject").text("label"),
            prompt=relation.text("prompt"),
            target=target,
            relation=relation.text("id"),
            previous=previous,
            locality=locality,
            id=name,
        )
    except BadInput as error:
        if edit.where in str(error):
            raise
        raise BadInput(f"{edit.where}: {error}") from error
