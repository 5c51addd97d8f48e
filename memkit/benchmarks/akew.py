"""AKEW: the edits of MQuAKE and CounterFact, each told by a passage (Wu et al., EMNLP 2024).

arXiv:2402.18909; licence unknown, github.com/bobxwu/AKEW. The upstream rows of MQuAKE and
CounterFact (a list of rewrites, or one), where each rewrite has more:

    {prompt "{} ...", subject, question, target_new {str}, target_true {str}, relation_id,
     fact_new, fact_new_uns, unsfact_triplets_GPT [{subject, prompt "{} ...", target}]}

Fact        definition is the passage `fact_new_uns`, the prompt the question and the cloze its
            paraphrase (the cloze is the prompt, where no question names the subject); target is the
            short `target_new`; portability is what else the passage says (the triplets). Its id is
            the case's with the rewrite's number
Question    the question, with `target_new`
Passage     `fact_new_uns`

A passage that GPT could not verify (`verify_unsfact_GPT` false) is kept, as upstream does.
"""

from __future__ import annotations

import os

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.edits import edit, gather
from memkit.benchmarks.records import Record, read
from memkit.types import Fact, Passage, Question

__all__ = ["URL", "load"]

URL = "https://github.com/bobxwu/AKEW"


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """AKEW from one of its files. `limit`: first rows; one of MQuAKE's has several facts.

    Raises `BadInput` as `memkit.benchmarks.load` says, and for a rewrite without a passage.
    """
    rows = read("akew", path, split, url=URL, key="case_id")[:limit]
    made = gather("akew", [rewrite for row in rows for rewrite in _rewrites(row)], _convert)
    passages = tuple(
        Passage(f"akew-{fact.id}", fact.definition) for fact in made.facts if fact.definition
    )
    return Benchmark("akew", made.questions, made.facts, passages)


def _rewrites(row: Record) -> list[Record]:
    """The rewrites of a row, each with an id of its own."""
    one = isinstance(row.fields.get("requested_rewrite"), dict)
    found = [row.inner("requested_rewrite")] if one else row.items("requested_rewrite")
    return [Record(each.where, f"{row.id}/{n}", each.fields) for n, each in enumerate(found)]


def _convert(record: Record) -> tuple[Fact | str, Question | None]:
    subject, cloze = record.text("subject"), record.text("prompt")
    passage, target = record.text("fact_new_uns"), record.inner("target_new").text("str")
    asked = next(iter(record.texts("question")), None)
    triplets = record.items("unsfact_triplets_GPT")
    told = ((_filled(each), each.texts("target")) for each in triplets)
    fields = {
        "target": target,
        "relation": next(iter(record.texts("relation_id")), None),
        "previous": next(iter(record.inner("target_true").texts("str")), None),
        "portability": tuple((prompt, said[0]) for prompt, said in told if prompt and said),
        "definition": passage,
    }
    fact: Fact | str = ""
    if asked is not None and "{}" not in asked:
        fact = edit(record, subject, asked, paraphrases=(cloze,), **fields)
    if not isinstance(fact, Fact):
        fact = edit(record, subject, cloze, **fields)
    text = asked or (fact.text if isinstance(fact, Fact) else cloze)
    return fact, Question(text, answers=(target,), subject=subject, id=record.id)


def _filled(triplet: Record) -> str | None:
    """The cloze of a triplet with its subject; None where it has none."""
    subject, prompt = triplet.texts("subject"), triplet.texts("prompt")
    return prompt[0].replace("{}", subject[0]) if subject and prompt else None
