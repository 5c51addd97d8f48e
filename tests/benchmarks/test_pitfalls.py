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


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"rule": "x"}, "row 1 has neither 'edit' nor 'edits'; its fields are 'rule'"),
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


@pytest.mark.parametrize("name", ["easy", "hard", "reverse_edit", "composite_edit"])
def test_reads_the_real_files(shared, name):
    bench = load("pitfalls", shared / "data" / "pitfalls" / "GPT2-XL" / f"{name}.json")
    assert len(bench.facts) == len(bench.questions) == 200
    for there, back in zip(bench.facts[::2], bench.facts[1::2], strict=True):
        if name in ("easy", "hard"):
            assert (there.text, there.target) == (back.text, back.previous)
            assert back.locality
