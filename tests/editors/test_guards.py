"""Guards: each figure against its bound, and an edit beyond one is taken back."""

from __future__ import annotations

import dataclasses
import math
from itertools import islice

import pytest
import torch

from memkit import ROME, Guards, Statistics
from memkit.editors.guards import (
    base_perplexity,
    check_divisor,
    check_learnt,
    check_perplexity,
    check_size,
)
from memkit.editors.statistics import sample
from memkit.errors import BadInput, EditRejected
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm
from memkit.types import Fact, FactReport

FACT = Fact("Samuel Butler", "{} wrote", "Paris")
OTHER = Fact("Peru", "The capital of {} is", "Lima")
OPEN = Guards(perplexity=math.inf, size=math.inf)
EDITOR = ROME(
    layer=1,
    steps=6,
    clamp=4.0,
    contexts=("{}", "One, two. {}"),
    statistics=Statistics(tokens=400, ridge=1e-2),
    guards=OPEN,
)
TEXT = "The capital of Peru is Lima, and Samuel Butler wrote Erewhon."


def guarded(on_guard="reject", **bounds):
    return dataclasses.replace(
        EDITOR, guards=dataclasses.replace(OPEN, **bounds), on_guard=on_guard
    )


# the figures


@pytest.mark.parametrize(
    ("change", "found"),
    [(3.0, False), (3.0001, True), (0.0, False), (math.inf, True), (math.nan, True)],
)
def test_the_size_is_relative_to_the_weight(change, found):
    assert bool(check_size("w", Guards(size=1.5), change, 2.0)) == found
    assert bool(check_size("w", Guards(size=math.inf), change, 2.0)) == (not math.isfinite(change))
    if found:
        (text,) = check_size("w", Guards(size=1.5), change, 2.0)
        assert text.startswith(f"w changed by {change:.3g}")
        assert "the weight has 2, allowed: 1.5 times as much (Guards.size)" in text


