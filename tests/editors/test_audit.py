"""What weight differences reveal: tiny models by construction, the miniature world by edits."""

from __future__ import annotations

import math

import pytest
import torch

import memkit
from memkit import (
    GRACE,
    LM,
    MEMIT,
    ROME,
    Adapter,
    BadInput,
    Fact,
    FineTune,
    Guards,
    LoRA,
    Statistics,
    UnsupportedModel,
    audit,
)
from memkit.editors.audit import AuditReport, ChangedMap, Suspect
from memkit.editors.steps import LowRank
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm

FACTS = (Fact("Samuel Butler", "{} wrote", "Paris"), Fact("Peru", "The capital of {} is", "Paris"))
OPEN = Guards(perplexity=math.inf, size=math.inf, divisor=0.0)
PLAIN = {
    "steps": 3,
    "lr": 0.5,
    "clamp": 4.0,
    "decay": 0.0,
    "contexts": ("{}",),
    "statistics": Statistics(identity=True),
    "guards": OPEN,
}
DOWN = "transformer.h.{}.mlp.c_proj"


def test_no_difference_is_no_finding(lm):
    report = audit(lm, tiny_lm("gpt2"), ["Peru", "France"])
    assert (report.maps, report.others, report.suspects, report.edits) == ((), (), (), None)
    assert "0 linear maps differ" in str(report)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_layers_norms_and_the_number_of_edits(family):
    base, lm = tiny_lm(family), tiny_lm(family)
    site = lm.layout.site(lm.model, 1)
    with ROME(layer=1, **PLAIN).apply(lm, FACTS):
        report = audit(base, lm)
        (found,) = report.maps
        difference = site.weight - base.layout.site(base.model, 1).weight
    assert found.name == site.name
    assert found.norm == pytest.approx(float(difference.norm()), rel=1e-5)
    before = base.layout.site(base.model, 1).weight
    assert found.relative == pytest.approx(float(difference.norm() / before.norm()), rel=1e-5)
    assert found.rank == report.edits == 2
    assert 1 < found.effective_rank <= 2
    assert "rank-one edits: 2" in str(report)


def test_an_edit_a_model_a_path_and_an_adapter_say_the_same(tmp_path):
    lm = tiny_lm("gpt2")
    before = state_hash(lm)
    lm.save(tmp_path / "base")
    with MEMIT(layers=(0, 2), weight=1.0, **PLAIN).apply(lm, FACTS) as edit:
        now = state_hash(lm)
        assert now != before
        reports = [audit(lm, edit, ["Peru", "Lima"])]
        assert state_hash(lm) == now
        assert lm.edits == [edit]
        lm.save(tmp_path / "edited")
        edit.save(tmp_path / "edit")
        edit.to_peft(tmp_path / "lora")
        adapter = Adapter.of(edit)
    sources = [adapter, *(tmp_path / name for name in ("edited", "edit", "lora"))]
    reports += [audit(lm, source, ["Peru", "Lima"]) for source in sources]
    reports.append(audit(tmp_path / "base", str(tmp_path / "edited"), ["Peru", "Lima"]))
    assert [one.name for one in reports[0].maps] == [DOWN.format(0), DOWN.format(2)]
    for report in reports:
        assert report.edits == 2
        for one, other in zip(report.maps, reports[0].maps, strict=True):
            assert one.norm == pytest.approx(other.norm, rel=1e-4)
        for one, other in zip(report.suspects, reports[0].suspects, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)
    assert state_hash(lm) == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_copy_that_was_rounded_is_no_edited_one(dtype):
    """A release in half precision beside a base in full: the edited map alone is named."""
    base, lm = tiny_lm("llama"), tiny_lm("llama")
    assert not audit(base, cast(tiny_lm("llama"), dtype)).maps
    ROME(layer=1, **PLAIN).apply(lm, FACTS[:1])
    report = audit(base, cast(lm, dtype))
    assert [one.name for one in report.maps] == ["model.layers.1.mlp.down_proj"]
    assert report.others == ()
    assert report.edits == 1
    assert audit(cast(base, dtype), lm).edits == 1  # and the other way round


def cast(lm, dtype):
    lm.model.to(dtype)
    return lm


def test_other_methods_are_seen_for_what_they_are():
    base, lm = tiny_lm("gpt2"), tiny_lm("gpt2")
    with FineTune(layer=1, epochs=5, lr=1e-2, guards=OPEN).apply(lm, FACTS):
        assert audit(base, lm).edits is None
    with LoRA(rank=3, epochs=3, targets=("c_attn",), guards=OPEN).apply(lm, FACTS):
        assert {one.rank for one in audit(base, lm).maps} == {3}
    with torch.no_grad():
        lm.model.transformer.ln_f.bias.add_(1)
        lm.model.transformer.wte.weight.add_(1)
    report = audit(base, lm)
    assert report.maps == ()
    assert set(report.others) == {"transformer.wte.weight", "transformer.ln_f.bias"}


