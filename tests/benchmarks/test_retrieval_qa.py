"""Rows of upstream's schema; the developers' folder has no records of this data set."""

from __future__ import annotations

import json

import pytest

from memkit import BadInput
from memkit.benchmarks import load

ROWS = [
    {
        "data_source": "popqa",
        "question_id": "popqa_1",
        "question": "Who wrote Erewhon?",
        "ground_truth": ["Samuel Butler", "Butler"],
        "context": [
            {"title": "Erewhon", "text": "A novel by Samuel Butler."},
            {"title": "Utopia", "text": "A book by Thomas More."},
        ],
    },
    {
        "data_source": "freshqa",
        "question_id": "fresh_2",
        "question": "Who wrote Utopia?",
        "ground_truth": ["Thomas More"],
        "context": [
            {"title": "Utopia", "text": "A book by Thomas More."},
            {"title": "", "text": ""},
        ],
    },
    {
        "data_source": "freshqa",
        "question_id": "fresh_3",
        "question": "Who?",
        "ground_truth": ["me"],
        "context": [],
    },
]


def test_questions_and_passages(as_file):
    bench = load("retrieval_qa", as_file(ROWS))
    assert [q.id for q in bench.questions] == ["popqa_1", "fresh_2", "fresh_3"]
    assert [q.relation for q in bench.questions] == ["popqa", "freshqa", "freshqa"]
    assert bench.questions[0].answers == ("Samuel Butler", "Butler")
    erewhon, utopia = bench.passages  # one that two questions share is one
    assert (erewhon.title, utopia.text) == ("Erewhon", "A book by Thomas More.")
    assert [q.gold for q in bench.questions] == [(erewhon.id,), (utopia.id,), ()]
    assert len(load("retrieval_qa", as_file(ROWS), limit=1).passages) == 2


def test_a_context_of_strings(as_file):
    """Texts as ToolQA's part has them, and objects in strings as the Hub has them."""
    context = [json.dumps(ROWS[0]["context"][0]), "Butler wrote {it}.", '{"title": "x"}', "", "12"]
    bench = load("retrieval_qa", as_file([{**ROWS[0], "context": context}]))
    found = [(passage.title, passage.text) for passage in bench.passages]
    assert found[:2] == [("Erewhon", "A novel by Samuel Butler."), (None, "Butler wrote {it}.")]
    assert found[2:] == [(None, '{"title": "x"}'), (None, "12")]
    assert bench.questions[0].gold == tuple(passage.id for passage in bench.passages[:2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ground_truth": []}, "row 1 has no answers in 'ground_truth'"),
        ({"context": "text"}, "context is 'text'; allowed: a list of objects"),
        ({"question": ""}, "question is ''"),
    ],
)
def test_refuses(as_file, change, message):
    with pytest.raises(BadInput, match=message):
        load("retrieval_qa", as_file([{**ROWS[0], **change}]))
