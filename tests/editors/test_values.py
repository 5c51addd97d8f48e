"""v* of the fast engine is that of the plain loop, and the model is only read."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from memkit.editors import values
from memkit.editors.tokens import drift_row, row, target_ids
from memkit.editors.values import Objective, find_values
from memkit.errors import BadInput
from memkit.lm.hooks import capture
from memkit.lm.tail import Tail
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm
from memkit.types import Fact

FACTS = (
    Fact("Samuel Butler", "{} wrote", "Paris"),
    Fact("Peru", "The capital of {} is", "numbers and words"),
    Fact("France", "Question: Who wrote of {}? Answer:", "Lima"),
)
CONTEXTS = ("{}", "One, two. {}", "Who wrote? {}")
GOAL = Objective(steps=8, clamp=1.0)
MODELS = [
    ("gpt2", {}),
    ("llama", {}),
    ("gptj", {}),
    ("qwen2", {}),
    ("gemma2", {}),
    ("opt", {}),
    ("opt", {"do_layer_norm_before": False}),
]
PLACES = pytest.mark.parametrize("place", ["mlp", "stream"])


def apart(found, expected):
    return float((found - expected).norm() / expected.norm())


def goal(**changes):
    return dataclasses.replace(GOAL, **changes)


def alone(lm, facts, objective, place="mlp", contexts=CONTEXTS):
    """Each fact by a search of its own."""
    return [find_values(lm, [fact], contexts, 1, objective, place)[0] for fact in facts]


# against the plain loop


@PLACES
@pytest.mark.parametrize(("family", "changes"), MODELS)
def test_the_engine_finds_what_the_plain_loop_finds(family, changes, place, plain_value):
    lm = tiny_lm(family, **changes)
    found = find_values(lm, FACTS, CONTEXTS, 1, GOAL, place)
    for fact, value in zip(FACTS, found, strict=True):
        v0, delta, losses = plain_value(lm, fact, CONTEXTS, 1, place, **dataclasses.asdict(GOAL))
        assert delta.norm() > 0.1 * v0.norm()
        assert losses[-1] < losses[0] - 0.02
        assert apart(value.clean, v0) < 1e-5
        assert apart(value.delta, delta) < 1e-5
        assert apart(value.target, v0 + delta) < 1e-5
        assert (value.first, value.last) == pytest.approx((losses[0], losses[-1]), abs=2e-5)
        assert value.steps == len(losses) == 8


@PLACES
def test_facts_that_are_done_stop_while_others_go_on(place, plain_value):
    lm = tiny_lm("gpt2")
    early = goal(stop=7.4, steps=6)
    found = find_values(lm, FACTS, CONTEXTS, 1, early, place)
    expected = [
        plain_value(lm, fact, CONTEXTS, 1, place, **dataclasses.asdict(early)) for fact in FACTS
    ]
    assert [value.steps for value in found] == [len(losses) for _, _, losses in expected]
    assert [value.steps for value in found] == [1, 6, 5]
    for value, (_, delta, losses) in zip(found, expected, strict=True):
        if value.steps == 1:
            assert not delta.any()
            assert not value.delta.any()
        else:
            assert apart(value.delta, delta) < 1e-5
        assert value.last == pytest.approx(losses[-1], abs=2e-5)


def test_a_fact_that_is_done_costs_nothing_more(monkeypatch):
    lm, rows, run = tiny_lm("gpt2"), [], Tail.run

    def counted(tail, hidden):
        rows.append(len(hidden))
        return run(tail, hidden)

    monkeypatch.setattr(Tail, "run", counted)
    found = find_values(lm, FACTS, CONTEXTS, 1, goal(stop=7.4, steps=6), "mlp")
    steps = [value.steps for value in found]
    assert rows == [4 * sum(n > step for n in steps) for step in range(max(steps))]
    assert rows[-1] < rows[0] == 12


# one at a time, in any company


@PLACES
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_a_batch_gives_what_one_at_a_time_gives(family, place):
    lm = tiny_lm(family)
    serial = alone(lm, FACTS, GOAL, place)
    long = Fact("Lima", "One, two, three, four, five: numbers and words of {} wrote", "Erewhon")
    for order in [(0, 1, 2), (2, 0, 1)]:
        facts = [FACTS[i] for i in order]
        for batch in (facts, [long, *facts], [*facts, long, long]):
            found = find_values(lm, batch, CONTEXTS, 1, GOAL, place)
            for fact, value in zip(batch, found, strict=True):
                if fact is not long:
                    own = serial[FACTS.index(fact)]
                    assert apart(value.delta, own.delta) < 1e-5
                    assert apart(value.clean, own.clean) < 1e-5
                    assert value.steps == own.steps


def test_many_rows_are_cut_into_several_searches(monkeypatch):
    lm = tiny_lm("gpt2")
    whole = find_values(lm, FACTS, CONTEXTS, 1, GOAL, "mlp")
    sizes, init = [], values._Search.__init__

    def noted(search, lm, facts, *rest):
        sizes.append(len(facts))
        init(search, lm, facts, *rest)

    monkeypatch.setattr(values._Search, "__init__", noted)
    for rows, expected in [(8, [2, 1]), (1, [1, 1, 1]), (99, [3])]:
        monkeypatch.setattr(values, "ROWS", rows)
        sizes.clear()
        found = find_values(lm, FACTS, CONTEXTS, 1, GOAL, "mlp")
        assert sizes == expected
        assert all(apart(a.delta, b.delta) < 1e-5 for a, b in zip(found, whole, strict=True))


def test_a_batch_that_memory_does_not_hold_is_halved(monkeypatch):
    lm = tiny_lm("gpt2")
    whole = find_values(lm, FACTS, CONTEXTS, 1, GOAL, "mlp")
    sizes, search = [], values._Search.values

    def small(most):
        def run(self):
            sizes.append(len(self.clean))
            if sizes[-1] > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return search(self)

        return run

    for most, expected in [(2, [3, 2, 1]), (1, [3, 2, 1, 1, 1])]:
        sizes.clear()
        monkeypatch.setattr(values._Search, "values", small(most))
        found = find_values(lm, FACTS, CONTEXTS, 1, GOAL, "mlp")
        assert sizes == expected
        assert all(apart(a.delta, b.delta) < 1e-5 for a, b in zip(found, whole, strict=True))
    monkeypatch.setattr(values._Search, "values", small(0))
    with pytest.raises(torch.OutOfMemoryError):
        find_values(lm, FACTS, CONTEXTS, 1, GOAL, "mlp")


@PLACES
@pytest.mark.parametrize("layer", [0, 2])
def test_the_first_and_the_last_layer(layer, place, plain_value):
    lm = tiny_lm("gpt2")
    (found,) = find_values(lm, FACTS[:1], CONTEXTS, layer, GOAL, place)
    expected = plain_value(lm, FACTS[0], CONTEXTS, layer, place, **dataclasses.asdict(GOAL))
    assert apart(found.delta, expected[1]) < 1e-5


@pytest.mark.parametrize("family", ["gpt2", "gptj", "qwen2"])
def test_a_subject_that_nothing_stands_before(family, plain_value):
    lm = tiny_lm(family)
    fact = Fact("One", "{} wrote", "Paris")
    assert len(lm.codec.prompt(fact.subject)) == 1
    (found,) = find_values(lm, [fact], ("{}",), 1, GOAL, "mlp")
    _, delta, _ = plain_value(lm, fact, ("{}",), 1, "mlp", **dataclasses.asdict(GOAL))
    assert apart(found.delta, delta) < 1e-5


@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral", "gemma2", "opt"])
def test_rows_of_equal_length_that_need_no_padding(family, plain_value):
    lm = tiny_lm(family)
    fact = next(
        fact
        for prompt in ("{} is a", "{}")
        for target in ("and", "w")
        for fact in [Fact("Peru", prompt, target)]
        if len(row(lm, fact, "{}", target_ids(fact, lm)).ids) == len(drift_row(lm, fact).ids)
    )
    (found,) = find_values(lm, [fact], ("{}",), 1, GOAL, "mlp")
    _, delta, _ = plain_value(lm, fact, ("{}",), 1, "mlp", **dataclasses.asdict(GOAL))
    assert apart(found.delta, delta) < 1e-5


# the terms of the loss


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt"])
def test_the_loss_without_delta_is_that_of_logprob(family):
    lm = tiny_lm(family)
    found = find_values(lm, FACTS, CONTEXTS, 1, GOAL, "stream")
    for fact, value in zip(FACTS, found, strict=True):
        prompts = [context.replace("{}", fact.text) for context in CONTEXTS]
        scores = lm.logprob(prompts, [f" {fact.target}"] * len(prompts), batch_size=1)
        each = [-score.total / len(target_ids(fact, lm)) for score in scores]
        assert value.first == pytest.approx(sum(each) / len(each), abs=2e-5)


def test_drift_and_decay_are_nothing_at_first_and_hold_delta_back_later():
    lm = tiny_lm("gpt2")
    free = goal(drift=0.0, decay=0.0, clamp=9.0)
    base = find_values(lm, FACTS, CONTEXTS, 1, free, "mlp")
    for changes in ({"drift": 1e3}, {"decay": 1e3}):
        held = find_values(lm, FACTS, CONTEXTS, 1, dataclasses.replace(free, **changes), "mlp")
        for one, other in zip(base, held, strict=True):
            assert one.first == pytest.approx(other.first, abs=1e-5)
            assert one.last < one.first
            assert apart(one.delta, other.delta) > 0.1


def test_the_kl_divergence_is_from_the_clean_distribution(plain_value):
    lm = tiny_lm("gpt2")
    strong = goal(drift=20.0, clamp=9.0)
    found = find_values(lm, FACTS, CONTEXTS, 1, strong, "mlp")
    for fact, value in zip(FACTS, found, strict=True):
        _, delta, losses = plain_value(lm, fact, CONTEXTS, 1, "mlp", **dataclasses.asdict(strong))
        assert value.last == pytest.approx(losses[-1], rel=1e-5)
        assert apart(value.delta, delta) < 2e-5


@PLACES
@pytest.mark.parametrize("family", ["gpt2", "gemma2", "opt"])
def test_v0_is_what_the_plain_model_computes(family, place):
    lm = tiny_lm(family)
    module = lm.layout.site(lm.model, 1).module
    module = module if place == "mlp" else lm.layout.layers(lm.model)[1]
    for fact, value in zip(FACTS, alone(lm, FACTS, GOAL, place), strict=True):
        encoded = lm.tokenizer(fact.text)
        place_of = encoded.char_to_token(fact.text.index(fact.subject) + len(fact.subject) - 1)
        with torch.no_grad(), capture(module) as seen:
            lm.model(input_ids=torch.tensor([encoded.input_ids]))
        width = seen[0].shape[-1]
        torch.testing.assert_close(
            value.clean, seen[0].reshape(-1, width)[place_of], atol=2e-5, rtol=1e-5
        )


# bounds


def test_one_evaluation_takes_no_step():
    lm = tiny_lm("gpt2")
    for value in find_values(lm, FACTS, CONTEXTS, 1, goal(steps=1), "mlp"):
        assert not value.delta.any()
        assert torch.equal(value.target, value.clean)
        assert (value.steps, value.last) == (1, value.first)
    assert all(v.delta.any() for v in find_values(lm, FACTS, CONTEXTS, 1, goal(steps=2), "mlp"))


@PLACES
@pytest.mark.parametrize("clamp", [0.0, 0.25, 1e6])
def test_delta_is_clamped(clamp, place):
    lm = tiny_lm("gpt2")
    free = find_values(lm, FACTS, CONTEXTS, 1, goal(clamp=math.inf), place)
    assert all(value.delta.norm() > 0.3 * value.clean.norm() for value in free)
    found = find_values(lm, FACTS, CONTEXTS, 1, goal(clamp=clamp), place)
    for value, unbound in zip(found, free, strict=True):
        size = float(value.delta.norm() / value.clean.norm())
        if clamp == 1e6:
            assert torch.equal(value.delta, unbound.delta)
        else:
            assert size == pytest.approx(clamp, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("lr", -0.5), ("clamp", -1.0), ("decay", math.nan), ("drift", -1e-9)],
)
def test_settings_that_are_not_allowed(name, value):
    with pytest.raises(BadInput, match=rf"{name} is {value}; allowed"):
        Objective(**{name: value})


# the model


@PLACES
@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_the_model_is_only_read(family, place):
    lm = tiny_lm(family)
    parameters = list(lm.model.parameters())
    parameters[0].requires_grad_(False)
    parameters[1].grad = torch.ones_like(parameters[1])
    flags, before = [p.requires_grad for p in parameters], state_hash(lm)
    state = torch.random.get_rng_state()
    (found, *_) = find_values(lm, FACTS, CONTEXTS, 1, GOAL, place)
    assert found.delta.any()
    assert state_hash(lm) == before
    assert [p.requires_grad for p in parameters] == flags
    assert torch.equal(parameters[1].grad, torch.ones_like(parameters[1]))
    assert all(p.grad is None for p in parameters[:1] + parameters[2:])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in lm.model.modules())
    assert not found.delta.requires_grad


def test_a_model_in_half_precision_is_searched_in_single():
    lm = tiny_lm("llama")
    exact = find_values(lm, FACTS, CONTEXTS, 1, GOAL, "mlp")
    lm.model.bfloat16()
    for value, expected in zip(
        find_values(lm, FACTS, CONTEXTS, 1, GOAL, "mlp"), exact, strict=True
    ):
        assert value.delta.dtype == value.clean.dtype == torch.float32
        assert value.last < value.first
        assert apart(value.clean, expected.clean) < 0.05
        assert torch.cosine_similarity(value.delta, expected.delta, dim=0) > 0.8
