"""The handle beyond the contract: dense steps, interrupts, precision, and what the report says."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from dataclasses import dataclass, replace

import pytest
import torch

from memkit import Guards
from memkit.editors import edit as handle
from memkit.editors import interrupts, steps, weights
from memkit.editors.base import Edit, Editor, Made
from memkit.editors.finetune import FineTune
from memkit.editors.grace import GRACE
from memkit.editors.interrupts import ending_with, uninterrupted
from memkit.editors.rome import ROME
from memkit.editors.statistics import Statistics
from memkit.editors.steps import LowRank
from memkit.errors import BadInput, EditRejected
from memkit.lm.fingerprint import weights_hash
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm
from memkit.types import Fact

OPEN = Guards(perplexity=float("inf"), size=float("inf"))
FACTS = (
    Fact("Samuel Butler", "{} wrote", "Paris"),
    Fact("Peru", "The capital of {} is", "numbers and words"),
    Fact("France", "The capital of {} is", "Lima"),
)


@dataclass(frozen=True, kw_only=True)
class Toy(Editor):
    """For each fact of a step a low-rank change ("low") or a trained weight ("dense") of a layer.

    What is done to the fact numbered n is the n-th character of `does`: "l", "d", or "n" for a
    loss that is not finite. The layers are those in `layers`.
    """

    guards: Guards = OPEN
    does: str = "lll"
    layers: tuple[int, ...] = (1,)

    def write(self, draft):
        number = sum(len(step.facts) for step in draft.past)
        details = []
        for fact in draft.facts:
            for layer in self.layers:
                site = draft.lm.layout.site(draft.lm.model, layer)
                if self.does[number] == "d":
                    with draft.training([f"{site.name}.weight"]) as (weight,):
                        weight.data += torch.randn(weight.shape) / 9
                else:
                    d_out, d_in = site.weight.shape
                    draft.add(site, torch.randn(d_out, 1) / 3, torch.randn(d_in, 1) / 3)
            details.append({"loss": float("nan") if self.does[number] == "n" else 1.0})
            assert fact in FACTS
            number += 1
        return Made(details)


def weight_of(lm, layer=1):
    return lm.layout.site(lm.model, layer).parameter


@contextlib.contextmanager
def stopped_in(monkeypatch, owner, name):
    """SIGINT in the middle of the first call of a method; the later calls are as they were."""
    true, calls = getattr(owner, name), []

    def interrupted(*args, **kwargs):
        calls.append(name)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return true(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, interrupted)
        yield calls


@contextlib.contextmanager
def stopped_before(monkeypatch, number):
    """Ctrl-C just before `ending_with` holds it back, the time of this number."""
    calls = []

    def stopped():
        calls.append(number)
        if len(calls) == number + 1:
            raise KeyboardInterrupt
        return uninterrupted()

    with monkeypatch.context() as patched:
        patched.setattr(interrupts, "uninterrupted", stopped)
        yield calls


# steps of both kinds


@pytest.mark.parametrize("does", ["lll", "ddd", "ldl", "dld", "ldd", "lld"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_mixed_steps_are_taken_back_to_the_byte(family, does):
    lm = tiny_lm(family)
    edit, hashes = Edit(Toy(does=does), lm), [state_hash(lm)]
    for fact in FACTS:
        edit.add([fact])
        hashes.append(state_hash(lm))
    assert len(set(hashes)) == 4
    for n in (1, 2, 3):
        assert state_hash(edit.undo(n).lm) == hashes[3 - n]
        for fact in FACTS[3 - n :]:
            edit.add([fact])
        assert state_hash(lm) == hashes[3]
    edit.rollback()
    assert state_hash(lm) == hashes[0]


def test_both_kinds_in_one_step():
    for does in ("ldl", "dld"):
        lm = tiny_lm("gpt2")
        before = state_hash(lm)
        with Toy(does=does).apply(lm, FACTS) as edit:
            edited, (step,) = state_hash(lm), edit.steps
            assert [len(change) for change in step.changes.values()] == [2 if does[2] == "l" else 1]
            edit._restore()
            assert state_hash(lm) == edited != before
        assert state_hash(lm) == before


def test_steps_of_different_tensors_come_and_go_apart():
    lm = tiny_lm("gpt2")
    hashes = [state_hash(lm)]
    outer = Toy(does="d", layers=(0, 1)).apply(lm, FACTS[:1])
    hashes.append(state_hash(lm))
    inner = Toy(does="l", layers=(1, 2)).apply(lm, FACTS[1:2])
    assert set(outer.touched) == {f"transformer.h.{layer}.mlp.c_proj.weight" for layer in (0, 1)}
    assert set(inner.touched) == {f"transformer.h.{layer}.mlp.c_proj.weight" for layer in (1, 2)}
    inner.rollback()
    assert state_hash(lm) == hashes[1]
    outer.undo()
    assert outer.touched == {}  # nothing is held that no step needs
    assert state_hash(lm) == hashes[0]
    assert lm.edits == [outer]
    outer.rollback()
    assert lm.edits == []


def test_old_dense_weights_are_dropped_beyond_the_bound(lm, monkeypatch):
    hashes = [state_hash(lm)]
    edit = Edit(Toy(does="dddl" * 2), lm)
    monkeypatch.setattr(steps, "KEPT_BYTES", 2 * weight_of(lm).nbytes)
    for fact in (*FACTS, FACTS[0]):
        edit.add([fact])
        hashes.append(state_hash(lm))
    kept = [change.after is not None for step in edit.steps[:3] for change in changes(step)]
    assert kept == [False, True, True]
    assert state_hash(edit.undo().lm) == hashes[3]
    assert state_hash(edit.undo().lm) == hashes[2]
    with pytest.raises(BadInput, match="undo got 1, and the weights after step 1 were dropped"):
        edit.undo()
    assert state_hash(lm) == hashes[2]
    assert state_hash(edit.undo(2).lm) == hashes[0]
    edit.rollback()
    assert state_hash(lm) == hashes[0]


def test_the_newest_weights_are_kept_whatever_the_bound(lm, monkeypatch):
    before = state_hash(lm)
    monkeypatch.setattr(steps, "KEPT_BYTES", 0)
    edit = Toy(does="ddd", layers=(0,)).apply(lm, FACTS[:1])
    edit.editor = replace(edit.editor, layers=(1,))
    one = state_hash(edit.add(FACTS[1:2]).lm)
    assert [change.after is not None for s in edit.steps for change in changes(s)] == [True, True]
    edit.add(FACTS[2:])
    kept = [change.after is not None for s in edit.steps for change in changes(s)]
    assert kept == [True, False, True]
    edit._restore()
    assert state_hash(lm) != one
    with edit.paused():
        assert state_hash(lm) == before
    edit.rollback()
    assert state_hash(lm) == before


def changes(step):
    return [change for row in step.changes.values() for change in row]


# what is written


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_half_precision_is_rounded_once_and_comes_back_to_the_byte(family, dtype):
    lm = tiny_lm(family)
    lm.model.to(dtype)
    before, start = state_hash(lm), weight_of(lm).detach().double()
    edit = Edit(Toy(), lm)
    for fact in FACTS:
        edit.add([fact])
    turned = edit.touched[next(iter(edit.touched))].turned
    assert turned == (family == "gpt2")
    total = sum(c.left.double() @ c.right.double().T for s in edit.steps for c in changes(s))
    expected = start + (total.T if turned else total)
    assert torch.equal(weight_of(lm), expected.to(dtype))
    stepwise = start.to(dtype)
    for step in edit.steps:
        for c in changes(step):
            one = c.left.double() @ c.right.double().T
            stepwise = (stepwise.double() + (one.T if turned else one)).to(dtype)
    assert not torch.equal(stepwise, weight_of(lm))  # what rounding after each step would give
    subtracted = (weight_of(lm).double() - (total.T if turned else total)).to(dtype)
    assert not torch.equal(subtracted, start.to(dtype))  # and what undoing by subtraction
    edit.rollback()
    assert state_hash(lm) == before


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_rome_on_a_model_in_bfloat16(family):
    lm = tiny_lm(family)
    lm.model.bfloat16()
    before = state_hash(lm)
    editor = ROME(
        layer=1,
        steps=8,
        contexts=("{}", "One, two. {}"),
        statistics=Statistics(tokens=400, ridge=1e-2),
        guards=OPEN,
    )
    with editor.apply(lm, FACTS[:1]) as edit:
        (row,) = edit.report.facts
        assert row.after > row.before + 0.1
        edit.add(FACTS[1:])
        assert {p.dtype for p in lm.model.parameters()} == {torch.bfloat16}
        assert {c.left.dtype for s in edit.steps for c in changes(s)} == {torch.float32}
    assert state_hash(lm) == before


def test_tied_weights_are_trained_together_and_stay_tied(lm):
    tied = lm.model.lm_head.weight
    assert tied is lm.model.transformer.wte.weight
    before, start = state_hash(lm), tied.detach().clone()
    editor = FineTune(parameters="all", epochs=2, lr=1e-3, guards=OPEN)
    with editor.apply(lm, FACTS) as edit:
        assert lm.model.lm_head.weight is lm.model.transformer.wte.weight is tied
        assert not torch.equal(tied, start)
        assert edit.report.parameters.count("transformer.wte.weight") == 1
        assert "lm_head.weight" not in edit.report.parameters
        with edit.paused():
            assert state_hash(lm) == before
    assert state_hash(lm) == before
    assert lm.model.lm_head.weight is lm.model.transformer.wte.weight is tied


def test_the_norm_of_a_change_needs_no_matrix():
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(n, 3, generator=generator) for n in (5, 7))
    assert LowRank(left, right).norm() == pytest.approx(float((left @ right.T).norm()), rel=1e-6)


# Ctrl-C


def test_the_signal_waits_until_the_block_is_done():
    done = []

    def block():
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("before the signal is handled")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with uninterrupted():
        pass


def test_a_handler_that_is_not_pythons_is_left_alone(monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("it cannot be put back"))
    with uninterrupted():
        pass


@pytest.mark.parametrize("does", ["l", "d"])
def test_ctrl_c_while_bytes_are_put_back_leaves_none_behind(lm, monkeypatch, does):
    before = state_hash(lm)
    edit = Toy(does=does, layers=(0, 1, 2)).apply(lm, FACTS[:1])
    with stopped_in(monkeypatch, weights.Touched, "restore") as calls:
        with pytest.raises(KeyboardInterrupt):
            edit.rollback()
        assert len(calls) == 3
    assert state_hash(lm) == before
    assert lm.edits == []
    assert edit.closed
    edit.rollback()


def test_ctrl_c_while_a_step_is_undone(lm, monkeypatch):
    edit = Toy(layers=(0, 1, 2)).apply(lm, FACTS[:1])
    one = state_hash(lm)
    edit.add(FACTS[1:])
    with (
        stopped_in(monkeypatch, weights.Weights, "rewrite") as calls,
        pytest.raises(KeyboardInterrupt),
    ):
        edit.undo()
    assert len(calls) == 3
    assert state_hash(lm) == one
    assert lm.edits == [edit]
    assert len(edit.steps) == 1


def test_ctrl_c_while_a_failed_edit_is_taken_back(lm, monkeypatch):
    before = state_hash(lm)
    with stopped_in(monkeypatch, weights.Touched, "restore") as calls:
        with pytest.raises(KeyboardInterrupt):
            Toy(does="n", layers=(0, 1, 2)).apply(lm, FACTS[:1])
        assert len(calls) == 3
    assert state_hash(lm) == before
    assert lm.edits == []


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("owner", "name"),
    [(Edit, "rewrite"), (handle, "checked"), (handle, "forget_weights"), (handle, "replace")],
)
def test_ctrl_c_anywhere_in_a_step_takes_it_back(lm, monkeypatch, first, owner, name):
    edit = Edit(Toy(), lm)
    if not first:
        edit.add(FACTS[:1])
    before, live = state_hash(lm), list(lm.edits)
    with stopped_in(monkeypatch, owner, name) as calls, pytest.raises(KeyboardInterrupt):
        edit.add(FACTS[1:])
    assert calls
    assert state_hash(lm) == before
    assert lm.edits == live
    assert len(edit.steps) == len(live)
    edit.add(FACTS[1:])
    assert state_hash(lm) != before


@pytest.mark.parametrize(("at", "calls"), [(weights.Touched, "restore"), (handle, "check_newest")])
def test_ctrl_c_while_pausing_brings_the_edit_back(lm, monkeypatch, at, calls):
    before = state_hash(lm)
    edit = Toy(layers=(0, 1, 2)).apply(lm, FACTS[:1])
    edited = state_hash(lm)
    with stopped_in(monkeypatch, at, calls), pytest.raises(KeyboardInterrupt), edit.paused():
        pytest.fail("the block was entered")
    assert state_hash(lm) == edited
    assert (lm.edits, lm.paused) == ([edit], [])
    edit.rollback()
    assert state_hash(lm) == before


def test_an_action_is_whole_where_ctrl_c_comes_within_it():
    done = []

    def action():
        done.append("begun")
        if len(done) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        done.append("whole")

    with pytest.raises(KeyboardInterrupt), ending_with(action):
        assert not done
    assert done == ["begun", "whole"] * 2


@pytest.mark.parametrize("does", ["apply", "add", "pause"])
def test_ctrl_c_just_before_things_are_put_back(monkeypatch, does):
    """Wherever that is: the n-th time for every n."""
    flags, random = [], torch.random.get_rng_state()
    for number in itertools.count():
        lm = tiny_lm("gpt2")
        lm.model.transformer.wte.weight.requires_grad_(False)
        states = [state_hash(lm)]
        edit = Edit(Toy(does="ld", layers=(0, 2)), lm)
        if does != "apply":
            edit.add(FACTS[:1])
            states.append(state_hash(lm))
        live = list(lm.edits)
        with stopped_before(monkeypatch, number) as calls, contextlib.suppress(KeyboardInterrupt):
            if does == "pause":
                with edit.paused():
                    pass
            else:
                edit.add(FACTS[1:2])
        if len(calls) <= number:
            break
        assert state_hash(lm) == states[-1]
        assert (lm.edits, lm.paused) == (live, [])
        assert len(edit.steps) == len(live)
        flags.append([parameter.requires_grad for parameter in lm.model.parameters()])
        assert torch.equal(torch.random.get_rng_state(), random)
        edit.rollback()
        assert state_hash(lm) == states[0]
    assert number > 0
    assert all(not first and all(rest) for first, *rest in flags)


# the live edits


def test_pausing_nests_and_only_the_newest_can_be_changed(lm):
    before = state_hash(lm)
    outer = Toy(layers=(0, 1)).apply(lm, FACTS[:1])
    one = state_hash(lm)
    inner = Toy(layers=(1, 2)).apply(lm, FACTS[1:2])
    two = state_hash(lm)
    for call in (outer.undo, lambda: outer.add(FACTS[2:]), outer.paused().__enter__):
        with pytest.raises(BadInput, match=r"while the newer .* is live"):
            call()
    with inner.paused():
        assert state_hash(lm) == one
        with outer.paused():
            assert state_hash(lm) == before
            assert (lm.edits, lm.paused) == ([], [inner, outer])
        with pytest.raises(BadInput, match=r"undone while .* is paused"):
            outer.undo()
        with pytest.raises(BadInput, match="is paused"):
            inner.paused().__enter__()
    assert state_hash(lm) == two
    assert lm.edits == [outer, inner]
    inner.rollback()
    for call in (inner.undo, lambda: inner.add(FACTS[2:]), lambda: inner.save("nowhere")):
        with pytest.raises(BadInput, match=r"is closed|holds nothing"):
            call()
    outer.rollback()
    assert state_hash(lm) == before


def test_an_error_in_the_paused_block_brings_the_edit_back(lm):
    with Toy().apply(lm, FACTS[:1]) as edit:
        edited = state_hash(lm)
        with pytest.raises(ZeroDivisionError), edit.paused():
            raise ZeroDivisionError
        assert state_hash(lm) == edited
        assert lm.edits == [edit]


@pytest.mark.parametrize("n", [0, -1, 3])
def test_undo_of_what_is_not_there(lm, n):
    with Toy().apply(lm, FACTS[:1]) as edit:
        edit.add(FACTS[1:])
        with pytest.raises(BadInput, match=f"undo got {n}; allowed: 1 to 2"):
            edit.undo(n)


def test_the_fingerprint_is_right_and_cheap_after_an_edit(lm, monkeypatch):
    known = lm.fingerprint()
    with Toy().apply(lm, FACTS[:1]):
        assert lm.fingerprint() != known
    monkeypatch.setattr("memkit.lm.state.weights_hash", lambda model: pytest.fail("hashed again"))
    assert lm.fingerprint() == known


# the report


def test_weights_written_to_beside_an_edit_are_hashed_anew(lm):
    known = lm.fingerprint()
    for undone in (False, True):
        edit = Toy(layers=(0, 2)).apply(lm, FACTS[:1])
        with torch.no_grad():
            lm.model.transformer.wpe.weight[0] += 1
        if undone:
            edit.undo()
        edit.rollback()
        assert lm.fingerprint() == weights_hash(lm.model) != known
        known = lm.fingerprint()


def test_edits_over_edits_leave_the_fingerprint_known(lm, monkeypatch):
    base = lm.fingerprint()
    with Toy(layers=(0,)).apply(lm, FACTS[:1]):
        one = lm.fingerprint()
        with Toy(layers=(0, 2)).apply(lm, FACTS[1:2]) as edit, edit.paused():
            pass
        hashed = []
        monkeypatch.setattr("memkit.lm.state.weights_hash", lambda model: hashed.append(model))
        assert lm.fingerprint() == one
        with GRACE(layer=1, steps=2, guards=OPEN).apply(lm, FACTS[:1]):
            pass
        with pytest.raises(EditRejected):
            Toy(does="n").apply(lm, FACTS[:1])
        assert lm.fingerprint() == one
    assert lm.fingerprint() == base
    assert hashed == []


def test_perplexity_before_an_edit_is_computed_once_for_a_model(lm, monkeypatch):
    watched = Toy(guards=Guards(perplexity=1e9, size=float("inf")))
    asked, true = [], lm.perplexity
    monkeypatch.setattr(lm, "perplexity", lambda texts: asked.append(lm.mark()) or true(texts))
    for _ in range(2):
        watched.apply(lm, FACTS[:1]).add(FACTS[1:2]).rollback()
    assert len(asked) == 5
    assert len(set(map(id, asked))) == 5  # the model's own, and that after each step
    with torch.no_grad():
        lm.model.transformer.wpe.weight[0] += 1
    watched.apply(lm, FACTS[:1])
    assert len(asked) == 7


def test_the_report_joins_the_steps(lm):
    with Toy(layers=(0, 1)).apply(lm, FACTS[:1]) as edit:
        edit.add(FACTS[1:])
        report, parts = edit.report, [step.report for step in edit.steps]
        assert [row.fact for row in report.facts] == list(FACTS)
        assert report.seconds == pytest.approx(sum(part.seconds for part in parts))
        assert report.peak_bytes == max(part.peak_bytes for part in parts)
        assert report.stored_bytes == 3 * 2 * 4 * (32 + 40)
        assert len(report.parameters) == 2
        rows = lm.logprob([f.text for f in FACTS], [f" {f.target}" for f in FACTS])
        assert report.facts[2].after == pytest.approx(rows[2].total, abs=1e-5)
        assert str(report).count("\n") == 4
        assert repr(edit).startswith("<Edit of 3 facts by Toy(")


def test_a_loss_that_is_not_finite_is_harm(lm):
    before = state_hash(lm)
    with pytest.raises(EditRejected, match="the loss of 'Samuel Butler wrote' is nan"):
        Toy(does="n").apply(lm, FACTS[:1])
    assert state_hash(lm) == before
    edit = Toy(does="ln").apply(lm, FACTS[:1])
    one = state_hash(lm)
    with pytest.raises(EditRejected):
        edit.add(FACTS[1:2])
    assert state_hash(lm) == one
    assert len(edit.report.facts) == 1
    edit.undo()
    with pytest.raises(EditRejected):
        edit.add(FACTS[:2])
    assert state_hash(lm) == before
    assert lm.edits == [edit]  # as it was


def test_on_guard_is_one_of_two():
    with pytest.raises(BadInput, match="on_guard is 'ignore'; allowed: 'reject' or 'warn'"):
        Toy(on_guard="ignore")
