from __future__ import annotations

import json

import pytest

from memkit import BadInput, Fact
from memkit.benchmarks import load
from memkit.benchmarks.cases import ClozeFact

RELATIONS = [
    {"relation": "P19", "template": "[X] was born in [Y] .", "label": "birth", "type": "N-1"},
    {"relation": "P36", "template": "[Y] is the capital of [X] .", "label": "c", "type": "1-1"},
]
BORN = [
    {"uuid": "a", "sub_label": "Ann Lee", "obj_label": "Lima", "predicate_id": "P19"},
    {"uuid": "b", "sub_label": "Bo Ray", "obj_label": "Oslo", "predicate_id": "P19"},
]
CAPITALS = [{"uuid": "c", "sub_label": "Peru", "obj_label": "Lima", "predicate_id": "P36"}]


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


@pytest.fixture
def trex(tmp_path):
    lines(tmp_path / "relations.jsonl", RELATIONS)
    lines(tmp_path / "TREx" / "P19.jsonl", BORN)
    lines(tmp_path / "TREx" / "P36.jsonl", CAPITALS)
    return tmp_path


@pytest.fixture
def patterns(tmp_path):
    rows = [{"pattern": "[X] was born in [Y]."}, {"pattern": "[X] hails from [Y]."}]
    lines(tmp_path / "data" / "pattern_data" / "graphs_json" / "P19.jsonl", rows)
    lines(tmp_path / "data" / "trex_lms_vocab" / "P19.jsonl", BORN)
    return tmp_path


def test_reads_trex(trex):
    bench = load("lama", trex)
    first = ClozeFact("Ann Lee", "Lima", "[X] was born in [Y] .", "P19", "N-1", id="a")
    capital = ClozeFact("Peru", "Lima", "[Y] is the capital of [X] .", "P36", "1-1", id="c")
    assert bench.cases[:2] == (first, capital)  # from the relations in turn
    assert first.around == ("Ann Lee was born in ", " .")
    assert capital.around == ("", " is the capital of Peru .")
    assert bench.facts[0] == Fact("Ann Lee", "{} was born in", "Lima", relation="P19", id="a")
    assert [fact.id for fact in bench.facts] == ["a", "b"]  # no fact for a gap before its subject
    assert [cloze.id for cloze in load("lama", trex, limit=2).cases] == ["a", "c"]
    assert [cloze.id for cloze in load("lama", trex, "P19").cases] == ["a", "b"]


def test_reads_pararel(patterns):
    assert [cloze.template for cloze in load("pararel", patterns).cases] == [
        "[X] was born in [Y]."
    ] * 2
    every = load("pararel", patterns, "patterns", limit=1).cases
    assert [(cloze.id, cloze.template) for cloze in every] == [
        ("a", "[X] was born in [Y]."),
        ("a#2", "[X] hails from [Y]."),
    ]


def test_a_fact_as_a_cloze():
    cloze = ClozeFact.of(Fact("Ann", "Ann was born in", "Lima", relation="born", id="1"), 7)
    assert cloze == ClozeFact("Ann", "Lima", "[X] was born in [Y]", "born", popularity=7, id="1")
    with pytest.raises(BadInput, match=r"has '\[Y\]' 0 times"):
        ClozeFact("Ann", "Lima", "[X] was born in", "born")


def test_says_what_is_wrong(trex, patterns, tmp_path):
    with pytest.raises(BadInput, match="lama has path None; allowed: its unpacked folder"):
        load("lama")
    with pytest.raises(BadInput, match="split is 'P20' for lama; allowed: None for all, or P19"):
        load("lama", trex, "P20")
    with pytest.raises(BadInput, match="split is 'P19' for pararel; allowed: None"):
        load("pararel", patterns, "P19")
    lines(trex / "TREx" / "P19.jsonl", [{"uuid": "a", "sub_label": "Ann", "obj_label": ""}])
    with pytest.raises(BadInput, match=r"P19.jsonl', row 1: obj_label is ''"):
        load("lama", trex)
    lines(trex / "relations.jsonl", [{"relation": "P19", "template": "[X] was born"}])
    with pytest.raises(BadInput, match=r"relations.jsonl', row 1: template is .* allowed: text"):
        load("lama", trex)
    empty = tmp_path / "empty"
    lines(empty / "relations.jsonl", RELATIONS)
    with pytest.raises(BadInput, match="lama has no file of a relation in"):
        load("lama", empty)
    with pytest.raises(BadInput, match=r"has no pattern_data/graphs_json/P\*.jsonl"):
        load("pararel", empty)
