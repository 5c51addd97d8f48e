"""Corpora that follow the edits: the facts are said in the text, as the twin of an edit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from memkit.compare.rows import Rows
from memkit.errors import BadInput
from memkit.types import Fact, Passage

__all__ = ["current", "following"]


def current(rows: Rows, facts: Sequence[Fact]) -> Rows:
    """The rows with a corpus, and definitions, in which the facts are said.

    Where a gold passage of the fact's question names the old object it names the new one; a fact
    without such a passage gets one of its own, its statement. So with its definition.
    """
    bench = rows.benchmark
    gold = {question.id: question.gold for question in bench.questions}
    passages = {passage.id: passage for passage in bench.passages}
    definitions = dict(bench.definitions)
    for number, fact in enumerate(facts):
        said = False
        for id in gold.get(fact.id, ()):
            old = passages.get(id)
            if old is not None and fact.previous and fact.previous in old.text:
                passages[id] = replace(old, text=old.text.replace(fact.previous, fact.target))
                said = True
        statement = f"{fact.text} {fact.target}."
        if not said:
            name = f"edit/{fact.id or number}"
            passages[name] = Passage(name, statement, fact.subject)
        known = definitions.get(fact.subject, "")
        if fact.previous and fact.previous in known:
            definitions[fact.subject] = known.replace(fact.previous, fact.target)
        elif definitions:
            definitions[fact.subject] = f"{known} {statement}".strip()
    changed = replace(bench, passages=tuple(passages.values()), definitions=definitions)
    return replace(rows, benchmark=changed)


@contextlib.contextmanager
def following(index: Any, before: Rows, after: Rows) -> Iterator[None]:
    """An index with what changed between two corpora, within the block."""
    old = {passage.id: passage for passage in before.benchmark.passages}
    new = {passage.id: passage for passage in after.benchmark.passages}
    changed = [passage for id, passage in new.items() if id in old and old[id] != passage]
    added = [passage for id, passage in new.items() if id not in old]
    if not hasattr(index, "replace"):
        raise BadInput(
            f"the corpus of {index!r} cannot follow the edits; allowed: an index that memkit "
            'builds here. Leave corpus = "current" out.'
        )
    try:
        if changed:
            index.replace(changed)
        if added:
            index.add(added)
        yield
    finally:
        if changed:
            index.replace([old[passage.id] for passage in changed])
        if added:
            index.remove([passage.id for passage in added])
