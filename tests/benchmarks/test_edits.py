from __future__ import annotations

import warnings

import pytest

from memkit import BadInput, Fact
from memkit.benchmarks import load
from memkit.benchmarks.edits import edit, pairs, parallel
from memkit.benchmarks.records import Record


def record(**fields) -> Record:
    return Record("'rows.json', row 3", "3", fields)


@pytest.mark.parametrize(
    ("subject", "prompt", "spelled"),
    [
        ("Erewhon", "Who wrote Erewhon?", "Erewhon"),
        ("Erewhon", "who wrote erewhon?", "erewhon"),
        ("Emma", "is EMMA or Emma meant?", "Emma"),  # the exact one first
        ("M.A.S.H", "Who wrote m.a.s.h?", "m.a.s.h"),
        ("Erewhon", "Who wrote {}?", "Erewhon"),
    ],
)
def test_the_subject_is_spelled_as_in_the_prompt(subject, prompt, spelled):
    fact = edit(record(), subject, prompt, target="Butler", relation="author")
    assert fact == Fact(spelled, prompt, "Butler", relation="author", id="3")


def test_says_why_there_is_no_fact():
    why = edit(record(), "M.A.S.H", "Who wrote MxAxSxH?", target="Hooker")
    assert why == "the subject 'M.A.S.H' is not in the prompt 'Who wrote MxAxSxH?'"


def test_probes_that_lack_a_part_are_left_out():
    rows = [
        record(q="Who?", a=["Butler", "S. Butler"]),
        record(q=["Where?", "At which place?"], a=[["London"]]),
        record(q="When?", a=[]),
        record(q="When?", a=[""]),
        record(q="", a="now"),
        record(a="now"),
    ]
    assert pairs(rows, "q", "a") == (("Who?", "Butler"), ("Where?", "London"))


def test_rows_without_a_fact_are_counted_in_a_warning(as_file):
    entry = {"prompt": "who wrote erewhon?", "subject": "Erewhon", "target": "Butler"}
    path = as_file([entry, {**entry, "subject": "Emma"}, {**entry, "subject": "Hudibras"}])
    message = "2 of 3 rows of qaedit give no fact. The first is .*rows.json', row 2: the subject"
    with pytest.warns(UserWarning, match=message) as caught:
        bench = load("qaedit", path)
    assert caught[0].filename == __file__  # it points at whoever called load
    assert [fact.subject for fact in bench.facts] == ["erewhon"]
    assert [q.subject for q in bench.questions] == ["Erewhon", "Emma", "Hudibras"]
    assert [q.id for q in bench.questions] == ["1", "2", "3"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load("qaedit", path, limit=1).facts) == 1


def test_parallel_lists_are_paired_by_place():
    row = {"q": ["a", "", "c", "d"], "a": ["", "b", ["C", "see"], "D"]}
    assert parallel(Record("x", "1", row), "q", "a") == (("c", "C"), ("d", "D"))
    assert parallel(Record("x", "1", {"q": "a", "a": "b"}), "q", "a") == (("a", "b"),)
    assert parallel(Record("x", "1", {}), "q", "a") == ()
    with pytest.raises(BadInput, match="x has 2 q and 1 a; allowed: as many"):
        parallel(Record("x", "1", {"q": ["a", ""], "a": ["b"]}), "q", "a")
