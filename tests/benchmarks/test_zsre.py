from __future__ import annotations

import pytest

from memkit import BadInput, Fact, Question
from memkit.benchmarks import load


def mends(**fields) -> dict:
    return {
        "subject": "Erewhon",
        "src": "Who wrote Erewhon?",
        "pred": "Charles Dickens",
        "rephrase": "By whom is Erewhon?",
        "alt": " Jane Austen",
        "answers": ["Samuel Butler", "S. Butler", "Samuel Butler"],
        "loc": "nq question: who wrote hudibras",
        "loc_ans": "another Butler",
        "cond": "Charles Dickens >> Jane Austen || Who wrote Erewhon?",
        "portability": {
            "Recalled Relation": "(Jane Austen, wrote, Emma)",
            "New Question": "What else did Erewhon's author write?",
            "New Answer": "Emma",
        },
        **fields,
    }


KNOWEDITS = {
    "subject": "Erewhon",
    "target_new": "Jane Austen",
    "prompt": "Who wrote Erewhon?",
    "ground_truth": ["Samuel Butler"],
    "rephrase_prompt": "By whom is Erewhon?",
    "cond": "Charles Dickens >> Jane Austen || Who wrote Erewhon?",
    "locality": {"Relation_Specificity": [{"prompt": "Erewhon year", "ground_truth": ["1872"]}]},
    "portability": {"Reasoning": [{"prompt": "What else?", "ground_truth": "Emma"}]},
}
COMMON = {"subject": "Erewhon", "prompt": "Who wrote Erewhon?"}


def test_edits_towards_the_true_answer(as_file):
    bench = load("zsre", as_file([mends(), KNOWEDITS]))
    assert bench.name == "zsre"
    assert bench.facts[0] == Fact(
        **COMMON,
        target="Samuel Butler",
        paraphrases=("By whom is Erewhon?",),
        locality=(("nq question: who wrote hudibras", "another Butler"),),
        id="1",
    )
    assert bench.facts[1] == Fact(
        **COMMON,
        target="Samuel Butler",
        paraphrases=("By whom is Erewhon?",),
        locality=(("Erewhon year", "1872"),),
        id="2",
    )
    answers = ("Samuel Butler", "S. Butler")
    assert bench.questions[0] == Question("Who wrote Erewhon?", answers, subject="Erewhon", id="1")
    assert bench.questions[1].answers == ("Samuel Butler",)


def test_edits_towards_the_false_answer(as_file):
    bench = load("zsre-counterfactual", as_file([mends(), KNOWEDITS]))
    assert bench.name == "zsre-counterfactual"
    assert bench.facts[0] == Fact(
        **COMMON,
        target="Jane Austen",
        previous="Samuel Butler",
        paraphrases=("By whom is Erewhon?",),
        locality=(("nq question: who wrote hudibras", "another Butler"),),
        portability=(("What else did Erewhon's author write?", "Emma"),),
        id="1",
    )
    assert bench.facts[1].locality == (("Erewhon year", "1872"),)
    assert bench.facts[1].portability == (("What else?", "Emma"),)
    assert [q.answers for q in bench.questions] == [("Jane Austen",)] * 2


def test_portability_is_optional(as_file):
    row = mends()
    del row["portability"]
    assert load("zsre-counterfactual", as_file([row])).facts[0].portability == ()


def test_a_row_without_a_false_answer_gives_nothing(as_file):
    path = as_file([mends(alt=""), mends()])
    message = r"1 of 2 rows of zsre-counterfactual .*rows.json', row 1: alt is empty\."
    with pytest.warns(UserWarning, match=message):
        bench = load("zsre-counterfactual", path)
    assert [f.id for f in bench.facts] == [q.id for q in bench.questions] == ["2"]
    assert len(load("zsre", path).facts) == 2


@pytest.mark.parametrize("answers", [[], [""], None])
def test_refuses_an_empty_true_answer(as_file, answers):
    path = as_file([mends(), mends(answers=answers)])
    for name in ("zsre", "zsre-counterfactual"):
        with pytest.raises(BadInput, match=r"rows.json', row 2: answers is .*; allowed: text"):
            load(name, path)


@pytest.mark.parametrize("name", ["zsre", "zsre-counterfactual"])
def test_says_where_the_file_is(name):
    message = rf"{name} has path None.*https://rome.baulab.info/.*zsre_mend_eval.json.*'{name}'"
    with pytest.raises(BadInput, match=message):
        load(name)


def test_reads_the_real_file(shared):
    path = shared / "data" / "zsre" / "zsre_mend_eval_portability_gpt4.json"
    true, false = load("zsre", path), load("zsre-counterfactual", path)
    assert len(true.facts) == len(false.facts) == 500
    same = 0
    for one, other, question in zip(true.facts, false.facts, true.questions, strict=True):
        assert (one.text, one.paraphrases) == (other.text, other.paraphrases)
        assert (one.target, one.locality) == (other.previous, other.locality)
        assert question.answers[0] == one.target
        assert len(other.portability) == 1
        assert one.locality[0][0].startswith("nq question: ")
        same += one.target == other.target
    assert same == 14
