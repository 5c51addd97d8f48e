"""UnKEBench and EditEverything: edits whose new answer is a paragraph.

UnKEBench (Deng et al. 2024, arXiv:2405.15349), 1,000 records, github.com/TrustedLLM/UnKE,
data/final_data_v2.json; EditEverything (Jiang et al. 2025, AnyEdit, arXiv:2502.05628), 552 records,
github.com/jianghoucheng/AnyEdit, data/editevery.json. Neither states a licence.

    {id, question, para_question, answer, sub_question [], sub_answer []}
    {id, question, answer, category}

Fact        the question as prompt, and as subject, since no row names one; the paragraph is target
            and definition, `para_question` the paraphrase, the sub-questions are portability
Question    the question with the paragraph as its answer
Passage     the paragraph
"""

from __future__ import annotations

import os

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.edits import gather, parallel
from memkit.benchmarks.records import Record, read
from memkit.types import Fact, Passage, Question

__all__ = ["URL", "load"]

URL = "https://github.com/TrustedLLM/UnKE (data/final_data_v2.json)"


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """UnKEBench or EditEverything from its file. `limit`: first rows.

    Raises `BadInput` as `memkit.benchmarks.load` says, and for a row whose sub-questions are not as
    many as their answers.
    """
    records = read("unke", path, split, url=URL, key="id")[:limit]
    made = gather("unke", records, _convert)
    passages = tuple(Passage(f"unke-{fact.id}", fact.target) for fact in made.facts)
    return Benchmark("unke", made.questions, made.facts, passages)


def _convert(record: Record) -> tuple[Fact | str, Question]:
    question, answer = record.text("question"), record.text("answer")
    told = parallel(record, "sub_question", "sub_answer")
    fact: Fact | str = f"the question {question[:60]!r} has '{{}}' in it, which a prompt fills"
    if "{}" not in question:
        fact = Fact(
            question,
            question,
            answer,
            paraphrases=record.texts("para_question"),
            portability=told,
            definition=answer,
            id=record.id,
        )
    return fact, Question(question, answers=(answer,), id=record.id)
