from __future__ import annotations

from collections import Counter

import pytest

import memkit
from memkit import BadInput
from memkit.world import multihop_cases, ripple_cases


@pytest.fixture(scope="module")
def world():
    return memkit.benchmarks.load("miniworld")


@pytest.fixture(scope="module")
def true(world):
    """What is true of whom, by the passages' titles: of namesakes the popular one."""
    titles = {passage.id: passage.title for passage in world.passages}
    return {
        (fact.subject, fact.relation): fact.target
        for fact in world.facts
        if titles[fact.id.split("/")[0]] == fact.subject
    }


def asked(world, subject, relation):
    """The world's own question, as QA asks it."""
    (text,) = {q.text for q in world.questions if (q.subject, q.relation) == (subject, relation)}
    return f"Q: {text} A:"


def test_ripples_follow_from_the_edit(world, true):
    cases = ripple_cases(world, 40, seed=2, logical=5)
    assert ripple_cases(world, 40, seed=2, logical=5) == cases != ripple_cases(world, 40, seed=3)
    assert len(cases) == 45
    kinds = Counter(test.criterion for case in cases for test in case.tests)
    assert min(kinds[name] for name in ("Compositionality_I", "Relation_Specificity")) > 40
    assert kinds["Compositionality_II"] > 10
    assert kinds["Logical_Generalization"] >= 4
    assert set(kinds) == {
        "Logical_Generalization",
        "Compositionality_I",
        "Compositionality_II",
        "Relation_Specificity",
    }
    for case in cases:
        fact = case.fact
        assert fact.text == asked(world, fact.subject, fact.relation)
        assert true[fact.subject, fact.relation] == fact.previous != fact.target
        assert fact.target in case.statement
        assert case.popularity > 0
        for test in case.tests:
            ((answer,),) = test.queries[0].targets
            if test.criterion == "Compositionality_I":
                (condition,) = test.conditions
                assert f"the {fact.relation} of {fact.subject}" in test.queries[0].prompt
                assert fact.target in condition.prompt
                (relation,) = [r for (s, r), o in true.items() if (s, o) == (fact.target, answer)]
                assert condition.prompt == asked(world, fact.target, relation)
            elif test.criterion == "Compositionality_II":
                assert answer == fact.target
                (condition,) = test.conditions
                assert condition.targets == ((fact.subject,),)
                assert f" of {fact.subject}" not in test.queries[0].prompt
            elif test.criterion == "Relation_Specificity":
                assert test.conditions == test.queries
                assert answer in {o for (s, _), o in true.items() if s == fact.subject}
            else:
                assert fact.relation == "capital"
                assert answer == fact.subject != true[fact.target, "country"]


def test_chains_go_through_their_edits(world, true):
    cases = multihop_cases(world, 30, seed=1)
    assert multihop_cases(world, 30, seed=1) == cases
    edited = {}
    for case in cases:
        for fact in case.facts:
            assert edited.setdefault((fact.subject, fact.relation), fact.target) == fact.target
            assert fact.previous == true[fact.subject, fact.relation] != fact.target
    assert {len(case.facts) for case in cases} == {1, 2}
    assert {len(case.hops) for case in cases} == {2, 3}
    for case in cases:
        own = {(fact.subject, fact.relation) for fact in case.facts}
        for hops, end in ((case.hops, case.answers), (case.new_hops, case.new_answers)):
            assert hops[-1].answers == end
            subject = hops[0].subject
            for hop in hops:
                assert hop.subject == subject
                (subject,) = hop.answers
                key = (hop.subject, hop.relation)
                after = hops is case.new_hops and key in own
                assert hop.answers == (edited[key] if after else true[key],)
                assert key in own or key not in edited  # no other case disturbs it
                assert hop.cloze == asked(world, *key)
        assert case.answers != case.new_answers
        assert [case.hops[0].subject in question for question in case.questions] == [True] * 3
        bridges = {hop.subject for hop in (*case.hops[1:], *case.new_hops[1:])}
        assert not any(bridge in text for bridge in bridges for text in case.questions)
        for fact, told in zip(case.facts, case.statements, strict=True):
            assert fact.subject in told
            assert fact.target in told


def test_more_than_there_are_is_refused(world):
    with pytest.raises(BadInput, match=r"count is 900; allowed: 1 to [1-9]"):
        multihop_cases(world, 900)
    with pytest.raises(BadInput, match=r"logical is 99; allowed: 0 to [1-9]"):
        ripple_cases(world, 1, logical=99)
    with pytest.raises(BadInput, match="count is 0"):
        ripple_cases(world, 0)
    with pytest.raises(BadInput, match="count is 0; allowed: 1 or more"):
        multihop_cases(world, 0)