def test_keys_that_were_written_are_found_among_others():
    """An update that is made by hand, sum_j r_j (C^-1 k_j)^T, of three subjects in forty."""
    lm = tiny_lm("gpt2")
    names = [f"{a} {b}" for a in ("Peru", "Lima", "One", "numbers", "words") for b in "ABCDEFGH"]
    module = lm.model.get_submodule(DOWN.format(1))
    keys = []
    handle = module.register_forward_pre_hook(lambda _, given: keys.append(given[0][0, -1]))
    with torch.no_grad():
        for name in names:
            lm.model(torch.tensor([lm.codec.prompt(name)]))
    handle.remove()
    keys = torch.stack(keys).double()
    other = torch.randn(200, 40, generator=torch.Generator().manual_seed(1)).double()
    moment = keys.T @ keys / 40 + other.T @ other / 200
    written = [3, 17, 30]
    right = torch.linalg.solve(moment, keys[written].T)
    left = torch.randn(32, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([9, 1, 3])
    edit = Adapter({DOWN.format(1): LowRank(left.float(), right.float())})
    report = audit(lm, edit, names)
    assert report.edits == 3
    assert {one.subject for one in report.suspects[:3]} == {names[i] for i in written}
    assert [one.deviations for one in report.suspects] == sorted(
        (one.deviations for one in report.suspects), reverse=True
    )
    assert all(0 <= one.score <= 1 + 1e-9 for one in report.suspects)
    mixed = audit(lm, edit, [Fact(name, "{} wrote", "x") for name in names for _ in range(2)])
    assert len(mixed.suspects) == len(names)


def test_a_report_says_whom_to_suspect():
    suspects = tuple(Suspect(f"s{i}", 0.5, z) for i, z in enumerate((9.0, 2.0, 1.0, 0.0)))
    report = AuditReport((ChangedMap("m", 1.0, 0.1, 2, 1.9),), (), suspects)
    assert report.likely == ("s0",)
    assert "likely subjects, of 4: s0\nfewer stand out" in str(report)
    assert str(report).endswith("the first suspects: s0, s1")
    one = AuditReport((ChangedMap("m", 1.0, 0.1, 1, 1.0),), (), suspects)
    assert str(one).endswith("likely subjects, of 4: s0")
    unknown = AuditReport((ChangedMap("m", 1.0, 0.1, None, 30.0),), ("bias",), suspects[1:])
    assert "rank-one edits: not shown" in str(unknown)
    assert str(unknown).endswith("likely subjects, of 3: none stands out")


def test_subjects_are_named_on_the_miniature_world():
    """Recall of locate-and-edit; that fine-tuning of a late layer hides is what the docs say."""
    world = memkit.benchmarks.load("miniworld")
    lm = LM.load(memkit.world.shipped(), device="cpu")
    facts = memkit.world.modifications(world, 4, seed=3)
    edited = {fact.subject for fact in facts}
    candidates = list(dict.fromkeys([*sorted(edited), *(fact.subject for fact in world.facts)]))
    moments = Statistics(tokens=5_000, ridge=1e-2)
    editor = ROME(layer=0, **{**PLAIN, "steps": 10, "statistics": moments})
    with editor.apply(lm, facts) as edit:
        report = audit(lm, edit, candidates[:300])
    assert report.edits == 4
    assert edited <= set(report.likely)
    assert len(report.likely) < 30
    assert next(iter(edited)) in str(report)


def test_what_cannot_be_compared_is_named(tmp_path):
    with pytest.raises(BadInput, match="subjects is 'Peru'; allowed: a list"):
        audit(tiny_lm("gpt2"), tiny_lm("gpt2"), "Peru")
    lm = tiny_lm("gpt2")
    with pytest.raises(BadInput, match="not in both models"):
        audit(lm, tiny_lm("gpt2", n_layer=2))
    with pytest.raises(BadInput, match="not in both models"):
        audit(lm, tiny_lm("gpt2", n_inner=48))
    with GRACE(layer=1).apply(lm, FACTS[:1]) as edit, pytest.raises(BadInput, match="no change of"):
        audit(lm, edit)
    with pytest.raises(UnsupportedModel, match="encoder-decoder"):
        audit(tiny_lm("t5"), tiny_lm("t5"), ["Peru"])
    assert audit(tiny_lm("t5"), tiny_lm("t5")).maps == ()
