"""ConflictEdit and RoundEdit: pairs of edits that disturb each other (Li et al., ICLR 2024).

arXiv:2310.02129, sections 3 and 4. MIT, github.com/zjunlp/PitfallsKnowledgeEditing.

    {reverse_edit,composite_edit}.json  {rule, triples, type, edits [2 x {relation {id, prompt,
                                         query, label}, subject {label}, object {label},
                                         new_object {label}}]}                        ConflictEdit
    {easy,hard}.json                    {type "1-N@P...", edit {relation, subject, object,
                                         new_object}, true_objects [{label}]}            RoundEdit

Fact        ConflictEdit: both edits, "3/0" and "3/1", which cannot both hold; written one after the
            other, the later one should win. RoundEdit: the edit to a wrong object ("3/0") and back
            to the true one ("3/1"); locality are the other true objects, which must survive this.
            target is `new_object`, previous `object`
Question    the edit's question form with its target
"""

from __future__ import annotations

import os

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.records import Record, read
from memkit.errors import BadInput
from memkit.types import Fact, Question

__all__ = ["URL", "load"]

URL = "https://github.com/zjunlp/PitfallsKnowledgeEditing"


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """ConflictEdit or RoundEdit from one of their files. `limit` takes the first rows.

    Raises `BadInput` as `memkit.benchmarks.load` says, without a path, and for a row of neither
    form.
    """
    records = read("pitfalls", path, split, url=URL)[:limit]
    facts, questions = [], []
    for record in records:
        for number, (edit, fact) in enumerate(_round(record) or _conflict(record)):
            facts.append(fact)
            asked = edit.inner("relation").text("query").replace("{}", fact.subject)
            name = f"{record.id}/{number}"
            questions.append(Question(asked, (fact.target,), fact.subject, fact.relation, id=name))
    return Benchmark(name="pitfalls", facts=tuple(facts), questions=tuple(questions))


def _round(record: Record) -> list[tuple[Record, Fact]]:
    """The edit there and back; none for a row of the other form."""
    if "edit" not in record.fields:
        return []
    edit = record.inner("edit")
    old, new = (edit.inner(name).text("label") for name in ("object", "new_object"))
    there = _fact(edit, f"{record.id}/0", new, old)
    others = [row.text("label") for row in record.items("true_objects")]
    kept = tuple((there.text, name) for name in others if name != old)
    return [(edit, there), (edit, _fact(edit, f"{record.id}/1", old, new, kept))]


def _conflict(record: Record) -> list[tuple[Record, Fact]]:
    edits = record.items("edits")
    if not edits:
        found = ", ".join(map(repr, record.fields)) or "none"
        raise BadInput(
            f"{record.where} has neither 'edit' nor 'edits'; its fields are {found}. Allowed: rows "
            "of ConflictEdit or RoundEdit. Check the file."
        )
    made = []
    for number, edit in enumerate(edits):
        old, new = (edit.inner(name).text("label") for name in ("object", "new_object"))
        made.append((edit, _fact(edit, f"{record.id}/{number}", new, old)))
    return made


def _fact(
    edit: Record, name: str, target: str, previous: str, locality: tuple[tuple[str, str], ...] = ()
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
