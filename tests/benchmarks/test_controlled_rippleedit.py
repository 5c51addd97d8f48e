from __future__ import annotations

import pytest

from memkit import BadInput, Passage, Question
from memkit.benchmarks import load

ROW = {
    "text": "Ann Lee wrote about Napoleon.",
    "questions": ["Where was the person that Ann Lee wrote about born?"],
    "answers": ["Ajaccio"],
    "loc": "nq question: who wrote emma",
    "loc_ans": "Jane Austen",
}


def test_reads_stories_and_questions(as_file):
    bench = load("controlled_rippleedit", as_file([ROW]))
    assert bench.passages == (Passage("1", ROW["text"]),)
    assert bench.questions == (
        Question(ROW["questions"][0], ("Ajaccio",), gold=("1",), id="1/0"),
        Question("who wrote emma", ("Jane Austen",), id="1/loc"),
    )


def test_refuses_more_questions_than_answers(as_file):
    with pytest.raises(BadInput, match="row 1 has 1 questions and 0 answers"):
        load("controlled_rippleedit", as_file([{**ROW, "answers": []}]))


def test_reads_the_real_file(shared):
    bench = load("controlled_rippleedit", shared / "data/controlled_rippleedit/train_4K.json")
    assert len(bench.passages) == 300
    assert sum(question.id.endswith("/loc") for question in bench.questions) == 300
