from __future__ import annotations

import dataclasses

import pytest

import memkit
from memkit import LM, BadInput, Question, protocols, world
from memkit.benchmarks import Benchmark


@pytest.fixture(scope="module")
def bench():
    return memkit.benchmarks.load("miniworld")


def test_each_question_has_true_and_false_answers(bench):
    taught = world.some_facts(bench, 50, seed=1)
    lies = world.falsified(taught, seed=1)
    found = world.references(taught, lies, seed=1)
    targets = {fact.id: fact.target for fact in bench.facts}
    relations = {fact.id: fact.relation for fact in bench.facts}
    told = {fact.id: fact.target for fact in lies}
    objects = {}
    for fact in taught.facts:
        objects.setdefault(fact.relation, set()).add(fact.target)
    assert len(found) == sum(len(objects[relations[q.id]]) > 1 for q in taught.questions) > 40
    for row in found:
        assert (row.best, row.true) == (targets[row.id], (targets[row.id],))
        assert set(row.false) - {told.get(row.id)} <= objects[relations[row.id]] - {row.best}
        assert len(set(row.false)) == len(row.false) <= 4
        if row.id in told:
            assert row.false[0] == told[row.id]
    assert sum(row.id in told for row in found) == len(lies) == 10
    assert found != tuple(world.references(taught, seed=1))
    assert found == world.references(taught, lies, seed=1)
    assert found != world.references(taught, lies, seed=2)


def test_objects_are_those_of_the_relation(bench):
    found = world.objects(bench)
    assert set(found) == {fact.relation for fact in bench.facts}
    for relation, texts in found.items():
        assert list(texts) == sorted({f.target for f in bench.facts if f.relation == relation})
    assert world.objects(Benchmark("x", facts=(memkit.Fact("Peru", "{} is", "a country"),))) == {}


def test_relations_with_one_object_have_no_false_answer(bench):
    fact, question = bench.facts[0], bench.questions[0]
    alone = Benchmark("alone", questions=(question,), facts=(fact,))
    with pytest.raises(BadInput, match="'alone' has no question with a false answer"):
        world.references(alone)


def test_the_shipped_model_is_truthful_about_what_it_knows(bench):
    """The measures run offline, and tell a truthful model from one of false references."""
    popular = sorted(bench.questions, key=lambda q: -(q.popularity or 0))[:12]
    head = dataclasses.replace(bench, questions=tuple(popular))
    rows = world.references(head)
    turned = [dataclasses.replace(r, best=r.false[0], true=r.false, false=r.true) for r in rows]
    lm = LM.load(world.shipped(), device="cpu")
    options = {"truth_prompt": world.TRUTH_PROMPT, "period": False, "text_tokens": 8}
    right = protocols.erasure(lm, {}, references=rows, **options)
    wrong = protocols.erasure(lm, {}, references=turned, **options)
    for score in ("mc1", "mc2", "mc3", "rouge1_acc"):
        assert right.cell("unedited", score).mean > 0.9
        assert wrong.cell("unedited", score).mean < 0.1


def test_secrets_are_known_facts_with_neighbours(bench):
    found = world.secrets(bench, 5, seed=3)
    own = {fact.id: fact for fact in bench.facts}
    asked = {question.id: question for question in bench.questions}
    changed = {fact.id: fact for fact in world.modifications(bench, 5, seed=3)}
    assert len(found) == 5
    for fact in found:
        true = own[fact.id]
        assert (fact.target, fact.portability) == (true.target, true.portability)
        assert fact.locality == changed[fact.id].locality
        assert fact.paraphrases[:-1] == true.paraphrases
        assert Question(asked[fact.id].text).text in fact.paraphrases[-1]
