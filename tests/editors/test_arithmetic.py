"""Ext-Sub against a plain loop over rows, and the cases in which the published code gives NaN."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from memkit import (
    Adapter,
    BadInput,
    ExtSub,
    Fact,
    FineTune,
    FingerprintMismatch,
    Guards,
    LoRA,
    Merge,
    TaskNegation,
)
from memkit.editors.arithmetic import extracted
from memkit.editors.factors import dense, of_matrix, summed, truncated
from memkit.editors.steps import LowRank
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm


def factors(d_out, d_in, rank, seed):
    generator = torch.Generator().manual_seed(seed)
    return LowRank(
        torch.randn(d_out, rank, generator=generator), torch.randn(d_in, rank, generator=generator)
    )


def adapter(change, **values):
    return Adapter({"a.map": change}, **values)


def by_rows(plus, minus, strength):
    """The formulae as the paper has them, one row after another, without the closed form."""
    rows = []
    for v_plus, v_minus in zip(plus.double(), minus.double(), strict=True):
        if not v_plus.any() or not v_minus.any():
            rows.append(v_plus)
            continue
        shared = v_plus / math.sqrt(v_plus @ v_plus) + v_minus / math.sqrt(v_minus @ v_minus)
        projection = (v_minus @ shared) / (shared @ shared) * shared
        rows.append(v_plus - strength * (v_minus - projection))
    return torch.stack(rows)


@settings(deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(0, 99), st.floats(0, 3)
)
def test_ext_sub_is_the_loop_over_rows(d_out, d_in, rank, seed, strength):
    """Shapes of all kinds: wide, tall, and ranks beyond the smaller side."""
    plus, minus = factors(d_out, d_in, rank, seed), factors(d_out, d_in, rank + 1, seed + 1000)
    cosines = torch.nn.functional.cosine_similarity(dense(plus), dense(minus))
    assume(cosines.min() > -0.99)  # rows that are almost opposite: the loop divides by nothing
    wanted = by_rows(dense(plus), dense(minus), strength)
    made = ExtSub(adapter(plus), adapter(minus), strength).combined().changes["a.map"]
    scale = float(dense(plus).abs().max() + 3 * dense(minus).abs().max())
    torch.testing.assert_close(dense(made), wanted, atol=1e-6 * scale, rtol=1e-6)


def test_what_is_taken_out_is_orthogonal_to_what_is_shared():
    plus, minus = factors(20, 30, 4, 0), factors(20, 30, 6, 1)
    out = dense(extracted(plus, minus))
    unit = torch.nn.functional.normalize
    shared = unit(dense(plus)) + unit(dense(minus))
    assert out.norm() > 1
    cosines = (out * shared).sum(1) / (out.norm(dim=1) * shared.norm(dim=1))
    assert cosines.abs().max() < 1e-6
    angle = torch.arccos((unit(dense(plus)) * unit(dense(minus))).sum(1))
    sizes = dense(minus).norm(dim=1) * (angle / 2).sin()
    torch.testing.assert_close(out.norm(dim=1), sizes, rtol=1e-5, atol=1e-5)


CASES = {
    "parallel": ([3.0, 0, 0], [2.0, 0, 0], [3.0, 0, 0]),
    "orthogonal": ([3.0, 0, 0], [0, 2.0, 0], [4.0, -1.0, 0]),
    "opposite": ([3.0, 0, 0], [-2.0, 0, 0], [5.0, 0, 0]),
    "no expert": ([0, 0, 0], [1.0, 2, 3], [0, 0, 0]),
    "no anti-expert": ([1.0, 2, 3], [0, 0, 0], [1.0, 2, 3]),
    "neither": ([0, 0, 0], [0, 0, 0], [0, 0, 0]),
}


@pytest.mark.parametrize("case", CASES)
def test_hand_cases(case):
    plus, minus, wanted = (torch.tensor([row], dtype=torch.float32) for row in CASES[case])
    combined = ExtSub(adapter(of_matrix(plus)), adapter(of_matrix(minus))).combined()
    torch.testing.assert_close(dense(combined.changes["a.map"]).float(), wanted)
    zero, empty = int(not plus.any()), int(not minus.any())
    assert combined.notes["zero rows"].startswith(f"{zero} of 1 of the expert")
    assert f"; {empty} of the anti-expert" in combined.notes["zero rows"]


def test_a_fresh_lora_takes_nothing_out():
    plus, fresh = factors(6, 5, 2, 0), LowRank(torch.zeros(6, 3), torch.randn(5, 3))
    made = ExtSub(adapter(plus), adapter(fresh), 2.0).combined().changes["a.map"]
    torch.testing.assert_close(dense(made), dense(plus), atol=1e-6, rtol=1e-6)


def test_an_update_that_cancels_out_has_zero_rows():
    """What is left of e - e is rounding, which is no direction to share."""
    plus, minus = factors(6, 8, 3, 0), factors(6, 8, 2, 1)
    nothing = Merge([adapter(plus), adapter(plus)], [1.0, -1.0]).combined()
    assert nothing.changes["a.map"].left.any()
    made = ExtSub(nothing, adapter(minus)).combined()
    assert made.notes["zero rows"].startswith("6 of 6 of the expert")
    assert dense(made.changes["a.map"]).norm() < 1e-6
    tiny = LowRank(plus.left * torch.tensor([1e6, 1.0, 1.0]), plus.right * 1e-20)
    small = ExtSub(adapter(tiny), adapter(minus)).combined()  # however small, a row is a row
    assert small.notes["zero rows"].startswith("0 of 6 of the expert")


def test_how_an_update_is_factored_does_not_matter():
    plus, minus = factors(9, 7, 3, 0), factors(9, 7, 3, 1)
    mix = torch.randn(3, 3, generator=torch.Generator().manual_seed(2))
    mix += 3 * torch.eye(3)
    other = LowRank(minus.left @ mix, minus.right @ torch.linalg.inv(mix).T)
    scaled = LowRank(plus.left * 1e3, plus.right / 1e3)
    assert not torch.allclose(minus.left, other.left)
    one = ExtSub(adapter(plus), adapter(minus)).combined().changes["a.map"]
    two = ExtSub(adapter(scaled), adapter(other)).combined().changes["a.map"]
    torch.testing.assert_close(dense(one), dense(two), atol=1e-5, rtol=1e-5)


def test_the_result_is_exact_at_the_sum_of_the_ranks_and_stated_below():
    plus, minus = factors(30, 40, 3, 0), factors(30, 40, 5, 1)
    whole = ExtSub(adapter(plus), adapter(minus)).combined()
    assert whole.changes["a.map"].left.shape == (30, 8)
    cut = ExtSub(adapter(plus), adapter(minus), rank=4).combined()
    assert cut.changes["a.map"].left.shape == (30, 4)
    values = torch.linalg.svdvals(dense(whole.changes["a.map"]))
    lost = values[4:].norm() / values.norm()
    difference = dense(whole.changes["a.map"]) - dense(cut.changes["a.map"])
    assert difference.norm() / values.norm() == pytest.approx(float(lost), rel=1e-4)
    assert f"error of up to {float(lost):.3g}" in cut.notes["rank"]
    assert 0.1 < lost < 1


def test_sums_beyond_full_rank_become_one_matrix():
    parts = [factors(6, 4, 3, seed) for seed in range(3)]
    total = summed(parts)
    assert total.left.shape[1] == 4
    torch.testing.assert_close(dense(total), sum(map(dense, parts)), atol=1e-5, rtol=1e-5)
    near, error = truncated(total, 4)
    assert error < 1e-6
    torch.testing.assert_close(dense(near), dense(total), atol=1e-5, rtol=1e-5)


def test_negation_and_merge_are_sums():
    a, b = factors(8, 6, 2, 0), factors(8, 6, 3, 1)
    minus = TaskNegation(adapter(a), adapter(b), 0.5).combined().changes["a.map"]
    torch.testing.assert_close(dense(minus), dense(a) - 0.5 * dense(b), atol=1e-5, rtol=1e-5)
    alone = TaskNegation(None, adapter(b), 2.0).combined().changes["a.map"]
    torch.testing.assert_close(dense(alone), -2 * dense(b), atol=1e-5, rtol=1e-5)
    mean = Merge([adapter(a), adapter(b)]).combined().changes["a.map"]
    torch.testing.assert_close(dense(mean), (dense(a) + dense(b)) / 2, atol=1e-5, rtol=1e-5)
    own = Merge([adapter(a), adapter(b)], [2.0, -1.0]).combined()
    torch.testing.assert_close(
        dense(own.changes["a.map"]), 2 * dense(a) - dense(b), atol=1e-5, rtol=1e-5
    )
    none = Merge([adapter(a), adapter(b)], [0, 0]).combined().changes["a.map"]
    assert not dense(none).any()


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "t5"])
def test_strength_zero_gives_the_experts_bytes(family):
    """On maps that are not square, and grouped-query heads."""
    lm = tiny_lm(family)
    targets = {"gpt2": ("c_attn", "down"), "t5": ("q", "v", "up")}.get(
        family, ("q_proj", "v_proj", "down")
    )
    editor = LoRA(rank=2, epochs=5, lr=1e-2, targets=targets)
    expert = editor.train(lm, [("Who wrote Erewhon?", "Samuel Butler")])
    anti = editor.train(lm, [("Who wrote Erewhon?", "Lima")])
    before = state_hash(lm)
    with expert.apply(lm):
        wanted = state_hash(lm)
    assert wanted != before
    for same in (ExtSub, TaskNegation):
        with same(expert, anti, 0.0).apply(lm):
            assert state_hash(lm) == wanted
        with same(expert, anti, 1.0).apply(lm) as edit:
            assert state_hash(lm) not in (wanted, before)
            assert "can reveal" in " ".join(edit.report.warnings)
    with Merge([expert, anti], [1.0, 0.0]).apply(lm) as edit:
        assert state_hash(lm) == wanted
        assert edit.report.warnings == ()
    assert state_hash(lm) == before


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_whole_weights_are_combined_by_row_too(family):
    """Two fine-tunings, whichever way round the model stores the weight."""
    lm = tiny_lm(family)
    editor = FineTune(layer=1, epochs=3, guards=Guards(size=math.inf, perplexity=math.inf))
    site, updates, parts = lm.layout.site(lm.model, 1), [], []
    before = site.weight.clone()
    for target in ("Paris", "Lima"):
        with editor.apply(lm, [Fact("Peru", "The capital of {} is", target)]) as edit:
            updates.append(site.weight - before)
            parts.append(Adapter.of(edit))
    assert not torch.allclose(*updates, atol=1e-4)
    with ExtSub(*parts, 1.5).apply(lm, on_guard="warn"):
        made = site.weight - before
    torch.testing.assert_close(made.double(), by_rows(*updates, 1.5), atol=1e-5, rtol=1e-4)


def test_the_wrong_answer_loses_and_the_right_one_stays():
    lm = tiny_lm("gpt2")
    question, right, wrong = "Who wrote Erewhon?", " Samuel Butler", " Lima"
    editor = LoRA(rank=4, epochs=10, lr=2e-3, stop_at_argmax=False)
    expert = editor.train(lm, [(question, right)])
    anti = editor.train(lm, [(question, wrong)])

    def margin():
        good, bad = lm.logprob([question, question], [right, wrong])
        return good.total - bad.total

    plain = margin()
    with expert.apply(lm):
        learnt = margin()
    with ExtSub(expert, anti).apply(lm):
        assert margin() > learnt > plain


def test_what_does_not_go_together_is_named():
    plus = adapter(factors(4, 3, 2, 0), source="one")
    with pytest.raises(BadInput, match=r"different maps.*'a.map' first"):
        ExtSub(plus, Adapter({"b.map": plus.changes["a.map"]})).combined()
    with pytest.raises(BadInput, match=r"in shapes \(4, 3\) and \(4, 5\)"):
        ExtSub(plus, adapter(factors(4, 5, 2, 0))).combined()
    left, right = (dataclasses.replace(plus, base=name) for name in ("llama", "gpt2"))
    with pytest.raises(BadInput, match="adapters of 'llama' and 'gpt2'"):
        TaskNegation(left, right).combined()
    assert ExtSub(left, dataclasses.replace(right, base="llama")).combined().base == "llama"
    hashed = [dataclasses.replace(plus, fingerprint={"config": name}) for name in "xy"]
    with pytest.raises(FingerprintMismatch, match="fingerprints x and y"):
        Merge(hashed).combined()
    with pytest.raises(BadInput, match=r"\(4, 2\) and \(3, 1\)"):
        adapter(LowRank(torch.ones(4, 2), torch.ones(3, 1)))
    with pytest.raises(BadInput, match="not finite"):
        adapter(LowRank(torch.full((4, 2), math.nan), torch.ones(3, 2)))
    with pytest.raises(BadInput, match="changes nothing"):
        Adapter({})
    with pytest.raises(BadInput, match="3 is no adapter"):
        ExtSub(plus, 3).combined()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda one: ExtSub(one, one, math.nan), "strength is nan"),
        (lambda one: ExtSub(one, one, rank=0), "rank is 0"),
        (lambda one: TaskNegation(one, one, True), "strength is True"),
        (lambda one: Merge([]), "parts is"),
        (lambda one: Merge(one), "parts is"),
        (lambda one: Merge([one], [1, 2]), "2 numbers for 1 adapters"),
    ],
)
def test_values_that_are_not_allowed(make, message):
    with pytest.raises(BadInput, match=message):
        make(adapter(factors(4, 3, 2, 0)))
