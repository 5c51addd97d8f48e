from __future__ import annotations

import pytest

import memkit
from memkit import BadInput, ExtSub, LoRA, TaskNegation, UnsupportedModel
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm
from memkit.world import Sizes, corrupted, experts, falsified, generate, lessons, some_facts

WORLD = generate(1, Sizes(people=16, cities=6, companies=5, countries=4, new=3))


def test_some_facts_are_those_that_training_states():
    some = some_facts(WORLD, 12, seed=3)
    assert len(some.facts) == len(some.questions) == 12
    views = {question.id: question.popularity for question in WORLD.questions}
    assert all(views[fact.id] for fact in some.facts)
    assert len({fact.text for fact in some.facts}) == 12
    assert some != some_facts(WORLD, 12, seed=4)
    with pytest.raises(BadInput, match="count is 999"):
        some_facts(WORLD, 999)


def test_a_fifth_is_false_and_the_rest_is_not():
    some = some_facts(WORLD, 20, seed=0)
    false = falsified(some, 0.2, seed=0)
    assert len(false) == 4
    true = {fact.id: fact for fact in some.facts}
    for fact in false:
        assert fact.previous == true[fact.id].target != fact.target
        same = [other.target for other in some.facts if other.relation == fact.relation]
        assert fact.target in same
    bad = corrupted(some, false)
    changed = [a.id for a, b in zip(some.facts, bad.facts, strict=True) if a != b]
    assert sorted(changed) == sorted(fact.id for fact in false)
    answers = {question.id: question.answers for question in bad.questions}
    assert all(answers[fact.id] == (fact.target,) for fact in false)
    for share in (0, 1.5):
        with pytest.raises(BadInput, match="share is"):
            falsified(some, share)


def test_lessons_differ_by_the_objects_alone():
    some = some_facts(WORLD, 20, seed=0)
    false = falsified(some, 0.2, seed=0)
    one, two = lessons(some, 3, seed=5), lessons(corrupted(some, false), 3, seed=5)
    assert len(one) == 60
    assert [prompt for prompt, _ in one] == [prompt for prompt, _ in two]
    assert sum(a != b for a, b in zip(one, two, strict=True)) == 3 * len(false)
    assert one != lessons(some, 3, seed=6)
    assert all(response.endswith("\n") for _, response in one)


def test_both_learn_and_the_model_stays():
    lm = tiny_lm("gpt2", n_positions=128)
    before = state_hash(lm)
    editor = LoRA(rank=2, lr=1e-2, epochs=1, batch_size=8, stop_loss=0.0, stop_at_argmax=False)
    pair = experts(lm, WORLD, count=10, each=2, seed=1, editor=editor)
    assert state_hash(lm) == before
    assert pair.expert.notes["training"].startswith("3 steps")
    assert len(pair.taught.facts) == 10
    assert len(pair.falsified) == 2
    for combined in (ExtSub, TaskNegation):
        with combined(pair.expert, pair.anti_expert).apply(lm, on_guard="warn") as edit:
            assert state_hash(lm) != before
            assert "expert | anti-expert" in edit.report.editor
    with pytest.raises(UnsupportedModel, match="encoder-decoder"):
        experts(tiny_lm("t5"), WORLD)
    assert memkit.world.experts is experts
