"""zsRE, edited into a question-answering model whose upstream task is Natural Questions.

Forms of the errors, in a file of JSON or JSON lines:

MEND    {input: question, output [{answer}], filtered_rephrases [...]}:
        structured_zeroshot-dev-new_annotated_final.jsonl
KILT    {input, output [{answer}], meta {template_questions [...]}}: facebook/kilt_tasks on the Hub,
        configuration structured_zeroshot, split validation
eval    {subject, src, rephrase, answers, loc "nq question: ...", loc_ans}: zsre_mend_eval.json

and of Natural Questions: {questions [...], answers [...]} (MEND's nq_train.json), or rows
{question, answer}, as google-research-datasets/nq_open on the Hub. Without `upstream` a file of the
last form gives its own NQ questions; for the others it is the Hub.

Every question is kept; one with ten rephrases or more also gives its first ten. Of the first 10,000
pairs of question and answer, in the order of `seed`, one half are the edits, the other the holdout
(official protocol). An edit and a holdout question of one row share an id. A subject that the
question does not name is the question itself: the data of the first two forms have none.
"""

from __future__ import annotations

import os

from memkit.benchmarks.base import Stream
from memkit.benchmarks.records import Record, from_hub, is_hub_id, read, to_records
from memkit.benchmarks.streams.sources import made, shuffled
from memkit.types import Fact, Question

__all__ = ["HUB", "UPSTREAM", "load"]

HUB, UPSTREAM = "facebook/kilt_tasks", "google-research-datasets/nq_open"
REPHRASES = 10  # a question with as many gives them too
PAIRS = 10_000
NQ = "nq question: "

Source = str | os.PathLike[str] | None


def load(
    path: Source, upstream: Source, limit: int | None, upstream_limit: int, seed: int
) -> Stream:
    """The stream, from files or from the Hub (None: `HUB`, `UPSTREAM`)."""
    if path is None or is_hub_id(path):
        rows = from_hub("zsre", str(path or HUB), "validation", name="structured_zeroshot")
        records = to_records(enumerate(rows, start=1), str(path or HUB))
    else:
        records = read("zsre", path, None)
    pairs = [fact for record in records for fact in _facts(record)]
    pairs = shuffled(pairs[:PAIRS], seed)
    middle = (len(pairs) + 1) // 2
    own = upstream is None and all("loc" in record.fields for record in records)
    if own:
        tested = [_nq(record.text("loc"), record.texts("loc_ans"), record.id) for record in records]
    else:
        tested = _upstream(upstream, upstream_limit)
    return made(
        "zsre",
        "f1",
        pairs[:middle][:limit],
        tested[:upstream_limit],
        [Question(fact.text, answers=(fact.target,), id=fact.id) for fact in pairs[middle:]],
    )


def _facts(record: Record) -> list[Fact]:
    """A row's question, and its rephrases if there are enough."""
    if "src" in record.fields:
        question, rephrases, enough = record.text("src"), record.texts("rephrase"), 1
        answer = record.text("answers")
    else:
        question, rephrases = record.text("input"), record.texts("filtered_rephrases")
        enough = REPHRASES
        if "meta" in record.fields:
            question, *others = record.inner("meta").texts("template_questions") or (question,)
            rephrases = tuple(others)
        answer = next(item.text("answer") for item in record.items("output") or [record])
    subject = next(iter(record.texts("subject")), "")
    texts = [question, *(rephrases[:REPHRASES] if len(rephrases) >= enough else ())]
    return [
        Fact(
            subject=subject if subject and subject in text else text,
            prompt=text,
            target=answer,
            id=record.id,
        )
        for text in texts
    ]


def _upstream(path: Source, limit: int) -> list[Question]:
    if path is None or is_hub_id(path):
        source = str(path or UPSTREAM)
        records = to_records(enumerate(from_hub("nq", source, "train"), start=1), source)
    else:
        records = read("nq", path, None)
    if len(records) == 1 and "questions" in records[0].fields:
        (record,) = records
        questions, answers = (list(record.fields[name]) for name in ("questions", "answers"))
        rows = [
            {"question": question, "answer": answer}
            for question, answer in zip(questions, answers, strict=False)
        ]
        records = to_records(enumerate(rows, start=1), record.where)
    return [
        _nq(record.text("question"), record.texts("answer"), record.id)
        for record in records[:limit]
    ]


def _nq(question: str, answers: tuple[str, ...], id: str) -> Question:
    text = question.removeprefix(NQ)
    return Question(text if text.endswith("?") else f"{text}?", answers=answers, id=f"nq-{id}")
