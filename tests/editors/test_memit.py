"""MEMIT's least squares, by independent computation: normal equations, spreading, history."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from memkit import MEMIT, Guards, Statistics, load_edit
from memkit.editors.reading import streams
from memkit.editors.spread import mean_keys, new_columns
from memkit.editors.values import Objective, find_values
from memkit.errors import BadInput
from memkit.lm.hooks import capture
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm
from memkit.types import Fact

FACTS = (
    Fact("Samuel Butler", "{} wrote", "Paris"),
    Fact("Peru", "The capital of {} is", "numbers and words"),
    Fact("France", "The capital of {} is", "Lima"),
    Fact("Erewhon", "{} was written by", "One, two"),
)
CONTEXTS = ("{}", "One, two. {}", "Who wrote? {}")
STATISTICS = Statistics(tokens=400, ridge=1e-2)
OPEN = Guards(perplexity=math.inf, size=math.inf)
GOAL = {"steps": 6, "lr": 0.5, "clamp": 2.0, "decay": 0.5, "drift": 0.0625, "stop": 0.05}
EDITOR = MEMIT(
    layers=(1,), weight=1.0, contexts=CONTEXTS, statistics=STATISTICS, guards=OPEN, **GOAL
)


def editor(**changes):
    return dataclasses.replace(EDITOR, **changes)


def weight_of(lm, layer=1):
    return lm.layout.site(lm.model, layer).weight.double().clone()


def second_moment(lm, layer=1):
    (moments,) = STATISTICS.collect(lm, [lm.layout.site(lm.model, layer)])
    C = moments.matrix
    return C + STATISTICS.ridge * C.trace() / len(C) * torch.eye(len(C), dtype=torch.float64)


def keys_of(lm, facts, layer=1):
    """K [d_in, facts] of whole passes: half the bare key, half the mean behind the contexts."""
    site, columns = lm.layout.site(lm.model, layer), []
    for fact in facts:
        keys = []
        for context in CONTEXTS:
            text = context.replace("{}", fact.text)
            end = text.rindex(fact.subject) + len(fact.subject) - 1
            encoded = lm.tokenizer(text)
            with torch.no_grad(), capture(site.module, "input") as seen:
                lm.model(input_ids=torch.tensor([encoded.input_ids]))
            keys.append(seen[0].reshape(len(encoded.input_ids), -1)[encoded.char_to_token(end)])
        columns.append(keys[0] / 2 + torch.stack(keys[1:]).mean(dim=0) / 2)
    return torch.stack(columns, dim=1).double()


def values_of(lm, facts, layer=1):
    found = find_values(lm, facts, CONTEXTS, layer, Objective(**GOAL), "stream")
    return torch.stack([value.target for value in found]).double()


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


# the solve


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("weight", [1e-9, 1e-3, 1.0, 15_000.0])
@pytest.mark.parametrize(("past", "count"), [(0, 1), (0, 5), (12, 5), (0, 24), (100, 7)])
def test_the_normal_equations_hold(weight, past, count):
    d_in, d_out = 24, 9
    factor = drawn(d_in, 60)
    C, keys = factor @ factor.T / 60, drawn(d_in, past + count, seed=1)
    R = drawn(d_out, count, seed=2)
    columns = new_columns(lambda P: torch.linalg.solve(weight * C, P), keys, count)
    change, wanted = R @ columns.T, R @ keys[:, past:].T
    assert columns.dtype == torch.float64
    assert relative(change @ (weight * C + keys @ keys.T), wanted) < 1e-8


@pytest.mark.parametrize("weight", [1e-9, 1e-3, 1.0])
def test_equal_keys_are_no_harm(weight):
    factor, keys = drawn(24, 60), drawn(24, 6, seed=1)
    keys[:, 4], keys[:, 3], keys[:, 5] = keys[:, 1], keys[:, 0] * (1 + 1e-8), 0
    A, R = weight * factor @ factor.T, drawn(9, 6, seed=2)
    change = R @ new_columns(lambda P: torch.linalg.solve(A, P), keys, 6).T
    assert relative(change @ (A + keys @ keys.T), R @ keys.T) < 1e-8
    assert not new_columns(lambda P: P, torch.zeros(24, 2, dtype=torch.float64), 2).any()


def test_the_bare_prompts_key_counts_half():
    keys = drawn(3, 6, 5)
    weights = torch.tensor([0.5, *[0.1] * 5], dtype=torch.float64)
    torch.testing.assert_close(mean_keys(keys), torch.einsum("fcd,c->fd", keys, weights))
    assert torch.equal(mean_keys(keys[:, :1]), keys[:, 0])


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt", "gemma2"])
@pytest.mark.parametrize("weight", [1e-3, 100.0])
def test_the_written_change_solves_them(family, weight):
    lm = tiny_lm(family)
    old, C, K = weight_of(lm), second_moment(lm), keys_of(lm, FACTS)
    R = (values_of(lm, FACTS) - streams(lm, FACTS, 1)).T
    with editor(weight=weight).apply(lm, FACTS) as edit:
        change = weight_of(lm) - old
        assert relative(change @ (weight * C + K @ K.T), R @ K.T) < 1e-4  # of keys in float32
        assert relative(change, R @ torch.linalg.solve(weight * C + K @ K.T, K).T) < 1e-4
        assert [row.details["steps"] for row in edit.report.facts] == [6] * 4


def test_one_fact_goes_as_far_as_the_weight_lets_it(lm):
    old, C, K = weight_of(lm), second_moment(lm), keys_of(lm, FACTS[:1])
    r = (values_of(lm, FACTS[:1]) - streams(lm, FACTS[:1], 1))[0]
    key = K[:, 0]
    s = float(key @ torch.linalg.solve(C, key))
    for weight in (1e-9, 1.0, s, 100 * s):
        with editor(weight=weight).apply(lm, FACTS[:1]):
            assert relative((weight_of(lm) - old) @ key, r * s / (weight + s)) < 1e-5


def test_the_stream_reaches_its_target_at_a_vanishing_weight():
    bare = editor(contexts=("{}",), weight=1e-9)
    for layers in ((1,), (0, 1, 2)):
        lm = tiny_lm("gpt2")
        found = find_values(lm, FACTS, ("{}",), layers[-1], Objective(**GOAL), "stream")
        wanted = torch.stack([value.target for value in found]).double()
        assert relative(streams(lm, FACTS, layers[-1]), wanted) > 0.02
        with dataclasses.replace(bare, layers=layers).apply(lm, FACTS) as edit:
            assert relative(streams(lm, FACTS, layers[-1]), wanted) < 1e-4
            assert all(row.details["residual / delta"] < 1e-3 for row in edit.report.facts)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_several_layers_share_what_is_left(family):
    """Each layer by hand, on a second model to which the changes of those below are added."""
    lm, other, layers = tiny_lm(family), tiny_lm(family), (0, 1, 2)
    old = [weight_of(lm, layer) for layer in layers]
    moments = [second_moment(lm, layer) for layer in layers]
    wanted = values_of(lm, FACTS, layer=2)
    editor(layers=layers).apply(lm, FACTS)
    for place, layer in enumerate(layers):
        K = keys_of(other, FACTS, layer)
        left = (wanted - streams(other, FACTS, 2)).T / (3 - place)
        expected = left @ torch.linalg.solve(moments[place] + K @ K.T, K).T
        assert relative(weight_of(lm, layer) - old[place], expected) < 1e-3
        other.layout.site(other.model, layer).weight.copy_(weight_of(lm, layer))


# batches


def test_the_order_of_a_batch_does_not_count():
    changes = []
    for facts in (FACTS, FACTS[::-1], (*FACTS[2:], *FACTS[:2])):
        lm = tiny_lm("gpt2")
        old = [weight_of(lm, layer) for layer in (0, 1)]
        edit = editor(layers=(0, 1)).apply(lm, facts)
        changes.append(torch.cat([weight_of(lm, n) - old[n] for n in (0, 1)]))
        assert [row.fact for row in edit.report.facts] == list(facts)
    assert relative(changes[1], changes[0]) < 1e-4
    assert relative(changes[2], changes[0]) < 1e-4


BATCHES = (FACTS[:2], FACTS[2:3], FACTS[3:])


def in_batches(lm, weight, history):
    """The edit of all batches, and each one's keys and targets (of the map's output, no bias)."""
    keys, targets, before = [], [], weight_of(lm)
    edit = None
    for batch in BATCHES:
        K = keys_of(lm, batch)
        R = (values_of(lm, batch) - streams(lm, batch, 1)).T
        targets.append(before @ K + R)
        keys.append(K)
        if edit is None:
            edit = editor(weight=weight, history=history).apply(lm, batch)
        else:
            edit.add(batch)
        before = weight_of(lm)
    return edit, keys, targets


def test_a_sequence_with_history_is_the_joint_solution(lm):
    old, C = weight_of(lm), second_moment(lm)
    _, keys, targets = in_batches(lm, 1e-2, history=True)
    K, V = torch.cat(keys, dim=1), torch.cat(targets, dim=1)
    joint = (V - old @ K) @ torch.linalg.solve(1e-2 * C + K @ K.T, K).T
    assert relative(weight_of(lm) - old, joint) < 1e-4


def test_a_sequence_without_history_forgets():
    rest = {}
    for history in (True, False):
        lm = tiny_lm("gpt2")
        _, keys, targets = in_batches(lm, 1e-4, history)
        rest[history] = relative(weight_of(lm) @ keys[0], targets[0])
    assert rest[True] < 1e-2
    assert rest[False] > 10 * rest[True]


def test_history_is_undone_saved_and_loaded_with_the_steps(lm, tmp_path):
    edit, _, _ = in_batches(lm, 1e-2, history=True)
    final = state_hash(lm)
    edit.undo()
    edit.save(tmp_path / "edit")
    edit.add(BATCHES[2])
    assert state_hash(lm) == final
    edit.rollback()
    again = load_edit(tmp_path / "edit").apply(lm)
    assert [sorted(step.state) for step in again.steps] == [["keys.transformer.h.1.mlp.c_proj"]] * 2
    again.add(BATCHES[2])
    expected = weight_of(lm)
    again.rollback()
    in_batches(lm, 1e-2, history=True)
    assert relative(weight_of(lm), expected) < 1e-6


def test_the_same_facts_again_change_little(lm):
    """The keys are there already, so that the second step keeps what the first wrote."""
    with editor(weight=1e-6).apply(lm, FACTS) as edit:
        first = [row.after for row in edit.report.facts]
        edit.add(FACTS)
        again = edit.report.facts[4:]
        assert [row.before for row in again] == pytest.approx(first, abs=1e-4)
        assert sum(row.after for row in again) > sum(first) - 0.1


# what is asked for


def test_contexts_are_memits_own_where_none_are_given(lm):
    with editor(contexts=None, steps=2).apply(lm, FACTS[:1]) as edit:
        assert len(edit.memo["contexts"]) == 6


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"layers": ()}, r"layers is \(\); allowed: a tuple of at least one, in ascending order"),
        ({"layers": (1, 0)}, r"layers is \(1, 0\)"),
        ({"layers": (1, 1)}, r"layers is \(1, 1\)"),
        ({"layers": (1, 3)}, "layer is 3; allowed: 0 to 2"),
        ({"weight": 0.0}, r"weight is 0\.0; allowed: a number above 0"),
        ({"weight": math.nan}, "weight is nan"),
        ({"contexts": ("One. {}",)}, "contexts is"),
        ({"statistics": Statistics(tokens=20)}, "second moment of .* is singular"),
    ],
)
def test_values_that_are_not_allowed(lm, values, said):
    before = state_hash(lm)
    with pytest.raises(BadInput, match=said):
        editor(**values).apply(lm, FACTS[:1])
    assert state_hash(lm) == before
    assert lm.edits == []
