"""DUnE and WikiDYK: edits in free text, by fixtures of their schemas."""

from __future__ import annotations

import json

import pytest

from memkit.benchmarks import load
from memkit.benchmarks.happenings import Choice
from memkit.errors import BadInput

STYLES = (
    "Who resigned?\n\nA. Ada\nB. Bea\nC. Cat",
    "Who resigned?\na) Ada\nb) Bea\nc) Cat",
    "Who resigned? (A) Ada (B) Bea (C) Cat",
)


def dune(path, edits, tests):
    path.write_text(json.dumps({"edits": edits, "test_inputs": tests}), encoding="utf-8")
    return path


@pytest.mark.parametrize("text", STYLES)
def test_options_are_told_apart(tmp_path, text):
    (event,) = load(
        "dune", dune(tmp_path / "new_info.json", ["Bea resigned."], [[[text, "b"]]])
    ).cases
    assert event.choices == (Choice("Who resigned?", ("Ada", "Bea", "Cat"), 1),)
    assert event.text == "Bea resigned."


def test_dune_numbers_some_options(tmp_path):
    text = "In 1. Who resigned (2 of 3)? (1) Ada (2) Bea (3) Cat"
    (event,) = load("dune", dune(tmp_path / "s.json", ["x"], [[text, "2"]])).cases
    (choice,) = event.choices
    assert (choice.options, choice.answer) == (("Ada", "Bea", "Cat"), 1)
    assert choice.text == "In 1. Who resigned (2 of 3)?"


def test_an_earlier_letter_is_no_option(tmp_path):
    text = "Did A. Smith resign, or a) was it a joke?\nA. Yes\nB. No, a joke"
    (event,) = load("dune", dune(tmp_path / "s.json", ["x"], [[text, "B"]])).cases
    assert event.choices[0].options == ("Yes", "No, a joke")
    assert event.choices[0].text.endswith("joke?")


def test_a_sum_answers_its_stories(tmp_path):
    file = dune(tmp_path / "arithmetic.json", ["82 / 2 + 41 = 82"], ["How much?"])
    (event,) = load("dune", file).cases
    assert event.questions[0].answers == ("82",)
    assert load("dune", file).facts[0].definition == "82 / 2 + 41 = 82"
    (event,) = load("dune", file, split="locality").cases
    assert (len(event.questions), len(event.local)) == (0, 1)


def test_questions_without_options_are_counted(tmp_path):
    tests = [[["Who?", "A"], [STYLES[0], "D"], [STYLES[0], "C"]]]
    with pytest.warns(UserWarning, match="2 questions of .*are left out") as caught:
        (event,) = load("dune", dune(tmp_path / "new_info.json", ["x"], tests)).cases
    assert caught[0].filename == __file__
    assert len(event.choices) == 1


@pytest.mark.parametrize(
    ("edits", "tests", "message"),
    [
        (["a", "b"], ["c"], "of equal length"),
        (["a"], ["c"], "row 1: the edit 'a' has nothing after '='"),
        (["a"], [[1, 2]], "row 1: the test input is"),
        ([1], ["c"], "row 1: the edit is 1"),
    ],
)
def test_dune_refuses(tmp_path, edits, tests, message):
    with pytest.raises(BadInput, match=message):
        load("dune", dune(tmp_path / "bad.json", edits, tests))
    with pytest.raises(BadInput, match="split 'test'"):
        load("dune", tmp_path / "bad.json", split="test")


def wikidyk(path, rows):
    path.write_text(json.dumps({"name": "wikidyk", "dev": rows, "test": []}), encoding="utf-8")
    return path


def test_a_did_you_know_is_a_sentence(tmp_path):
    row = {"id": 5, "input": "Who flew?", "output": "Ada", "year": "2022", "fact": "that Ada flew?"}
    found = load("wikidyk", wikidyk(tmp_path / "w.json", [row]))
    (fact,) = found.facts
    assert (fact.text, fact.target, fact.definition) == ("Who flew?", "Ada", "Ada flew.")
    assert found.passages[0].text == "Ada flew."
    with pytest.raises(BadInput, match="test has no rows"):
        load("wikidyk", tmp_path / "w.json", split="test")
    with pytest.raises(BadInput, match=r"bad\.json', dev, row 1 has no 'fact'"):
        load("wikidyk", wikidyk(tmp_path / "bad.json", [{"input": "Who?", "output": "x"}]))
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    with pytest.raises(BadInput, match="cannot be read"):
        load("wikidyk", tmp_path / "list.json")


@pytest.mark.filterwarnings("ignore:.*left out")
def test_the_real_files(shared):
    data = shared / "data"
    found = load("wikidyk", data / "wikidyk" / "wikidyk.json")
    assert len(found.facts) == 300
    assert not any(fact.definition.lower().startswith("that ") for fact in found.facts)
    counts = {"arithmetic": 200, "new_info": 60, "scientific": 200, "scientific_locality": 100}
    for name, count in counts.items():
        events = load("dune", data / "dune" / f"{name}.json").cases
        assert len(events) == count
        asked = sum(bool(event.questions or event.choices) for event in events)
        assert asked >= 0.95 * count
