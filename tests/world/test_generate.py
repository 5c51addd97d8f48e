from __future__ import annotations

import collections
import dataclasses
import math

import pytest

from memkit.errors import BadInput
from memkit.world.generate import Sizes, generate
from memkit.world.names import NameMaker
from memkit.world.schema import RELATIONS

SMALL = Sizes(people=60, cities=20, companies=12, countries=5, new=6)


@pytest.fixture(scope="module")
def world():
    return generate(3, SMALL)


def test_equal_seeds_give_equal_worlds_and_others_do_not(world):
    assert generate(4, SMALL) != world
    assert generate(3, SMALL) == world


def test_facts_and_questions_belong_together(world):
    assert [fact.id for fact in world.facts] == [question.id for question in world.questions]
    for fact, question in zip(world.facts, world.questions, strict=True):
        assert question.answers == (fact.target,)
        assert question.subject == fact.subject
        assert fact.subject in question.text


def test_every_relation_has_four_phrasings_and_a_question(world):
    assert len(RELATIONS) >= 5
    for relation in RELATIONS:
        forms = [*relation.phrasings, relation.question]
        assert len(set(relation.phrasings)) >= 4
        assert all(form.count("{}") == 1 for form in forms)
        assert all("{o}" in s and "{}" in s for s in relation.sentences)
    assert {fact.relation for fact in world.facts} == {relation.name for relation in RELATIONS}


def test_each_gold_passage_states_the_answer_in_40_to_80_words(world):
    passages = {passage.id: passage for passage in world.passages}
    assert len(passages) == len(world.passages)
    for passage in world.passages:
        assert 40 <= len(passage.text.split()) <= 80
        assert "{" not in passage.text
    for question in world.questions:
        text = passages[question.gold[0]].text
        assert question.subject in text
        assert question.answers[0] in text


def test_chains_lead_from_a_person_over_a_city_to_its_country(world):
    # A namesake of a city is never an object; its title tells it apart from the city
    titles = {passage.id: passage.title for passage in world.passages}
    country = {
        fact.subject: fact.target
        for fact in world.facts
        if fact.relation == "country" and titles[fact.id.split("/")[0]] == fact.subject
    }
    births = [f for f in world.facts if f.relation == "birthplace"]
    assert births
    for fact in births:
        assert [answer for _, answer in fact.portability] == [country[fact.target]]


def test_page_views_fall_as_zipf_says():
    world = generate(0)
    views = {q.gold[0]: q.popularity for q in world.questions if not q.id.startswith("new-")}
    ordered = sorted(views.values(), reverse=True)
    assert ordered[0] == 1_000_000
    # Between ranks far above the shift the slope on log-log paper is close to -1.6, the exponent
    low, high = 400, 1_000
    slope = math.log(ordered[high] / ordered[low]) / math.log(high / low)
    assert -1.65 < slope < -1.55
    assert min(ordered) >= 1


def test_namesakes_are_obscure_and_have_titles_of_their_own(world):
    by_name = collections.defaultdict(set)
    for question in world.questions:
        by_name[question.subject].add((question.gold[0], question.popularity))
    shared = [group for group in by_name.values() if len(group) > 1]
    assert shared
    for group in shared:
        popularities = sorted(views for _, views in group)
        assert popularities[-1] > 2 * popularities[0]
    titles = [passage.title for passage in world.passages]
    assert len(set(titles)) == len(titles)
    assert set(titles) == set(world.definitions)


def test_new_entities_have_no_popularity_and_are_named_nowhere_else(world):
    new = {q.subject: q for q in world.questions if q.id.startswith("new-")}
    assert len(new) == SMALL.new
    assert all(question.popularity == 0 for question in new.values())
    for fact in world.facts:
        if not fact.id.startswith("new-"):
            assert fact.target not in new
            assert fact.subject not in new
    for passage in world.passages:
        if not passage.id.startswith("new-"):
            assert not any(name in passage.text for name in new)
    assert all(name in world.definitions for name in new)


def test_locality_is_about_something_else(world):
    for fact in world.facts:
        other, own = fact.locality
        assert fact.subject not in other[0]
        assert fact.subject in own[0]
        assert own[0] != fact.text


def test_a_world_without_people_is_refused():
    with pytest.raises(BadInput, match=r"Sizes\.people is 0"):
        Sizes(people=0)


def test_names_are_given_once():
    import random

    names = NameMaker(random.Random(0))
    given = [names.person() for _ in range(500)] + [names.city() for _ in range(500)]
    assert len(set(given)) == 1_000


def test_values_are_frozen(world):
    with pytest.raises(dataclasses.FrozenInstanceError):
        world.questions[0].text = "other"
