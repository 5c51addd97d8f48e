"""ROME's formulae, by independent computation: from the weights, the keys and the moments."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from memkit import MEMIT, ROME, Guards, Statistics
from memkit.editors import rome
from memkit.editors.contexts import rome_contexts
from memkit.editors.reading import context_keys
from memkit.editors.values import Objective, find_values
from memkit.errors import BadInput, EditRejected
from memkit.lm.hooks import capture
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm
from memkit.types import Fact

FACTS = (
    Fact("Samuel Butler", "{} wrote", "Paris"),
    Fact("Peru", "The capital of {} is", "numbers and words"),
    Fact("France", "The capital of {} is", "Lima"),
)
CONTEXTS = ("{}", "One, two. {}", "Who wrote? {}")
STATISTICS = Statistics(tokens=400, ridge=1e-2)
OPEN = Guards(perplexity=math.inf, size=math.inf)
GOAL = {"steps": 8, "lr": 0.5, "clamp": 2.0, "decay": 0.5, "drift": 0.0625, "stop": 0.05}
EDITOR = ROME(layer=1, contexts=CONTEXTS, statistics=STATISTICS, guards=OPEN, **GOAL)
FAMILIES = ("gpt2", "llama", "gptj", "opt", "gemma2")
VARIANTS = ("r", "official", "p")


def variant(name, **changes):
    return dataclasses.replace(EDITOR, variant=name, **changes)


def site_of(lm):
    return lm.layout.site(lm.model, 1)


def weight_of(lm):
    return site_of(lm).weight.double().clone()


def keys_of(lm, fact, contexts=CONTEXTS):
    """Keys [contexts, d_in] at the subject's last token, of whole passes, one row at a time."""
    keys = []
    for context in contexts:
        text = context.replace("{}", fact.text)
        end = text.rindex(fact.subject) + len(fact.subject) - 1
        encoded = lm.tokenizer(text)
        with torch.no_grad(), capture(site_of(lm).module, "input") as seen:
            lm.model(input_ids=torch.tensor([encoded.input_ids]))
        keys.append(seen[0].reshape(len(encoded.input_ids), -1)[encoded.char_to_token(end)])
    return torch.stack(keys).double()


def second_moment(lm):
    (moments,) = STATISTICS.collect(lm, [site_of(lm)])
    C = moments.matrix
    return C + STATISTICS.ridge * C.trace() / len(C) * torch.eye(len(C), dtype=torch.float64)


def output(lm, weight, key):
    bias = site_of(lm).bias
    return weight @ key + (0 if bias is None else bias.double())


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


# the update


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_edited_weight_sends_the_key_to_the_value(family, name):
    lm = tiny_lm(family)
    old, keys = weight_of(lm), keys_of(lm, FACTS[0])
    (value,) = find_values(lm, FACTS[:1], CONTEXTS, 1, Objective(**GOAL), "mlp")
    key = keys.mean(dim=0) if name == "r" else keys[0]
    with variant(name).apply(lm, FACTS[:1]) as edit:
        target = value.target.double()
        assert relative(output(lm, old, key), target) > 0.1
        assert relative(output(lm, weight_of(lm), key), target) < 1e-5
        details = edit.report.facts[0].details
        assert details["loss before"] == value.first
        assert details["loss"] == value.last
        assert details["steps"] == 8
        assert details["delta / v0"] == pytest.approx(
            float(value.delta.norm() / value.clean.norm())
        )


@pytest.mark.parametrize("name", ["official", "p"])
def test_the_edited_model_computes_the_value_after_the_bare_prompt(name):
    lm = tiny_lm("gpt2")
    (value,) = find_values(lm, FACTS[:1], CONTEXTS, 1, Objective(**GOAL), "mlp")
    with variant(name).apply(lm, FACTS[:1]) as edit:
        (again,) = find_values(lm, FACTS[:1], CONTEXTS, 1, Objective(steps=1), "mlp")
        assert relative(again.clean, value.target) < 1e-5
        assert edit.report.facts[0].after > edit.report.facts[0].before + 0.1


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_update_has_rank_one_and_its_rows_are_along_the_solved_key(family, name):
    lm = tiny_lm(family)
    old, keys, C = weight_of(lm), keys_of(lm, FACTS[0]), second_moment(lm)
    mean = keys[0] if name == "p" else keys.mean(dim=0)
    with variant(name).apply(lm, FACTS[:1]) as edit:
        _, sizes, rows = torch.linalg.svd(weight_of(lm) - old)
        assert sizes[0] > 0.1
        assert sizes[1] < 1e-5 * sizes[0]
        direction = torch.linalg.solve(C, mean)
        direction = direction / direction.norm()
        assert abs(float(rows[0] @ direction)) == pytest.approx(1, abs=1e-9)
        assert abs(float(rows[0] @ mean / mean.norm())) < 0.9  # C is not the identity
        key = mean if name == "r" else keys[0]
        assert edit.report.facts[0].details["divisor"] == pytest.approx(
            float(key @ direction), rel=1e-5
        )


