"""UnKEBench, EditEverything and AKEW: passages as facts, by fixtures of their schemas."""

from __future__ import annotations

import json

import pytest

from memkit.benchmarks import load
from memkit.errors import BadInput

UNKE = {
    "id": 7,
    "question": "What does Ada do?",
    "para_question": "What is Ada's work?",
    "answer": "Ada has been a baker for years. She bakes in Lima.",
    "sub_question": ["Where does Ada bake?"],
    "sub_answer": ["In Lima."],
}
REWRITE = {
    "prompt": "{} was created by",
    "relation_id": "P170",
    "target_new": {"str": "Ada", "id": "Q1"},
    "target_true": {"str": "Bea", "id": "Q2"},
    "subject": "Tetra",
    "question": "Who was Tetra created by?",
    "fact_new": "Tetra was created by Ada.",
    "fact_new_uns": "Ada, a baker, made the game Tetra in 1984.",
    "verify_unsfact_GPT": True,
    "unsfact_triplets_GPT": [
        {"subject": "Tetra", "prompt": "{} was released in", "target": "1984"},
        {"subject": "Tetra", "prompt": "", "target": "nothing"},
    ],
}


def write(path, rows):
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def test_a_paragraph_is_target_and_definition(tmp_path):
    found = load("unke", write(tmp_path / "final_data_v2.json", [UNKE]))
    (fact,) = found.facts
    assert fact.text == UNKE["question"]
    assert fact.target == fact.definition == UNKE["answer"]
    assert fact.paraphrases == ("What is Ada's work?",)
    assert fact.portability == (("Where does Ada bake?", "In Lima."),)
    assert (fact.id, found.questions[0].id) == ("7", "7")
    assert found.passages[0].text == UNKE["answer"]


def test_edit_everything_has_no_other_questions(tmp_path):
    row = {"id": 1, "question": "Add 1 to 1.", "answer": "It is 2.", "category": "math"}
    odd = {**row, "id": 2, "question": "What does {} mean?"}
    with pytest.warns(UserWarning, match=r"1 of 2 rows of unke give no fact.*row 2"):
        found = load("unke", write(tmp_path / "editevery.json", [row, odd]))
    assert found.facts[0].paraphrases == found.facts[0].portability == ()
    assert len(found.questions) == 2


def test_unke_refuses(tmp_path):
    uneven = {**UNKE, "sub_answer": []}
    with pytest.raises(BadInput, match=r"uneven\.json.*row 2 has 1 sub_question and 0 sub_answer"):
        load("unke", write(tmp_path / "uneven.json", [UNKE, uneven]))
    bare = {key: value for key, value in UNKE.items() if key != "answer"}
    with pytest.raises(BadInput, match=r"bare\.json.*row 1 has no 'answer'"):
        load("unke", write(tmp_path / "bare.json", [bare]))
    with pytest.raises(BadInput, match="unke has path None"):
        load("unke")


@pytest.mark.parametrize("rewrites", [[REWRITE], REWRITE], ids=["MQuAKE", "CounterFact"])
def test_akew_tells_a_short_fact_by_a_passage(tmp_path, rewrites):
    file = write(tmp_path / "akew.json", [{"case_id": 6, "requested_rewrite": rewrites}])
    found = load("akew", file)
    (fact,) = found.facts
    assert fact.text == "Who was Tetra created by?"
    assert (fact.target, fact.previous, fact.relation) == ("Ada", "Bea", "P170")
    assert fact.definition == found.passages[0].text == REWRITE["fact_new_uns"]
    assert fact.paraphrases == ("{} was created by",)
    assert fact.portability == (("Tetra was released in", "1984"),)
    assert fact.id == found.questions[0].id == "6/0"


def test_akew_takes_the_cloze_where_no_question_names_the_subject(tmp_path):
    rows = [{"case_id": 6, "requested_rewrite": {**REWRITE, "question": "Who made it?"}}]
    (fact,) = load("akew", write(tmp_path / "akew.json", rows)).facts
    assert fact.text == "Tetra was created by"
    assert fact.paraphrases == ()


def test_akew_refuses_a_rewrite_without_a_passage(tmp_path):
    bare = {key: value for key, value in REWRITE.items() if key != "fact_new_uns"}
    file = write(tmp_path / "mquake.json", [{"case_id": 6, "requested_rewrite": [bare]}])
    with pytest.raises(BadInput, match=r"row 1, requested_rewrite has no 'fact_new_uns'"):
        load("akew", file)


def test_the_real_files(shared):
    data = shared / "data"
    unke = load("unke", data / "unke" / "final_data_v2.json")
    assert len(unke.facts) == 200
    assert all(fact.paraphrases and fact.portability for fact in unke.facts)
    assert len(load("unke", data / "unke" / "editevery.json").facts) == 120
    akew = load("akew", data / "mquake" / "AKEW" / "MQuAKE-CF.json")
    assert len(akew.facts) == len({fact.id for fact in akew.facts}) == 126
    assert all(fact.definition for fact in akew.facts)
