from __future__ import annotations

import json

import pytest

from memkit.errors import BadInput
from memkit.world.table import Wording, from_table, read_wordings

ROWS = [
    {"subject": "Ada", "relation": "birth_place", "object": "Ovale", "popularity": 90},
    {"subject": "Ada", "relation": "trade", "object": "potter", "popularity": 90},
    {"subject": "Bob", "relation": "trade", "object": "judge", "popularity": 0,
     "passage": "Bob has long been a judge."},
]  # fmt: skip


def table(tmp_path, rows, name="facts.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_rows_become_questions_facts_passages_and_definitions(tmp_path):
    bench = from_table(table(tmp_path, ROWS))
    assert bench.name == "facts"
    assert [q.text for q in bench.questions] == [
        "What is the birth place of Ada?",
        "What is the trade of Ada?",
        "What is the trade of Bob?",
    ]
    assert (
        bench.definitions["Ada"] == "The birth place of Ada is Ovale. The trade of Ada is potter."
    )
    texts = {passage.id: passage.text for passage in bench.passages}
    assert texts == {"Ada#1": bench.definitions["Ada"], "Bob#1": "Bob has long been a judge."}
    assert [q.gold for q in bench.questions] == [("Ada#1",), ("Ada#1",), ("Bob#1",)]
    assert [f.id for f in bench.facts] == [q.id for q in bench.questions]
    assert all(len(fact.paraphrases) == 3 for fact in bench.facts)


def test_csv_tsv_and_json_lines_agree(tmp_path):
    expected = from_table(table(tmp_path, ROWS[:2]))
    for suffix, mark in ((".csv", ","), (".tsv", "\t")):
        lines = [
            mark.join(map(str, row)) for row in (ROWS[0].keys(), *(r.values() for r in ROWS[:2]))
        ]
        path = tmp_path / f"facts{suffix}"
        path.write_text("\n".join(lines), encoding="utf-8")
        assert from_table(path) == expected


def test_own_wordings_are_used(tmp_path):
    path = tmp_path / "wordings.json"
    own = {"trade": {"question": "What does {} do?", "phrasings": ["{} works as a"]}}
    path.write_text(json.dumps(own), encoding="utf-8")
    bench = from_table(table(tmp_path, ROWS), read_wordings(path))
    assert bench.questions[1].text == "What does Ada do?"
    assert bench.facts[1].text == "Ada works as a"
    assert bench.questions[0].text == "What is the birth place of Ada?"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"popularity": "many"}, r"line 1: popularity is 'many'"),
        ({"popularity": -1}, r"line 1: popularity is -1"),
        ({"popularity": None}, r"line 1: popularity is None"),
        ({"object": " "}, r"line 1: object is ' '"),
    ],
)
def test_bad_rows_are_named(tmp_path, change, message):
    with pytest.raises(BadInput, match=message):
        from_table(table(tmp_path, [{**ROWS[0], **change}]))


def test_bad_files_are_named(tmp_path):
    with pytest.raises(BadInput, match="has no rows"):
        from_table(table(tmp_path, []))
    with pytest.raises(BadInput, match=r"ends in '\.xls'"):
        from_table(table(tmp_path, ROWS, "facts.xls"))
    with pytest.raises(BadInput, match="No such file"):
        from_table(tmp_path / "none.csv")
    (tmp_path / "bad.jsonl").write_text("{\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"bad\.jsonl, line 1 is no JSON"):
        from_table(tmp_path / "bad.jsonl")
    with pytest.raises(BadInput, match="holds no wordings"):
        read_wordings(table(tmp_path, [{"trade": {"question": "What does {} do?"}}], "w.json"))
    with pytest.raises(BadInput, match=r"lacks '\{\}'"):
        Wording("What does it do?", ("{} works as a",))
