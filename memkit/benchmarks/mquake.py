"""MQuAKE: multi-hop questions whose answers change with edits (Zhong et al., EMNLP 2023).

arXiv:2305.14795, section 3; MQuAKE-CF 9,218 cases, CF-3k and CF-3k-v2 3,000 each, T 1,825. MIT,
github.com/princeton-nlp/MQuAKE; corrected as henryzhongsc/MQuAKE-Remastered on the Hub (which says
that 33 to 76 % of the original are corrupted). In CF-3k edits of some cases contradict those of
others, so that groups of them cannot be written together: take CF-3k-v2.

    {case_id, requested_rewrite [{prompt "{} ...", subject, target_new {str}, target_true {str},
     relation_id, question}], questions [3], answer, answer_alias, new_answer, new_answer_alias,
     single_hops [{question, cloze, answer, answer_alias}], new_single_hops [...],
     orig {triples, triples_labeled, new_triples, new_triples_labeled}}

MultihopCase  as its fields say; a hop's relation and subject are those of `orig`
Fact          each edit of each case, as often as it comes; target is `target_new`, previous
              `target_true`; its id is the case's with the edit's number ("6/0")
Question      each wording, with `new_answer` and its aliases; its id is the case's with its number
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.cases import Hop, MultihopCase
from memkit.benchmarks.edits import edit
from memkit.benchmarks.records import Record, read, read_text
from memkit.errors import BadInput
from memkit.progress import track
from memkit.types import Fact, Question

__all__ = ["URL", "Shots", "load", "shots"]

URL = "https://github.com/princeton-nlp/MQuAKE"


@dataclass(frozen=True, slots=True)
class Shots:
    """Examples that stand before a question: of multi-hop ones, and of a relation's single hops.

    `thoughts` says that multi-hop questions are answered by a chain of thought, as the examples
    have it: "Question: ...", "Thoughts: ...", "Answer: ...".
    """

    multihop: str = ""
    relations: Mapping[str, str] = field(default_factory=dict)
    thoughts: bool = False


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """MQuAKE from one of its files, or from a Hub id. `limit` takes the first cases.

    Of a Hub id name the `split` ("CF3k"): None takes all of them, whose cases recur.

    Raises `BadInput` as `memkit.benchmarks.load` says, without a path, and for a case that lacks a
    part or whose hops are not as many as its triples.
    """
    records = read("mquake", path, split, url=URL, key="case_id")[:limit]
    cases = tuple(_case(record) for record in track(records, "reading mquake"))
    questions = tuple(
        Question(text, answers=case.new_answers, id=f"{case.id}/{number}")
        for case in cases
        for number, text in enumerate(case.questions)
    )
    facts = tuple(fact for case in cases for fact in case.facts)
    return Benchmark(name="mquake", questions=questions, facts=facts, cases=cases)


def shots(folder: str | os.PathLike[str], *, thoughts: bool = False) -> Shots:
    """The paper's examples, from the folder `prompts` of `URL`; `thoughts`: with chains of thought.

    Raises `BadInput` if multihop-prompts.txt (or multihop-cot-prompts.txt) or rel-prompts.json is
    not there or holds no texts.
    """
    folder = Path(folder)
    name = "multihop-cot-prompts.txt" if thoughts else "multihop-prompts.txt"
    multihop = read_text(folder / name, "MQuAKE's examples")
    path = folder / "rel-prompts.json"
    try:
        found = json.loads(read_text(path, "MQuAKE's examples by relation"))
        relations = {str(name): text.strip() for name, text in found.items()}
    except (ValueError, AttributeError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"{str(path)!r} holds no texts by relation ({error}); allowed: a JSON object of them. "
            "Get the file again."
        ) from error
    return Shots(multihop.strip(), relations, thoughts)


def _case(record: Record) -> MultihopCase:
    rewrites = record.items("requested_rewrite")
    facts = tuple(_fact(rewrite, f"{record.id}/{n}") for n, rewrite in enumerate(rewrites))
    try:
        return MultihopCase(
            facts=facts,
            questions=record.texts("questions"),
            answers=(record.text("answer"), *record.texts("answer_alias")),
            new_answers=(record.text("new_answer"), *record.texts("new_answer_alias")),
            hops=_hops(record, "single_hops", "triples"),
            new_hops=_hops(record, "new_single_hops", "new_triples"),
            id=record.id,
        )
    except BadInput as error:
        if record.where in str(error):
            raise
        raise BadInput(f"{record.where}: {error}") from error


def _fact(record: Record, name: str) -> Fact:
    fact = edit(
        Record(record.where, name, record.fields),
        record.text("subject"),
        record.text("prompt"),
        target=record.inner("target_new").text("str"),
        relation=next(iter(record.texts("relation_id")), None),
        previous=next(iter(record.inner("target_true").texts("str")), None),
    )
    if isinstance(fact, str):
        raise BadInput(
            f"{record.where}: {fact}; allowed: a prompt with '{{}}' or the subject. Correct the "
            "row."
        )
    return fact


def _hops(record: Record, name: str, triples: str) -> tuple[Hop, ...]:
    """The hops of a chain, each with its triple's subject and relation."""
    hops = record.items(name)
    orig = record.inner("orig")
    labels, ids = _triples(orig, f"{triples}_labeled"), _triples(orig, triples)
    if not len(hops) == len(labels) == len(ids):
        raise BadInput(
            f"{record.where}: {name} has {len(hops)} hops, orig has {len(ids)} {triples} and "
            f"{len(labels)} {triples}_labeled; allowed: as many. Correct the row, or take it out."
        )
    return tuple(
        Hop(
            subject=label[0],
            question=hop.text("question"),
            cloze=hop.text("cloze"),
            answers=(hop.text("answer"), *hop.texts("answer_alias")),
            relation=triple[1],
        )
        for hop, label, triple in zip(hops, labels, ids, strict=True)
    )


def _triples(record: Record, name: str) -> list[list[str]]:
    """The triples of a field. Raises `BadInput` if it holds something else."""
    rows: Any = record.fields.get(name) or []
    if not isinstance(rows, list) or not all(
        isinstance(row, list) and len(row) == 3 and all(isinstance(x, str) for x in row)
        for row in rows
    ):
        raise BadInput(
            f"{record.where}: {name} is {str(rows)[:80]!r}; allowed: triples of texts. Correct the "
            "row."
        )
    return rows
