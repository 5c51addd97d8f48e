"""PopQA: questions on 16 relations with the page views of their subject (Mallen et al., ACL 2023).

arXiv:2212.10511, section 3: 14,267 rows, `s_pop` is the number of views of the subject's English
Wikipedia article in October 2021. MIT, github.com/AlexTMallen/adaptive-retrieval.

Question    text, answers (the row's object first, then all other accepted names), subject,
            relation, popularity
Fact        the same as a prompt that the object completes. PopQA has none: the prompts are ours
Passage     where a file carries some; `Question.gold` are those of the question's own passages
            that hold an answer as whole words, in the file's order

Rows that lack subject and relation get them back from the question's wording, which PopQA made from
one template a relation. A row whose subject cannot be had that way keeps its question, without a
fact. A question that stands twice stays twice, under two ids.
"""

from __future__ import annotations

import os
import re
from collections import Counter

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.context import gold, passage
from memkit.benchmarks.popqa_files import HUB, Row, read
from memkit.errors import BadInput
from memkit.progress import track
from memkit.types import Fact, Passage, Question

__all__ = ["HUB", "RELATIONS", "load"]

# relation: upstream's question, and a prompt with the same meaning that ends before the object
RELATIONS = {
    "occupation": ("What is {}'s occupation?", "{}'s occupation is"),
    "place of birth": ("In what city was {} born?", "{} was born in the city of"),
    "genre": ("What genre is {}?", "The genre of {} is"),
    "father": ("Who is the father of {}?", "The father of {} is"),
    "country": ("In what country is {}?", "{} is in the country of"),
    "producer": ("Who was the producer of {}?", "The producer of {} was"),
    "director": ("Who was the director of {}?", "The director of {} was"),
    "capital of": ("What is {} the capital of?", "{} is the capital of"),
    "screenwriter": ("Who was the screenwriter for {}?", "The screenwriter for {} was"),
    "composer": ("Who was the composer of {}?", "The composer of {} was"),
    "color": ("What color is {}?", "The color of {} is"),
    "religion": ("What is the religion of {}?", "The religion of {} is"),
    "sport": ("What sport does {} play?", "The sport that {} plays is"),
    "author": ("Who is the author of {}?", "The author of {} is"),
    "mother": ("Who is the mother of {}?", "The mother of {} is"),
    "capital": ("What is the capital of {}?", "The capital of {} is"),
}


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """PopQA from a file, whose form is recognised by what is in it, or from the Hub.

    `path`: upstream's TSV, the same rows as JSON or JSON lines, one of the JSON forms that
    `memkit.benchmarks.popqa_files` describes, or the id of a data set on the Hub; None is
    akariasai/PopQA there. `split` None takes all rows of a file and "test" of the Hub.

    Raises `BadInput` for a file that cannot be read or has another form, for a split that it does
    not have, and for a row that lacks its question or whose popularity is no count.
    """
    questions, facts = [], []
    passages: dict[tuple[str | None, str], Passage] = {}
    ids: Counter[str] = Counter()
    rows = read(path, split)[:limit]
    for row in track(rows, "reading PopQA"):
        ids[row.id] += 1
        identity = row.id if ids[row.id] == 1 else f"{row.id}#{ids[row.id]}"
        subject, relation = row.subject, row.relation
        if subject is None:
            subject, relation = _recover(row.question, relation)
        own = [passages.setdefault(pair, passage("popqa", *pair)) for pair in row.paragraphs]
        try:
            question = Question(
                text=row.question,
                answers=row.answers,
                subject=subject,
                relation=relation,
                popularity=row.popularity,
                gold=gold(own, row.answers),
                id=identity,
            )
        except BadInput as error:
            raise BadInput(f"{row.where}: {error}") from error
        questions.append(question)
        fact = _fact(question, row)
        if fact is not None:
            facts.append(fact)
    return Benchmark(
        name="popqa",
        questions=tuple(questions),
        facts=tuple(facts),
        passages=tuple(passages.values()),
    )


def _recover(question: str, relation: str | None) -> tuple[str | None, str | None]:
    """Subject and relation from the wording, or no subject if no template fits."""
    for name, (template, _) in RELATIONS.items():
        before, after = map(re.escape, template.split("{}"))
        match = re.fullmatch(rf"{before}(.*\S.*){after}", question)
        if match and relation in (None, name):
            return match[1].strip(), name
    return None, relation


def _fact(question: Question, row: Row) -> Fact | None:
    """The question's fact, if subject, relation and object are known."""
    target = row.object or next(iter(row.answers), None)
    if question.subject is None or question.relation is None or target is None:
        return None
    _, prompt = RELATIONS.get(question.relation, ("", f"The {question.relation} of {{}} is"))
    return Fact(
        subject=question.subject,
        prompt=prompt,
        target=target,
        relation=question.relation,
        id=question.id,
    )