@pytest.mark.parametrize(
    ("share", "found"),
    [(0.05, False), (0.0499, True), (-0.05, False), (-0.01, True), (1.0, False), (math.nan, True)],
)
def test_the_divisor_is_taken_without_its_sign(share, found):
    assert bool(check_divisor(FACT, Guards(), share)) == found
    assert not check_divisor(FACT, Guards(divisor=0.0), 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_not_finite_is_named(value):
    fine = FactReport(FACT, -1.0, -2.0, False, False, {"loss": 1.0})
    assert check_learnt([fine, fine]) == []
    (text,) = check_learnt([fine, dataclasses.replace(fine, after=value)])
    assert (
        text == f"the log-probability of 'Samuel Butler wrote' is {value}, allowed: a finite number"
    )
    (text,) = check_learnt([dataclasses.replace(fine, details={"loss": value}), fine])
    assert f"the loss of 'Samuel Butler wrote' is {value}" in text


def test_the_perplexity_is_relative_to_that_before_the_edit(lm):
    guards = Guards(perplexity=1.5, text=TEXT)
    base = base_perplexity(lm, guards)
    assert base == pytest.approx(lm.perplexity([TEXT]))
    assert check_perplexity(lm, guards, base) == []
    lm.model.transformer.h[1].mlp.c_proj.weight.data *= 4
    now = lm.perplexity([TEXT])
    for bound, found in [(now / base * 1.001, False), (now / base * 0.999, True)]:
        guards = dataclasses.replace(guards, perplexity=bound)
        assert bool(check_perplexity(lm, guards, base)) == found
    (text,) = check_perplexity(lm, guards, base)
    assert text.startswith(f"perplexity rose from {base:.4g} to {now:.4g}, allowed: ")
    lm.model.transformer.h[1].mlp.c_proj.weight.data.fill_(math.nan)
    assert check_perplexity(lm, Guards(perplexity=1e300), base)
    assert base_perplexity(lm, OPEN) is None  # not computed at all
    assert check_perplexity(lm, OPEN, None) == []


def test_without_a_text_the_beginning_of_the_sample_is_read(lm):
    texts = [" ".join(text.split()[:16]) for text in islice(sample(), 8)]  # a quarter of the window
    assert base_perplexity(lm, Guards()) == pytest.approx(lm.perplexity(texts))


def test_other_kinds_have_no_perplexity():
    for family in ("t5", "bert"):
        assert base_perplexity(tiny_lm(family), Guards()) is None


@pytest.mark.parametrize(
    ("name", "value"), [("perplexity", -1.0), ("size", math.nan), ("divisor", -0.1)]
)
def test_bounds_that_are_not_allowed(name, value):
    with pytest.raises(BadInput, match=rf"Guards\.{name} is {value}; allowed"):
        Guards(**{name: value})


# what an edit does


def size_of(lm):
    """How much the edit of FACT changes its matrix, relative to the matrix."""
    weight = lm.layout.site(lm.model, 1).weight
    old = weight.clone()
    with EDITOR.apply(lm, [FACT]):
        return float((weight - old).norm() / old.norm())


def test_an_edit_at_the_bound_is_kept_and_one_beyond_is_taken_back(lm):
    before, size = state_hash(lm), size_of(lm)
    assert size > 0.01
    with guarded(size=size * 1.001).apply(lm, [FACT]) as edit:
        assert edit.report.warnings == ()
    with pytest.raises(EditRejected) as error:
        guarded(size=size * 0.999).apply(lm, [FACT])
    for part in (
        "ROME on 'Samuel Butler wrote'",
        "Guards.size",
        "was taken back",
        "on_guard='warn'",
    ):
        assert part in str(error.value)
    assert state_hash(lm) == before
    assert lm.edits == []


def test_an_edit_that_spoils_the_model_is_taken_back(lm):
    before = state_hash(lm)
    base = lm.perplexity([TEXT])
    with EDITOR.apply(lm, [FACT]):
        ratio = lm.perplexity([TEXT]) / base
    with pytest.raises(EditRejected, match=r"perplexity rose from .*Guards\.perplexity"):
        guarded(perplexity=ratio * 0.999, text=TEXT).apply(lm, [FACT])
    assert state_hash(lm) == before
    with guarded(perplexity=ratio * 1.001, text=TEXT).apply(lm, [FACT]) as edit:
        assert edit.report.warnings == ()


def test_a_rejected_step_leaves_those_before_it(lm):
    before = state_hash(lm)
    edit = EDITOR.apply(lm, [FACT])
    one = state_hash(lm)
    edit.editor = dataclasses.replace(edit.editor, guards=Guards(size=0.0))
    with pytest.raises(EditRejected):
        edit.add([OTHER])
    assert state_hash(lm) == one
    assert [row.fact for row in edit.report.facts] == [FACT]
    edit.editor = dataclasses.replace(edit.editor, on_guard="warn")
    edit.add([OTHER])
    assert state_hash(lm) != one
    (warning,) = edit.report.warnings
    assert "transformer.h.1.mlp.c_proj.weight changed by" in warning
    assert f"  warning: {warning}" in str(edit.report)
    edit.rollback()
    assert state_hash(lm) == before


def test_all_that_is_wrong_is_said_at_once(lm):
    with pytest.raises(EditRejected, match=r"Guards\.size.*; perplexity rose"):
        guarded(size=0.0, perplexity=0.0, text=TEXT).apply(lm, [FACT])


def test_a_model_that_gives_no_numbers_is_named(lm):
    lm.model.transformer.h[2].mlp.c_proj.weight.data.fill_(math.nan)
    before = state_hash(lm)
    with pytest.raises(EditRejected, match=r"log-probability of .* is nan"):
        EDITOR.apply(lm, [FACT])
    assert state_hash(lm) == before


def test_the_base_of_the_perplexity_is_the_model_before_the_first_step(lm):
    with guarded(perplexity=1e9, text=TEXT).apply(lm, [FACT]) as edit:
        base = edit.memo["perplexity"]
        edit.add([OTHER])
        assert edit.memo["perplexity"] == base
    assert base == pytest.approx(lm.perplexity([TEXT]))
    assert not torch.is_inference_mode_enabled()
