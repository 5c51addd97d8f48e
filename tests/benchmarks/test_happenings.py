"""Facts in time and events: AToKe, IKE's time editing and ELKEN, by fixtures of their schemas."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import pytest

from memkit import Fact
from memkit.benchmarks import load
from memkit.benchmarks.happenings import Choice, TimedCase, TimedFact, TimedQuestion, Valid
from memkit.errors import BadInput


def forms(text, since, until):
    return {
        "completion": f"Ada {text}",
        "questions": f"Which team, {text}?",
        "paraphrase_completion": f"Of Ada: {text}",
        "time_completion": f"From {since} to {until}, Ada {text}",
        "time_questions": f"Which team, {text}, from {since} to {until}?",
        "paraphrase_time_completion": f"Of Ada from {since} to {until}: {text}",
    }


def rewrite(old, new, was, now):
    return {
        "prompt": "{}'s team is",
        "target_new": {"str": new, "id": "<n>"},
        "target_true": {"str": old, "id": "<o>"},
        "subject": "Ada",
        "relation_id": "<plays>",
        "time_new": {"since": now[0], "until": now[1], "gptj": False},
        "time_true": {"since": was[0], "until": was[1], "gptj": True},
        "evaluation": forms("plays for", *now),
    }


ATOKE = {
    "case_id": 3,
    "requested_rewrite": [
        rewrite("Reds F.C.", "Blues", (1937, 1947), (1947, 1948)),
        rewrite("Blues", "Greens", (1947, 1948), (1948, 1953)),
    ],
    "history_evaluation": [
        forms("played for", 1937, 1947),
        forms("played for", 1947, 1948),
    ],
    "answer": [["Reds F.C."], ["Blues"]],
    "answer_alias": [["The Reds"], []],
    "new_answer": [["Blues"], ["Greens"]],
    "new_answer_alias": [[], ["Green Team"]],
}
QA = {"question": "Who leads?", "answer": {"id": "Q1", "name": "Bea", "alias": ["B."]}, "type": 0}
TREND = {"question": "And trust?", "candidate": "(A) More (B) Less  (C) Same", "answer": "B"}
ELKEN = {
    "event": "Ada resigns.",
    "subject": "Ada",
    "event_type": "Politics",
    "fact": {"qas": [QA], "local_qas": [{**QA, "question": "Who bakes?"}]},
    "tendency": {"qas": [TREND], "local_qas": []},
}


def write(path, rows):
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def test_atoke_is_a_history_with_questions(tmp_path):
    found = load("atoke", write(tmp_path / "AToKe-ME.json", [ATOKE]))
    (case,) = found.cases
    assert [(t.fact.target, t.valid.since, t.valid.until) for t in case.history] == [
        ("Reds F.C.", 1937, 1947),
        ("Blues", 1947, 1948),
        ("Greens", 1948, 1953),
    ]
    assert [fact.target for fact in case.edits] == ["Blues", "Greens"]
    assert found.facts == case.edits
    assert found.passages[0].text == "From 1937 to 1947, Ada played for Reds F.C."
    assert found.passages[2].text == "From 1948 to 1953, Ada plays for Greens."
    scores = [question.score for question in case.questions]
    assert scores == [*["HRS", "HES", "HRS-P", "HES-P"] * 2, "CRS", "CES", "CRS-P", "CES-P"]
    assert case.questions[0].answers == ("Reds F.C.", "The Reds")
    assert case.questions[4].answers == ("Blues",)
    assert case.questions[-1].answers == ("Greens", "Green Team")
    assert [timed.fact.target for timed in case.as_of(1940)] == ["Reds F.C."]
    assert [timed.fact.target for timed in case.as_of(1947)] == ["Reds F.C.", "Blues"]
    assert case.as_of(1990) == ()
    asked = load("atoke", tmp_path / "AToKe-ME.json", split="questions").cases[0].questions
    assert [question.score for question in asked] == ["HRS", "HES", "HRS", "HES", "CRS", "CES"]


@pytest.mark.parametrize("answer", ["Reds F.C.", ["Reds F.C."], [["Reds F.C."]]])
def test_a_single_edit_may_have_flat_names(tmp_path, answer):
    row = {
        **ATOKE,
        "requested_rewrite": ATOKE["requested_rewrite"][:1],
        "history_evaluation": ATOKE["history_evaluation"][:1],
        "answer": answer,
        "answer_alias": ["The Reds", "Red Devils"],
        "new_answer": "Blues",
        "new_answer_alias": [["Blue Team"]],
    }
    (case,) = load("atoke", write(tmp_path / "AToKe-SE.json", [row])).cases
    assert case.questions[0].answers == ("Reds F.C.", "The Reds", "Red Devils")
    assert case.questions[-1].answers == ("Blues", "Blue Team")


def test_an_extended_fact_has_no_history(tmp_path):
    row = {key: value for key, value in ATOKE.items() if key != "history_evaluation"}
    row["requested_rewrite"] = row["requested_rewrite"][:1]
    (case,) = load("atoke", write(tmp_path / "AToKe-EE.json", [row])).cases
    assert case.known == 0
    assert {question.when for question in case.questions} == {"current"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"requested_rewrite": []}, "row 1 has 0 requested_rewrite"),
        ({"history_evaluation": ATOKE["history_evaluation"][:1]}, "1 history_evaluation"),
        (
            {
                "requested_rewrite": [rewrite("a", "b", (1950, 1940), (1950, 1951))],
                "history_evaluation": ATOKE["history_evaluation"][:1],
            },
            "time_true: a fact is valid since 1950 until 1940",
        ),
        (
            {
                "requested_rewrite": [rewrite("a", "b", (1, 2), ("2", 3))],
                "history_evaluation": ATOKE["history_evaluation"][:1],
            },
            "since is '2'; allowed: a year",
        ),
    ],
)
def test_atoke_refuses(tmp_path, change, message):
    with pytest.raises(BadInput, match=message) as found:
        load("atoke", write(tmp_path / "bad.json", [{**ATOKE, **change}]))
    assert "row 1" in str(found.value)


def test_atoke_refuses_another_split(tmp_path):
    with pytest.raises(BadInput, match="split is 'test' for atoke"):
        load("atoke", write(tmp_path / "a.json", [ATOKE]), split="test")


def timed(year, name, query="Ada plays for _X_."):
    return {
        "query": query,
        "answer": [{"wikidata_id": "Q1", "name": name}, {"wikidata_id": "Q2", "name": "Both"}],
        "date": str(year),
        "id": f"Q9_P54_{year}",
        "relation": "P54",
    }


def test_ike_asks_every_year_by_name(tmp_path):
    groups = [[timed(2014, "Blues"), timed(2010, "Reds")], [timed(2011, "Greens")]]
    (case,) = load("ike_time", write(tmp_path / "time.json", groups)).cases
    assert [(q.score, q.text) for q in case.questions] == [
        ("HES", "In 2010, Ada plays for"),
        ("CES", "In 2014, Ada plays for"),
        ("CRS", "Ada plays for"),
    ]
    assert case.questions[0].answers == ("Reds", "Both")
    assert [fact.target for fact in case.edits] == ["Blues"]
    assert case.passages[0].text == "In 2010, Ada plays for Reds."
    assert case.edits[0].subject == "Ada"


def test_ike_without_a_known_wording_has_the_prompt_as_subject(tmp_path):
    rows = [timed(year, "x", "Ada is a fan of _X_.") for year in (2010, 2011)]
    (case,) = load("ike_time", write(tmp_path / "time.json", [rows])).cases
    assert case.edits[0].subject == "Ada is a fan of"


def test_a_timed_fact_is_told_by_its_own_sentence_if_it_has_one():
    fact = Fact("Ada", "Who does {} play for?", "Reds")
    plain = TimedFact(fact, Valid(), "In 2010, who did {} play for?")
    assert plain.told == "In 2010, who did Ada play for? Reds."
    assert replace(plain, sentence="In 2010, Ada was a Red.").told == "In 2010, Ada was a Red."


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([[timed(2010, "a"), timed("soon", "b")]], "group 1, row 2: date is 'soon'"),
        ([[timed(2010, "a", "_X_ plays"), timed(2011, "b")]], "row 1: query is '_X_ plays'"),
        ([timed(2010, "a")], "no list of lists"),
    ],
)
def test_ike_refuses(tmp_path, groups, message):
    with pytest.raises(BadInput, match=message):
        load("ike_time", write(tmp_path / "time.json", groups))


def test_an_event_changes_facts_and_tendencies(tmp_path):
    found = load("elken", write(tmp_path / "valid.json", [ELKEN]))
    (event,) = found.cases
    assert event.questions[0].answers == ("Bea", "B.")
    assert event.local[0].text == "Who bakes?"
    assert event.choices == (Choice("And trust?", ("More", "Less", "Same"), 1),)
    assert found.facts[0].text == "What is new about Ada?"
    assert found.facts[0].target == found.facts[0].definition == "Ada resigns."
    assert found.passages[0].text == "Ada resigns."


def test_a_file_that_breaks_off_is_read_up_to_there(tmp_path):
    whole = json.dumps([ELKEN, {**ELKEN, "event": "Bea resigns."}, ELKEN], indent=1)
    file = tmp_path / "test.json"
    file.write_text(whole[: whole.index("Bea resigns") + 40], encoding="utf-8")
    with pytest.warns(UserWarning, match=r"test\.json.*breaks off in row 2, line \d+") as caught:
        found = load("elken", file)
    assert caught[0].filename == __file__
    assert [event.text for event in found.cases] == ["Ada resigns."]
    file.write_text(whole[:30], encoding="utf-8")
    with pytest.warns(UserWarning, match="row 1"), pytest.raises(BadInput, match="has no rows"):
        load("elken", file)
    file.write_text(whole, encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load("elken", file).cases) == 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**ELKEN, "event": " "}, "row 1: event is ' '"),
        ({**ELKEN, "fact": {"qas": [{"question": "Who?"}]}}, "fact, qas has no answer"),
        (
            {**ELKEN, "tendency": {"qas": [{**TREND, "answer": "D"}]}},
            "answer 'D'; allowed: options",
        ),
        (
            {**ELKEN, "tendency": {"qas": [{**TREND, "candidate": "more or less"}]}},
            "candidate is 'more or less'",
        ),
    ],
)
def test_elken_refuses(tmp_path, row, message):
    with pytest.raises(BadInput, match=message):
        load("elken", write(tmp_path / "bad.json", [row]))


@pytest.mark.parametrize("name", ["atoke", "elken", "ike_time"])
def test_a_file_is_needed(name):
    with pytest.raises(BadInput, match=f"{name} has path None"):
        load(name)


def test_values_are_checked():
    fact = TimedFact(Fact("Ada", "{} is", "x"), Valid(None, 1950), "Until 1950, {} was")
    assert fact.told == "Until 1950, Ada was x."
    assert fact.as_dated.text == "Until 1950, Ada was"
    assert [fact.valid.covers(year) for year in (1, 1950, 1951)] == [True, True, False]
    question = TimedQuestion("What?", ("x",), "current", explicit=False)
    with pytest.raises(BadInput, match="1 facts, 1 of them known"):
        TimedCase((fact,), (question,))
    with pytest.raises(BadInput, match="0 questions"):
        TimedCase((fact,), (), known=0)
    with pytest.raises(BadInput, match="'later'"):
        TimedQuestion("What?", ("x",), "later", explicit=False)
    with pytest.raises(BadInput, match="2 options and 2 is right"):
        Choice("What?", ("a", "b"), 2)


def test_the_real_file(shared):
    found = load("ike_time", shared / "data" / "temporal" / "time_editing.json")
    assert len(found.cases) == 200
    assert sum(len(case.history) for case in found.cases) == 439
    assert all(0 < len(fact.subject) < len(fact.prompt) for fact in found.facts)
    assert all(case.questions[-1].score == "CRS" for case in found.cases)
