"""The probes of new entities: what they ask is true in the world, and they are what is shipped."""

from __future__ import annotations

import dataclasses

import pytest

import memkit
from memkit.benchmarks import miniworld
from memkit.metrics import exact_match
from memkit.world import Sizes, generate, probes, shipped


@pytest.fixture(scope="module")
def world():
    return memkit.benchmarks.load("miniworld", split="all")


def test_the_shipped_ones_are_those_of_the_seed(world):
    assert world.probes == probes(generate(0))
    new = memkit.benchmarks.load("miniworld", split="new").probes
    known = memkit.benchmarks.load("miniworld").probes
    assert new + known == world.probes
    assert {probe.popularity for probe in new} == {0}
    assert {probe.category for probe in known} == {"popular"}
    assert min(probe.popularity for probe in known) > 50_000
    assert probes(generate(0), seed=1) != world.probes


def by_name(world):
    """Facts by subject and relation; a name means its most popular bearer."""
    titles = {passage.id: passage.title for passage in world.passages}
    return {
        (fact.subject, fact.relation): fact
        for fact in world.facts
        if titles[fact.id.split("/")[0]] == fact.subject
    }


def test_every_gold_span_is_true(world):
    true = {fact.id: fact for fact in world.facts}
    bearers = by_name(world)
    counts = {"explicit": 0, "implicit": 0}
    for probe in world.probes:
        owner, relation, *second = probe.id.split("/")
        fact = true[f"{owner}/{relation}"]
        assert probe.definition.text == fact.definition
        assert probe.definition.span == fact.target
        assert probe.entity == fact.subject
        assert probe.entity in probe.cloze.left
        expected = bearers[fact.target, second[0]].target if second else fact.target
        assert probe.gold == expected
        assert probe.kind == ("implicit" if second else "explicit")
        if second:  # it does not stand in the definition
            assert probe.gold not in probe.definition.text
        else:  # but not in these words
            assert probe.cloze.left.strip() in [
                text.replace("{}", fact.subject) for text in fact.paraphrases
            ]
        counts[probe.kind] += 1
    assert counts == {"explicit": 220, "implicit": 61}


def test_no_candidate_of_a_new_entity_is_better_known(world):
    new = {f.target for f in world.facts if f.id.startswith(miniworld.NEW)}
    for probe in world.probes:
        if probe.kind == "explicit" and probe.popularity == 0:
            assert set(probe.candidates) <= new
            assert len(probe.candidates) == 8


def test_the_model_knows_what_implicit_probes_build_on(world):
    facts = by_name(world)
    bridges = {
        facts[probe.definition.span, probe.id.split("/")[2]]
        for probe in world.probes
        if probe.kind == "implicit"
    }
    lm = memkit.LM.load(shipped(), device="cpu")
    asked = sorted(bridges, key=lambda fact: fact.id)
    made = lm.generate([fact.text for fact in asked], stop=(".", "\n"))
    right = sum(exact_match(text, [fact.target]) for text, fact in zip(made, asked, strict=True))
    assert right / len(asked) >= 0.9


def test_worlds_without_new_entities_have_none(tmp_path):
    small = generate(1, Sizes(people=16, cities=6, companies=5, countries=4, new=0))
    assert probes(small) == ()
    memkit.world.write(small, tmp_path)
    assert not (tmp_path / "probes.jsonl").exists()
    loaded = memkit.benchmarks.load("miniworld", tmp_path)
    assert loaded.probes == ()
    assert loaded.facts == dataclasses.replace(loaded, probes=()).facts


def test_probes_follow_the_limit(world):
    few = memkit.benchmarks.load("miniworld", split="new", limit=4)
    wanted = {question.id for question in few.questions}
    assert few.probes
    assert {"/".join(probe.id.split("/")[:2]) for probe in few.probes} == wanted


def test_a_world_of_a_users_own_facts_has_none(tmp_path):
    table = tmp_path / "facts.csv"
    table.write_text("subject,relation,object,popularity\nAda,home,Peru,7\n", encoding="utf-8")
    assert probes(memkit.world.from_table(table)) == ()
