from __future__ import annotations

import pytest

from memkit.benchmarks import load
from memkit.errors import BadInput
from memkit.world import modifications, practice


@pytest.fixture(scope="module")
def world():
    return load("miniworld")


def test_modifications_are_about_what_the_model_was_told_often(world):
    facts = modifications(world, 40, seed=3)
    assert modifications(world, 40, seed=3) == facts
    assert modifications(world, 40, seed=4) != facts
    assert len({fact.subject for fact in facts}) == 40
    true = {fact.id: fact for fact in world.facts}
    views = {question.id: question.popularity for question in world.questions}
    ranked = sorted(views.values(), reverse=True)
    for fact in facts:
        old = true[fact.id]
        assert fact.previous == old.target
        assert fact.target != old.target
        assert (fact.subject, fact.prompt) == (old.subject, old.prompt)
        assert views[fact.id] >= ranked[len(ranked) // 9]
        same = [f.target for f in world.facts if f.relation == fact.relation]
        assert fact.target in same


def test_portability_follows_from_the_new_target(world):
    titles = {passage.id: passage.title for passage in world.passages}
    country = {
        fact.subject: fact.target
        for fact in world.facts
        if fact.relation == "country" and titles[fact.id.split("/")[0]] == fact.subject
    }
    births = [f for f in modifications(world, 60, seed=0) if f.relation == "birthplace"]
    assert births
    changed = 0
    for fact in births:
        assert [answer for _, answer in fact.portability] == [country[fact.target]]
        changed += country[fact.target] != country[fact.previous]
    assert changed


def test_locality_is_known_and_about_something_else(world):
    stated = {(fact.text, fact.target) for fact in world.facts}
    for fact in modifications(world, 20, seed=1):
        assert set(fact.locality) <= stated
        others = [prompt for prompt, _ in fact.locality if fact.subject not in prompt]
        assert len(others) == 5
        assert fact.text not in [prompt for prompt, _ in fact.locality]


def test_more_than_there_are_is_refused(world):
    with pytest.raises(BadInput, match="count is 5000; allowed: 1 to"):
        modifications(world, 5000)


def test_practice_is_about_all_other_subjects(world):
    test = modifications(world, 20, seed=1)
    facts = practice(world, test, seed=2)
    assert practice(world, test, seed=2) == facts != practice(world, test, seed=3)
    tested = {fact.subject for fact in test}
    assert {fact.subject for fact in facts} == {f.subject for f in world.facts} - tested
    true = {fact.id: fact for fact in world.facts}
    told = {(f.relation, f.target) for f in world.facts}
    for fact in facts:
        assert fact.previous == true[fact.id].target != fact.target
        assert (fact.relation, fact.target) in told
        assert len(fact.locality) >= 5
        assert not fact.portability
