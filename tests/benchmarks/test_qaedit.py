from __future__ import annotations

import pytest

from memkit import BadInput, Fact, Question
from memkit.benchmarks import load

ROW = {
    "id": 664,
    "source": "NQ",
    "prompt": "who wrote the novel erewhon?",
    "target": " Samuel Butler",
    "subject": "erewhon",
    "rephrase": "By whom is Erewhon?",
    "locality": [
        {"loc": "who wrote emma", "loc_ans": "Jane Austen"},
        {"loc": "when was emma published", "loc_ans": "1815"},
    ],
}


def test_reads_facts_and_questions(as_file):
    bench = load("qaedit", as_file([ROW, ROW]))
    assert bench.facts[0] == Fact(
        subject="erewhon",
        prompt="who wrote the novel erewhon?",
        target="Samuel Butler",
        paraphrases=("By whom is Erewhon?",),
        locality=(("who wrote emma", "Jane Austen"), ("when was emma published", "1815")),
        id="664",
    )
    assert bench.questions[0] == Question(
        "who wrote the novel erewhon?", answers=("Samuel Butler",), subject="erewhon", id="664"
    )
    assert [f.id for f in bench.facts] == [q.id for q in bench.questions] == ["664", "664#2"]


def test_refuses_an_empty_target(as_file):
    with pytest.raises(BadInput, match=r"rows.json', row 1: target is ''; allowed: text"):
        load("qaedit", as_file([{**ROW, "target": ""}]))


def test_reads_the_real_file(shared):
    bench = load("qaedit", shared / "data" / "qaedit" / "QAEdit_inter_1k.json")
    assert len(bench.facts) == len(bench.questions) == 300
    assert [f.id for f in bench.facts] == [q.id for q in bench.questions]
    assert len({f.id for f in bench.facts}) == 300
    for fact, question in zip(bench.facts, bench.questions, strict=True):
        assert (fact.text, (fact.target,)) == (question.text, question.answers)
        assert fact.target == fact.target.strip()
        assert len(fact.locality) == 5
