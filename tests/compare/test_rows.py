"""The same rows are asked under every count."""

from __future__ import annotations

import pytest

from memkit.compare import read_spec
from memkit.compare.corpora import current
from memkit.compare.rows import rows


@pytest.fixture
def own(wanted):
    wanted["edits"] |= {"facts": 5, "counts": [1, 2, 5]}
    del wanted["benchmarks"]["small"]["path"]  # the shipped world has more facts
    return rows(read_spec(wanted), "small", 0)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_every_row_is_asked_once_at_every_count(own, count):
    asked = [row.id for block in own.blocks(count) for row in block.rows]
    assert sorted(asked) == sorted(row.id for row in own.rows)
    assert len(set(asked)) == len(asked)


def test_a_fact_is_asked_about_while_it_is_written(own):
    for block in own.blocks(2):
        assert 1 <= len(block.facts) <= 2
        assert {row.fact for row in block.rows} - {None} == set(block.facts)


def test_no_question_is_about_an_edited_subject_and_no_router_sees_a_subject_twice(own):
    edited = {fact.subject for fact in own.facts}
    asked = {row.question.subject for row in own.rows if row.role == "question"}
    fit = {question.subject for question in own.fit}
    assert edited
    assert asked
    assert fit
    assert not edited & asked
    assert not (edited | asked) & fit


def test_what_another_fact_writes_is_no_locality(own):
    written = {fact.text for fact in own.facts}
    assert not [row for row in own.rows if row.role == "locality" and row.question.text in written]


def test_what_stays_is_known_to_routers_as_the_benchmark_knows_it(own):
    stays = [row.question for row in own.rows if row.role == "locality"]
    assert any(question.subject is not None and question.popularity for question in stays)


def test_another_seed_draws_others(wanted):
    spec = read_spec(wanted)
    a, again, b = rows(spec, "small", 0), rows(spec, "small", 0), rows(spec, "small", 1)
    assert a.sha256 == again.sha256 != b.sha256


def test_a_current_corpus_says_the_facts_and_nothing_else_changes(own):
    fact = own.facts[0]
    after = current(own, [fact])
    before = {passage.id: passage for passage in own.benchmark.passages}
    gold = next(row.question.gold for row in own.rows if row.role == "asked" and row.fact == 0)
    assert any(fact.previous in before[id].text for id in gold)  # the trivial case
    changed = [p for p in after.benchmark.passages if before.get(p.id) != p]
    assert [passage.id for passage in changed] == list(gold)
    assert fact.target in changed[0].text
    assert fact.previous not in changed[0].text
    assert fact.target in after.benchmark.definitions[fact.subject]
