"""EntityQuestions: simple questions on entities, by Wikidata relation (Sciavolino et al., 2021).

arXiv:2109.08535 (EMNLP 2021). 24 relations, train 176,560 / dev 22,068 / test 22,075 questions.
MIT, github.com/princeton-nlp/EntityQuestions.

    <folder>/P19.test.json, or <folder>/test/P19.test.json    [{question, answers[]}]

Question    relation is the Wikidata property; the subject is recovered from the wording, which
            upstream made from one template a relation. There is no popularity: Mallen et al. look
            page views up for the subjects that name one entity (a `PopularityTable` does that)

Upstream's own figure is whether some of the top k passages holds an answer, macro-averaged over
relations; Mallen et al. answer the questions, with 15 shots, as PopQA's.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.records import Record, read
from memkit.errors import BadInput
from memkit.types import Question

__all__ = ["TEMPLATES", "URL", "load"]

URL = "https://nlp.cs.princeton.edu/projects/entity-questions/dataset.zip"
FILE = re.compile(r"(P\d+)\.(\w+)\.json")

# upstream's relation_query_templates.json; those of P30 and of other wordings have no questions
TEMPLATES = {
    "P17": "Which country is {} located in?",
    "P19": "Where was {} born?",
    "P20": "Where did {} die?",
    "P26": "Who is {} married to?",
    "P36": "What is the capital of {}?",
    "P40": "Who is {}'s child?",
    "P50": "Who is the author of {}?",
    "P69": "Where was {} educated?",
    "P106": "What kind of work does {} do?",
    "P112": "Who founded {}?",
    "P127": "Who owns {}?",
    "P131": "Where is {} located?",
    "P136": "What type of music does {} play?",
    "P159": "Where is the headquarter of {}?",
    "P170": "Who was {} created by?",
    "P175": "Who performed {}?",
    "P176": "Which company is {} produced by?",
    "P264": "What music label is {} represented by?",
    "P276": "Where is {} located?",
    "P407": "Which language was {} written in?",
    "P413": "What position does {} play?",
    "P495": "Which country was {} created in?",
    "P740": "Where was {} founded?",
    "P800": "What is {} famous for?",
}


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """EntityQuestions from the unpacked folder (`URL`), or from one file of it.

    `split` None is "test", or the only one that the folder has. `limit` takes so many questions,
    from the relations in turn, so that all are among them.

    Raises `BadInput` for a path that is not given or holds no such file, for a split that is not
    there, and for a row without question or answers.
    """
    if path is None:
        raise BadInput(
            "entity_questions has path None; allowed: the unpacked data set. Download "
            f"{URL} and name its folder: load('entity_questions', path=...)."
        )
    files = _files(Path(path), split)
    by_file = [
        [_question(record, *_parts(file)) for record in read("entity_questions", file, None)]
        for file in files
    ]
    questions = [question for own in by_file for question in own]
    if limit is not None:
        longest = max(map(len, by_file))
        turns = (own[turn] for turn in range(longest) for own in by_file if turn < len(own))
        chosen = {question.id for question, _ in zip(turns, range(limit), strict=False)}
        questions = [question for question in questions if question.id in chosen]
    return Benchmark(name="entity_questions", questions=tuple(questions))


def _files(path: Path, split: str | None) -> list[Path]:
    """The files of a split, in order of the relations' numbers."""
    found = [path] if path.is_file() else sorted(path.glob("**/P*.*.json"))
    found = [file for file in found if FILE.fullmatch(file.name)]
    splits = sorted({_parts(file)[1] for file in found})
    if not found:
        raise BadInput(
            f"{str(path)!r} holds no file such as P19.test.json; allowed: the unpacked data set of "
            "EntityQuestions, a split's folder, or one of its files. Check the path."
        )
    if split is None:
        split = splits[0] if len(splits) == 1 else "test"
    if split not in splits:
        raise BadInput(
            f"{str(path)!r} has no split {split!r}; allowed: {', '.join(map(repr, splits))}."
        )
    chosen = [file for file in found if _parts(file)[1] == split]
    return sorted(chosen, key=lambda file: int(_parts(file)[0][1:]))


def _parts(file: Path) -> tuple[str, str]:
    """Relation and split of a file."""
    match = FILE.fullmatch(file.name)
    assert match is not None
    return match[1], match[2]


def _question(record: Record, relation: str, split: str) -> Question:
    text, answers = record.text("question"), record.texts("answers")
    if not answers:
        raise BadInput(
            f"{record.where} has no answers; allowed: at least one. Correct the row, or take it "
            "out."
        )
    subject = None
    if relation in TEMPLATES:
        before, after = map(re.escape, TEMPLATES[relation].split("{}"))
        match = re.fullmatch(f"{before}(.*\\S.*){after}", text)
        subject = match[1].strip() if match else None
    return Question(
        text,
        answers=answers,
        subject=subject,
        relation=relation,
        id=f"{relation}-{split}-{record.id}",
    )
