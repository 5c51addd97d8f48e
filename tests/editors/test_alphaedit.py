"""AlphaEdit's projection and solve, by independent computation."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from memkit import AlphaEdit, Guards, Statistics
from memkit.editors import alphaedit
from memkit.editors.alphaedit import null_space
from memkit.editors.reading import context_keys, streams
from memkit.editors.spread import mean_keys
from memkit.editors.values import Objective, find_values
from memkit.errors import BadInput
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm
from memkit.types import Fact

FACTS = (
    Fact("Samuel Butler", "{} wrote", "Paris"),
    Fact("Peru", "The capital of {} is", "numbers and words"),
    Fact("France", "The capital of {} is", "Lima"),
)
CONTEXTS = ("{}", "One, two. {}", "Who wrote? {}")
STATISTICS = Statistics(tokens=400)
OPEN = Guards(perplexity=math.inf, size=math.inf)
GOAL = {"steps": 6, "lr": 0.5, "clamp": 2.0, "decay": 0.5, "drift": 0.0625, "stop": 0.05}
EDITOR = AlphaEdit(
    layers=(1,),
    null_share=0.5,
    ridge=0.1,
    contexts=CONTEXTS,
    statistics=STATISTICS,
    guards=OPEN,
    **GOAL,
)


def editor(**changes):
    return dataclasses.replace(EDITOR, **changes)


def weight_of(lm, layer=1):
    return lm.layout.site(lm.model, layer).weight.double().clone()


def moments_of(lm, layer=1):
    (moments,) = STATISTICS.collect(lm, [lm.layout.site(lm.model, layer)])
    return moments


def projector(lm, share=0.5, layer=1):
    """P from the singular vectors of C."""
    C = moments_of(lm, layer).matrix
    vectors, _, _ = torch.linalg.svd(C)
    kept = vectors[:, len(C) - round(share * len(C)) :]
    return kept @ kept.T


def keys_and_residuals(lm, facts, layer=1):
    site = lm.layout.site(lm.model, layer)
    found = find_values(lm, facts, CONTEXTS, layer, Objective(**GOAL), "stream")
    wanted = torch.stack([value.target for value in found]).double()
    keys = mean_keys(context_keys(lm, facts, CONTEXTS, site))
    return keys.T, (wanted - streams(lm, facts, layer)).T


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


# the null space


def test_the_projector_is_one(lm):
    moments = moments_of(lm)
    values = torch.linalg.eigvalsh(moments.matrix)
    threshold = float(values[10] + values[11]) / 2
    for share, rank in [(None, 11), (0.25, 10), (1.0, 40)]:
        basis = null_space(moments, threshold, share)
        P = basis @ basis.T
        assert basis.shape == (40, rank)
        torch.testing.assert_close(P @ P, P, rtol=0, atol=1e-12)
        torch.testing.assert_close(P, P.T, rtol=0, atol=1e-15)
        assert float(P.trace()) == pytest.approx(rank)
        if rank < 40:  # what lies within is reached by the keys less than what lies without
            within = float((P @ moments.matrix @ P).norm())
            assert within <= float(values[rank - 1]) * rank
            torch.testing.assert_close(P @ moments.matrix, moments.matrix @ P)


def test_a_singular_moment_has_the_null_space_that_its_keys_leave(lm):
    (moments,) = Statistics(tokens=20).collect(lm, [lm.layout.site(lm.model, 1)])
    basis = null_space(moments, 1e-9)
    rank = int(torch.linalg.matrix_rank(moments.matrix))
    assert rank <= 20
    assert basis.shape[1] == 40 - rank
    assert float((moments.matrix @ basis).norm()) < 1e-9


def test_an_empty_null_space_is_refused_and_nothing_is_written(lm):
    before = state_hash(lm)
    least = float(torch.linalg.eigvalsh(moments_of(lm).matrix)[0])
    for values in ({"threshold": least / 2, "null_share": None}, {"null_share": 0.01}):
        with pytest.raises(
            BadInput, match=r"null space of transformer\.h\.1\.mlp\.c_proj is empty"
        ):
            editor(**values).apply(lm, FACTS)
        assert state_hash(lm) == before
        assert lm.edits == []
    with editor(threshold=least * 1.01, null_share=None).apply(lm, FACTS[:1]) as edit:
        assert edit.report.chosen["null space"] == "1 of 40 dimensions"


# the update


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt"])
def test_the_update_lies_within_the_null_space(family):
    lm = tiny_lm(family)
    old, P = weight_of(lm), projector(lm)
    with editor().apply(lm, FACTS[:2]) as edit:
        edit.add(FACTS[2:])
        change = weight_of(lm) - old
        assert change.norm() > 0.1
        assert relative(change @ P, change) < 1e-5
        outside = torch.eye(40, dtype=torch.float64) - P
        kept = outside @ torch.linspace(-1, 1, 40, dtype=torch.float64)
        assert float((P @ kept).norm()) < 1e-9 < float(kept.norm())
        assert float((change @ kept).norm()) < 1e-5 * float(change.norm() * kept.norm())
        assert edit.report.chosen["null space"] == "20 of 40 dimensions"


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_update_is_the_papers(family, share):
    lm = tiny_lm(family)
    eye = torch.eye(40, dtype=torch.float64)
    P = projector(lm, share) if share < 1 else eye
    old, ridge, past = weight_of(lm), 0.1, torch.zeros(40, 40, dtype=torch.float64)
    edit = None
    for batch in (FACTS[:2], FACTS[2:]):
        K, R = keys_and_residuals(lm, batch)
        expected = R @ K.T @ P @ torch.linalg.inv(past @ P + K @ K.T @ P + ridge * eye)
        if edit is None:
            edit = editor(null_share=share, ridge=ridge).apply(lm, batch)
            if share == 1:  # without history and with all directions: ridge regression
                plain = R @ K.T @ torch.linalg.inv(K @ K.T + ridge * eye)
                assert relative(weight_of(lm) - old, plain) < 1e-4
        else:
            edit.add(batch)
        assert relative(weight_of(lm) - old, expected) < 1e-4
        old, past = weight_of(lm), past + K @ K.T


def test_earlier_keys_are_kept_where_the_second_batch_would_move_them():
    rest = {}
    for fresh in (False, True):
        lm = tiny_lm("gpt2")
        few = editor(null_share=1.0, ridge=1e-3)
        K, R = keys_and_residuals(lm, FACTS[:2])
        wanted = weight_of(lm) @ K + R
        edit = few.apply(lm, FACTS[:2])
        few.apply(lm, FACTS[2:]) if fresh else edit.add(FACTS[2:])
        rest[fresh] = relative(weight_of(lm) @ K, wanted)
    assert rest[False] < 1e-2
    assert rest[True] > 3 * rest[False]


def test_the_basis_is_computed_once_for_a_model(lm, monkeypatch):
    calls = []

    def counted(*args):
        calls.append(args)
        return null_space(*args)

    monkeypatch.setattr(alphaedit, "null_space", counted)
    with editor(layers=(0, 1)).apply(lm, FACTS[:1]) as edit:
        edit.add(FACTS[1:])
        assert len(calls) == 2
    editor(layers=(0, 1)).apply(lm, FACTS[:1]).rollback()
    assert len(calls) == 2
    editor(layers=(1,)).apply(lm, FACTS[:1]).rollback()  # takes their place
    editor(layers=(0, 1)).apply(lm, FACTS[:1]).rollback()
    assert len(calls) == 5
    with torch.no_grad():
        lm.model.transformer.wte.weight[0] += 1
    editor(layers=(0, 1)).apply(lm, FACTS[:1])
    assert len(calls) == 7


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"layers": (2, 1)}, r"layers is \(2, 1\); allowed"),
        ({"null_share": 0.0}, r"null_share is 0\.0; allowed: above 0 and at most 1"),
        ({"null_share": 1.5}, r"null_share is 1\.5; allowed"),
        ({"ridge": 0.0}, r"ridge is 0\.0; allowed: a number above 0"),
        ({"contexts": ("{} {}",)}, "contexts is"),
    ],
)
def test_values_that_are_not_allowed(values, said):
    with pytest.raises(BadInput, match=said):
        editor(**values)
