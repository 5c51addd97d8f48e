"""The schema of records: what is written comes back, and what is something else is refused."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest

from memkit.compare.records import (
    AnswerRecord,
    CellRecord,
    EditRecord,
    json_schema,
    line,
    read,
)
from memkit.errors import BadInput
from memkit.types import Answer, Decision, Fact, Hit, Passage, Prompt, Question


def answer(cell="c", id="fact/0/asked/0", score=-math.inf, **changes):
    question = Question("Où?", ("Paris", "paris"), "S", "place", 12.5, ("p1",), "q1")
    passage = Passage("p1", "Text with a\nline break.", "Title")
    decision = Decision("retrieval", score, math.inf, "rare", (passage,), 0.1)
    hits = (Hit(passage, score, 1), Hit(Passage("p2", "x"), 0.25, 2))
    prompt = Prompt("Q: Où? A:", 7, ("p1",), "p2", ("p3",))
    given = Answer("Paris. It", question, decision, hits, ("ROME()",), prompt, -0.5, 0.1)
    fact = Fact("S", "{} is in", "Paris", "place", "Rome", id="q1")
    record = AnswerRecord(cell, id, "asked", 0, given, "Paris", {"exact_match": 1.0}, fact, 4096)
    return dataclasses.replace(record, **changes)


def edit(cell="c", id="edit/0"):
    chosen, parameters = {"layer": "preset"}, ("h.0.weight",)
    return EditRecord(
        cell, id, 0, "FineTune()", ("q1", "q2"), (True, False), (None, "too large"),
        ("warned",), chosen, parameters, 0.5, 100, 200,
    )  # fmt: skip


RECORDS = [
    answer(),
    answer(fact=None, score=math.nan),
    answer(score=1.25),
    edit(),
    CellRecord("c", "done", 1.5),
    CellRecord("c", "failed", 1.5, "ValueError: no", "Traceback ...\n"),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.kind)
def test_what_is_written_comes_back(record):
    text = line(record)
    assert text.endswith(b"\n")
    assert text.count(b"\n") == 1
    again = read(json.loads(text, parse_constant=lambda name: pytest.fail(name)))
    assert line(again) == text
    if b'"nan"' not in text:  # which is not equal to itself
        assert again == record


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 99}, "schema 99; allowed: 1"),
        ({"kind": "guess"}, "kind 'guess'; allowed: answer, edit, cell"),
        ({"more": 1}, "other fields"),
    ],
)
def test_another_schema_is_refused(change, said):
    values = {**json.loads(line(CellRecord("c", "done", 1.0))), **change}
    with pytest.raises(BadInput, match=said):
        read(values)


def test_what_records_have_in_common_is_kept_once():
    kept = {}
    values = json.loads(line(answer()))
    one, two = (read(values, lambda part: kept.setdefault(part, part)) for _ in range(2))
    assert one == two == read(values) == answer()
    assert one.answer.question is two.answer.question is not read(values).answer.question
    assert one.answer.prompt is two.answer.prompt
    assert one.answer.hits[0].passage is one.answer.decision.passages[0]


def test_every_field_is_documented():
    for kind in (AnswerRecord, EditRecord, CellRecord):
        for field in dataclasses.fields(kind):
            told = re.search(rf"^ *([a-z_]+, )*{field.name}(, [a-z_]+)*: ", kind.__doc__, re.M)
            assert told or field.name in ("kind", "schema"), field.name  # the module has these


def test_the_json_schema_takes_what_is_written_and_nothing_else(ran):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    lines = [line(record) for record in RECORDS]
    lines += (ran.folder / "records.jsonl").read_bytes().splitlines()
    assert len(lines) > 500
    for text in lines:
        assert validator.is_valid(json.loads(text)), text
    good = json.loads(line(answer()))
    assert validator.is_valid(good)
    for bad in (
        {**good, "more": 1},
        {**good, "schema": 2},
        {**good, "kind": "cell"},
        {**good, "peak_bytes": "much"},
        {key: value for key, value in good.items() if key != "fact"},
        {**good, "answer": {**good["answer"], "logprob": "infinite"}},
    ):
        assert not validator.is_valid(bad)
    for kind in (AnswerRecord, EditRecord, CellRecord, Answer, Question, Passage, Fact, Prompt):
        told = schema["$defs"][kind.__name__]
        assert list(told["properties"]) == [field.name for field in dataclasses.fields(kind)]
        assert told["description"].startswith(kind.__doc__.split(".")[0])
