from __future__ import annotations

import json

import pytest

from memkit import BadInput, Fact, Question
from memkit.benchmarks import load, mquake
from memkit.benchmarks.cases import Hop

ROW = {
    "case_id": 6,
    "requested_rewrite": [
        {
            "prompt": "{} was created by",
            "relation_id": "P170",
            "target_new": {"str": "Ann Lee", "id": "Q2"},
            "target_true": {"str": "Bo Ray", "id": "Q3"},
            "subject": "Tetris",
            "question": "Who was Tetris created by?",
        }
    ],
    "questions": ["Where was the creator of Tetris born?", "Which city did Tetris's maker leave?"],
    "answer": "Moscow",
    "answer_alias": ["Moskva"],
    "new_answer": "Lima",
    "new_answer_alias": [],
    "single_hops": [
        {
            "question": "Who was Tetris created by?",
            "cloze": "Tetris was created by",
            "answer": "Bo Ray",
            "answer_alias": ["B. Ray"],
        },
        {
            "question": "Which city was Bo Ray born in?",
            "cloze": "Bo Ray was born in the city of",
            "answer": "Moscow",
            "answer_alias": ["Moskva"],
        },
    ],
    "new_single_hops": [
        {
            "question": "Who was Tetris created by?",
            "cloze": "Tetris was created by",
            "answer": "Ann Lee",
            "answer_alias": [],
        },
        {
            "question": "Which city was Ann Lee born in?",
            "cloze": "Ann Lee was born in the city of",
            "answer": "Lima",
            "answer_alias": [],
        },
    ],
    "orig": {
        "triples": [["Q1", "P170", "Q3"], ["Q3", "P19", "Q9"]],
        "triples_labeled": [["Tetris", "creator", "Bo Ray"], ["Bo Ray", "birthplace", "Moscow"]],
        "new_triples": [["Q1", "P170", "Q2"], ["Q2", "P19", "Q8"]],
        "new_triples_labeled": [
            ["Tetris", "creator", "Ann Lee"],
            ["Ann Lee", "birthplace", "Lima"],
        ],
    },
}


def test_reads_a_case(as_file):
    bench = load("mquake", as_file([ROW]))
    (case,) = bench.cases
    fact = Fact(
        subject="Tetris",
        prompt="{} was created by",
        target="Ann Lee",
        relation="P170",
        previous="Bo Ray",
        id="6/0",
    )
    assert case.facts == bench.facts == (fact,)
    assert case.answers == ("Moscow", "Moskva")
    assert case.new_answers == ("Lima",)
    assert [hop.answers for hop in case.hops] == [("Bo Ray", "B. Ray"), ("Moscow", "Moskva")]
    last = Hop(
        "Ann Lee",
        "Which city was Ann Lee born in?",
        "Ann Lee was born in the city of",
        ("Lima",),
        "P19",
    )
    assert case.new_hops[1] == last
    assert last.asked_of("Cy") == "Which city was Cy born in?"
    assert Hop("Ann", "Where?", "At", ("Lima",)).asked_of("Cy") is None
    assert bench.questions[1] == Question(ROW["questions"][1], answers=("Lima",), id="6/1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"requested_rewrite": []}, "row 1: the multi-hop case '6' has no facts"),
        ({"questions": []}, "row 1: the multi-hop case '6' has no questions"),
        ({"new_answer": ""}, "row 1: new_answer is ''; allowed: text"),
        ({"orig": {}}, "row 1: single_hops has 2 hops, orig has 0 triples and 0 triples_labeled"),
        (
            {"orig": {**ROW["orig"], "new_triples": [["Q1", 3, "Q2"]]}},
            "row 1, orig: new_triples is .* allowed: triples of texts",
        ),
        (
            {"requested_rewrite": [{**ROW["requested_rewrite"][0], "prompt": "It is by"}]},
            "row 1, requested_rewrite: the subject 'Tetris' is not in the prompt",
        ),
    ],
)
def test_refuses_a_broken_row(as_file, changes, message):
    with pytest.raises(BadInput, match=message):
        load("mquake", as_file([{**ROW, **changes}]))


def test_reads_the_examples(tmp_path):
    (tmp_path / "multihop-prompts.txt").write_text("Q: Who? A: Ann\n")
    (tmp_path / "rel-prompts.json").write_text(json.dumps({"P19": "Q: Where? A: Lima\n"}))
    found = mquake.shots(tmp_path)
    assert (found.multihop, found.relations) == ("Q: Who? A: Ann", {"P19": "Q: Where? A: Lima"})
    (tmp_path / "multihop-cot-prompts.txt").write_text("Question: Who?\nThoughts: x\nAnswer: Ann")
    chain = mquake.shots(tmp_path, thoughts=True)
    assert chain.thoughts
    assert chain.multihop.endswith("Answer: Ann")
    (tmp_path / "rel-prompts.json").write_text(json.dumps(["P19"]))
    with pytest.raises(BadInput, match=r"rel-prompts.json' holds no texts by relation"):
        mquake.shots(tmp_path)


def test_reads_the_real_file(shared):
    folder = shared / "data" / "mquake"
    bench = load("mquake", folder / "AKEW" / "MQuAKE-CF.json")
    assert len(bench.cases) == 100
    assert len(bench.questions) == 300
    assert mquake.shots(folder / "prompts", thoughts=True).multihop.count("Thoughts:") == 5
    examples = mquake.shots(folder / "prompts")
    for case in bench.cases:
        assert len(case.hops) == len(case.new_hops) > 1
        assert case.new_hops[-1].answers[0] == case.new_answers[0]
        for before, after in zip(case.new_hops, case.new_hops[1:], strict=False):
            assert after.subject == before.answers[0]
            assert after.asked_of("NOBODY").count("NOBODY") == 1
        assert {fact.relation for fact in case.facts} <= examples.relations.keys()
        texts = {hop.cloze for hop in case.new_hops}
        assert {fact.text for fact in case.facts} <= texts