@pytest.mark.parametrize("name", VARIANTS)
def test_the_scale_of_the_second_moment_does_not_count(lm, name, monkeypatch):
    start = weight_of(lm)
    with variant(name).apply(lm, FACTS):
        expected = weight_of(lm) - start
    collect = Statistics.collect

    def scaled(recipe, lm, sites):
        found = collect(recipe, lm, sites)
        return [dataclasses.replace(one, matrix=one.matrix * 7) for one in found]

    monkeypatch.setattr(Statistics, "collect", scaled)
    other = tiny_lm("gpt2")
    with variant(name).apply(other, FACTS):
        assert relative(weight_of(other) - start, expected) < 1e-6
    monkeypatch.setattr(
        Statistics, "collect", lambda *args: [turned(one) for one in collect(*args)]
    )
    other = tiny_lm("gpt2")
    with variant(name).apply(other, FACTS):
        assert relative(weight_of(other) - start, expected) > 0.1  # its directions do


def turned(moments):
    return dataclasses.replace(moments, matrix=moments.matrix.flip(0).flip(1).contiguous())


def test_several_facts_are_written_one_after_another():
    lm, other = tiny_lm("gpt2"), tiny_lm("gpt2")
    EDITOR.apply(lm, FACTS)
    edit = EDITOR.apply(other, FACTS[:1])
    first = weight_of(other)
    for fact in FACTS[1:]:
        edit.add([fact])
    torch.testing.assert_close(weight_of(lm), weight_of(other), rtol=0, atol=1e-6)
    assert relative(weight_of(other), first) > 0.01
    key = keys_of(other, FACTS[2]).mean(dim=0)
    value = output(other, weight_of(other), key)
    edit.undo()
    (wanted,) = find_values(other, FACTS[2:], CONTEXTS, 1, Objective(**GOAL), "mlp")
    assert relative(value, wanted.target.double()) < 1e-5  # of the model with the others in it


def test_moments_are_those_of_the_model_before_the_handle(lm, monkeypatch):
    calls, collect = [], Statistics.collect

    def counted(recipe, lm, sites):
        calls.append(lm.fingerprint())
        return collect(recipe, lm, sites)

    monkeypatch.setattr(Statistics, "collect", counted)
    base = lm.fingerprint()
    with EDITOR.apply(lm, FACTS[:1]) as edit:
        edit.add(FACTS[1:])
        assert calls == [base]
        inner = EDITOR.apply(lm, FACTS[:1])  # another handle's base is the edited model
        assert len(calls) == 2
        assert calls[1] != base
        inner.rollback()
    with EDITOR.apply(lm, FACTS[:1]):
        assert len(calls) <= 3


# beside the other methods, and the published code


@pytest.mark.parametrize("family", ["gpt2", "llama", "gptj"])
def test_r_is_memit_of_one_fact_and_one_layer_at_a_vanishing_weight(family):
    changes = []
    free = {**GOAL, "decay": 0.0, "clamp": 1e6, "stop": 0.0, "steps": 4}
    common = {"contexts": ("{}",), "statistics": STATISTICS, "guards": OPEN, **free}
    for editor in (
        ROME(layer=1, **common),
        MEMIT(layers=(1,), weight=1e-9, **common),
        MEMIT(layers=(1,), weight=10.0, **common),
    ):
        lm = tiny_lm(family)
        old = weight_of(lm)
        editor.apply(lm, FACTS[:1])
        changes.append(weight_of(lm) - old)
    assert relative(changes[1], changes[0]) < 1e-5
    assert relative(changes[2], changes[0]) > 0.01


def published(lm, plain_value, fact):
    """ROME's rank-one change as the published code makes it, in float32, for the official keys."""
    C = second_moment(lm).float()
    keys = keys_of(lm, fact).float()
    u = C.inverse() @ keys.mean(dim=0)
    u = u / u.norm()
    v0, delta, _ = plain_value(lm, fact, CONTEXTS, 1, "mlp", **GOAL)
    with torch.no_grad():
        site = site_of(lm)
        now = site.weight @ keys[0] + (0 if site.bias is None else site.bias)
        return torch.outer((v0 + delta - now) / torch.dot(keys[0], u), u).double()


@pytest.mark.parametrize("family", ["gpt2", "llama", "gptj", "qwen2"])
def test_official_is_the_published_code(family, plain_value):
    lm = tiny_lm(family)
    old = weight_of(lm)
    expected = [published(lm, plain_value, fact) for fact in FACTS]
    for fact, change in zip(FACTS, expected, strict=True):
        with variant("official").apply(lm, [fact]):
            assert relative(weight_of(lm) - old, change) < 1e-4
        with EDITOR.apply(lm, [fact]):
            assert relative(weight_of(lm) - old, change) > 1e-2


