from __future__ import annotations

import dataclasses
import json

import pytest

import memkit
from memkit import Fact
from memkit.testing.models import tiny_lm

FACTS = [
    Fact("Samuel Butler", "{} wrote", "Paris", paraphrases=("The author {} wrote",), id="a"),
    Fact("Peru", "The capital of {} is", "numbers", locality=(("France is", "Paris"),), id="b"),
]
FAST = ("--editor", "ft", "--set", "epochs=2", "--set", "lr=1e-2")


@pytest.fixture
def place(tmp_path):
    tiny_lm("gpt2").save(tmp_path / "model")
    rows = [json.dumps(dataclasses.asdict(fact)) for fact in FACTS]
    (tmp_path / "facts.jsonl").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_saves_an_edit_and_shows_it(run, place):
    code, out, err = run("edit", "apply", "model", "facts.jsonl", "edit", *FAST)
    assert code == 0
    assert "Samuel Butler wrote -> Paris" in out
    assert "saved the edit in edit" in err
    saved = memkit.load_edit(place / "edit")
    assert saved.facts == tuple(FACTS)
    with saved.apply(memkit.LM.load(place / "model")) as edit:
        assert len(edit.report.facts) == 2
    code, out, _ = run("edit", "show", "edit")
    assert code == 0
    assert "Peru is -> numbers" in out
    code, out, _ = run("edit", "show", "edit", "--json")
    assert json.loads(out)["facts"][0]["fact"]["subject"] == "Samuel Butler"


def test_scores_an_editor(run, place):
    code, out, _ = run("edit", "score", "model", "facts.jsonl", *FAST)
    assert code == 0
    assert "exact match" in out
    code, out, _ = run("edit", "score", "model", "facts.jsonl", *FAST, "--limit", 1, "--json")
    assert len(json.loads(out)["records"]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--editor", "romy"), "no editor is named 'romy'"),
        (("--set", "layers=1"), "--set got 'layers=1'; allowed: NAME=VALUE"),
        (("--set", "layer=9"), "layer is 9; allowed: 0 to 2"),
        (("--benchmark", "zsre"), "facts.jsonl"),
    ],
)
def test_bad_input_ends_with_2_and_writes_nothing(run, place, options, message):
    code, out, err = run("edit", "apply", "model", "facts.jsonl", "edit", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert not (place / "edit").exists()
