from __future__ import annotations

import pytest

from memkit import BadInput
from memkit.benchmarks import load


def label(text):
    return {"id": "Q1", "label": text}


RELATION = {"id": "P69", "prompt": "{} was educated at", "query": "Where did {} study?"}
EDIT = {
    "relation": RELATION,
    "subject": label("Ann Lee"),
    "object": label("Oslo High"),
    "new_object": label("Lima High"),
}
ROUND = {"type": "1-2@P69", "edit": EDIT, "true_objects": [label("Oslo High"), label("Bergen U")]}
BACK = {**EDIT, "object": label("Lima High"), "new_object": label("Rome High")}
CONFLICT = {"rule": "P22>P40", "triples": [], "type": "reverse", "edits": [EDIT, BACK]}


def test_an_edit_there_and_back(as_file):
    bench = load("pitfalls", as_file([ROUND]))
    there, back = bench.facts
    assert (there.text, there.target, there.previous) == (
        "Ann Lee was educated at",
        "Lima High",
        "Oslo High",
    )
    assert (back.target, back.previous) == ("Oslo High", "Lima High")
    assert back.locality == (("Ann Lee was educated at", "Bergen U"),)
    assert [fact.id for fact in bench.facts] == [q.id for q in bench.questions] == ["1/0", "1/1"]
    assert bench.questions[1].text == "Where did Ann Lee study?"
    assert bench.questions[1].answers == ("Oslo High",)


def test_two_edits_that_contradict_each_other(as_file):
    first, second = load("pitfalls", as_file([CONFLICT])).facts
    assert (first.target, second.target) == ("Lima High", "Rome High")
    assert first.text == second.text


def triple(subject, object_, relation=RELATION):
    return {"relation": relation, "subject": label(subject), "object": label(object_)}


def conflict(kind, second, **more):
    return {"type": kind, "edits": [EDIT, second], **more}


def test_what_follows_from_two_edits(as_file):
    father = {"id": "P22", "prompt": "The father of {} is", "query": "Who is the father of {}?"}
    child = {**EDIT, "relation": father, "subject": label("Lima High"), "new_object": label("Bob")}
    tied = [triple("Ann Lee", "Oslo High"), triple("Cy", "Ann Lee", father)]
    rows = [
        conflict("coverage", BACK),
        conflict("reverse", child),
        conflict("composite", child, triples=tied, prerequisites=[1]),
    ]
    wordings = {"P69": ["{} attended", "{} was at, "], "P22": ["{}'s dad is"]}
    as_file(wordings, "conflict_prompts.json")
    as_file({"P69": ["{} went to"]}, "round_prompts.json")
    assert load("pitfalls", as_file([ROUND])).facts[0].paraphrases == ("{} went to",)
    cover, back, both = load("pitfalls", as_file(rows)).cases
    assert cover.implied == cover.second
    assert cover.first.paraphrases == ("{} attended", "{} was at,")
    # father(A) = B', child(B') = C: then father(C), and no longer father(A), is B'
    assert (back.implied.text, back.implied.target) == ("Bob was educated at", "Lima High")
    assert (both.implied.text, both.implied.target) == ("Ann Lee was educated at", "Bob")
    assert (both.tied.text, both.tied.target) == ("The father of Cy is", "Ann Lee")
    assert both.tied.paraphrases == ("{}'s dad is",)
    assert cover.tied is back.tied is None


def test_the_others_are_each_once_and_without_the_edits_own(as_file):
    row = {**ROUND, "true_objects": [label("Oslo High"), label("Bergen U"), label("Bergen U")]}
    (case,) = load("pitfalls", as_file([row])).cases
    assert (case.there.target, case.back.target, case.others) == (
        "Lima High",
        "Oslo High",
        ("Bergen U",),
    )
    assert case.there.paraphrases == ()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (conflict("odd", BACK), "row 1: type is 'odd'"),
        (conflict("composite", BACK, prerequisites=[2]), r"has 0 triples, and prerequisites is"),
        ({"rule": "x"}, "row 1 has neither 'edit' nor 'edits' with two; its fields are 'rule'"),
        ({"edit": {**EDIT, "subject": {}}}, "row 1, edit, subject has no 'label'"),
        (
            {"edit": {**EDIT, "relation": {**RELATION, "prompt": "It was at"}}},
            r"row 1, edit: Fact.prompt is 'It was at'",
        ),
    ],
)
def test_refuses_a_broken_row(as_file, row, message):
    with pytest.raises(BadInput, match=message):
        load("pitfalls", as_file([row]))


def test_wordings_that_are_none(as_file):
    as_file(["x"], "conflict_prompts.json")
    with pytest.raises(BadInput, match=r"conflict_prompts.json' holds no lists of texts"):
        load("pitfalls", as_file([CONFLICT]))


@pytest.mark.parametrize("name", ["easy", "hard", "reverse_edit", "composite_edit"])
def test_reads_the_real_files(shared, name):
    bench = load("pitfalls", shared / "data" / "pitfalls" / "GPT2-XL" / f"{name}.json")
    assert len(bench.facts) == len(bench.questions) == 200
    for there, back in zip(bench.facts[::2], bench.facts[1::2], strict=True):
        if name in ("easy", "hard"):
            assert (there.text, there.target) == (back.text, back.previous)
            assert back.locality
        assert len(there.paraphrases) == 10
    kinds = {getattr(case, "kind", "round") for case in bench.cases}
    assert kinds == {name.partition("_")[0] if "edit" in name else "round"}
