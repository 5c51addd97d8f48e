"""ME-PPL: sentences, by a fixture of its schema and by the real file where there is one."""

from __future__ import annotations

import json

import pytest

from memkit.benchmarks import load
from memkit.errors import BadInput

ROWS = [{"Corpus": "C4", "Text": " The head coach"}, {"Text": "Regions"}]


def test_every_sentence_is_a_passage(tmp_path):
    file = tmp_path / "ME-PPL_50.json"
    file.write_text(json.dumps(ROWS), encoding="utf-8")
    found = load("me_ppl", file)
    assert [(p.title, p.text) for p in found.passages] == [
        ("C4", " The head coach"),  # white space changes the first token, and so the perplexity
        (None, "Regions"),
    ]
    assert len(load("me_ppl", file, limit=1).passages) == 1


def test_refuses_a_row_without_text_and_no_path(tmp_path):
    file = tmp_path / "ME-PPL_50.json"
    file.write_text(json.dumps([*ROWS, {"Corpus": "C4"}]), encoding="utf-8")
    with pytest.raises(BadInput, match=r"ME-PPL_50\.json.*row 3 has no 'Text'"):
        load("me_ppl", file)
    with pytest.raises(BadInput, match=r"me_ppl has path None.*Collapse-in-Model-Editing"):
        load("me_ppl")


def test_the_real_file(shared):
    found = load("me_ppl", shared / "data" / "me_ppl" / "ME-PPL_50.json")
    assert len(found.passages) == 50
    assert {"Wikipedia", "C4"} <= {passage.title for passage in found.passages}