# guards


def test_keys_that_disagree_are_refused(monkeypatch):
    lm = tiny_lm("gpt2")
    before = state_hash(lm)

    def disagreeing(*args):
        keys = context_keys(*args)
        (moments,) = STATISTICS.collect(lm, [site_of(lm)])
        bare = keys[0, 0]
        solved = moments.solve(bare[:, None])[:, 0]
        other = torch.linspace(-1, 1, len(bare), dtype=torch.float64)
        share = 0.02  # of the bare key is left in the mean, the rest is C-orthogonal to it
        other = other - bare * (other @ solved) / (bare @ solved)
        mean = other / (other @ moments.solve(other[:, None])[:, 0]).sqrt()
        mean = mean * (bare @ solved).sqrt() + share * bare
        rest = (mean * keys.shape[1] - bare) / (keys.shape[1] - 1)
        return torch.cat([bare[None, None], rest.expand(1, keys.shape[1] - 1, -1)], dim=1)

    monkeypatch.setattr(rome, "context_keys", disagreeing)
    with pytest.raises(EditRejected, match=r"divisor k\.u of 'Samuel Butler wrote' is 0\.0"):
        variant("official").apply(lm, FACTS[:1])
    assert state_hash(lm) == before
    for name in ("r", "p"):
        with variant(name).apply(lm, FACTS[:1]) as edit:
            assert edit.report.warnings == ()
    told = variant("official", on_guard="warn")
    with told.apply(lm, FACTS[:1]) as edit:
        (warning,) = edit.report.warnings
        assert "allowed: at least 0.05 (Guards.divisor)" in warning
        assert abs(edit.report.facts[0].details["divisor"]) > 0
    off = dataclasses.replace(told, guards=dataclasses.replace(OPEN, divisor=0.0))
    with off.apply(lm, FACTS[:1]) as edit:
        assert edit.report.warnings == ()


def test_a_singular_second_moment_is_refused_and_nothing_is_written(lm):
    before = state_hash(lm)
    few = dataclasses.replace(EDITOR, statistics=Statistics(tokens=20))
    with pytest.raises(BadInput, match=r"the second moment of .* is singular"):
        few.apply(lm, FACTS[:1])
    assert state_hash(lm) == before
    assert lm.edits == []


def test_the_identity_is_an_ablation_that_is_named(lm):
    old, keys = weight_of(lm), keys_of(lm, FACTS[0])
    editor = dataclasses.replace(EDITOR, statistics=Statistics(identity=True))
    with editor.apply(lm, FACTS[:1]) as edit:
        _, _, rows = torch.linalg.svd(weight_of(lm) - old)
        mean = keys.mean(dim=0)
        assert abs(float(rows[0] @ mean / mean.norm())) == pytest.approx(1, abs=1e-9)
        assert "identity=True" in edit.report.editor


# what is asked for


def test_a_target_that_is_the_present_answer_is_reported_as_known(lm):
    (answer,) = lm.generate(["Samuel Butler wrote "], 1, stop=())
    fact = Fact("Samuel Butler", "{} wrote ", answer)
    with EDITOR.apply(lm, [fact, FACTS[1]]) as edit:
        assert [row.known for row in edit.report.facts] == [True, False]
        assert "known before" in str(edit.report)


def test_contexts_are_the_models_own_where_none_are_given(lm):
    contexts = rome_contexts(lm, seed=3)
    assert len(contexts) == 21
    texts = dataclasses.replace(EDITOR, contexts=contexts, steps=2)
    with texts.apply(lm, FACTS[:2]):
        expected = weight_of(lm)
    editor = dataclasses.replace(texts, contexts=None, seed=3)
    with editor.apply(lm, FACTS[:1]) as edit:
        edit.add(FACTS[1:2])  # the base model's, though the model has changed
        assert torch.equal(weight_of(lm), expected)


@pytest.mark.parametrize(
    "contexts",
    [(), ("One. {}",), ("One. {}", "{}"), ("{}", "One."), ("{}", "{} {}")],
)
def test_contexts_that_are_not_allowed(contexts):
    with pytest.raises(BadInput, match="contexts is"):
        ROME(contexts=contexts)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"variant": "q"}, "variant is 'q'; allowed: 'r', 'official' or 'p'"),
        ({"layer": 3}, "layer is 3; allowed: 0 to 2"),
        ({"layer": -1}, "layer is -1; allowed: 0 to 2"),
        ({"steps": 0}, "steps is 0; allowed: 1 or more"),
        ({"clamp": -1.0}, r"clamp is -1\.0; allowed"),
    ],
)
def test_values_that_are_not_allowed(lm, values, said):
    before = state_hash(lm)
    with pytest.raises(BadInput, match=said):
        dataclasses.replace(EDITOR, **values).apply(lm, FACTS[:1])
    assert state_hash(lm) == before
