"""What can be edited: weights that are there, whole, in floating point, and seen by hooks."""

from __future__ import annotations

import pytest
import torch

from memkit.editors.finetune import FineTune
from memkit.editors.grace import GRACE
from memkit.editors.memit import MEMIT
from memkit.editors.values import Objective
from memkit.errors import BadInput, UnsupportedModel
from memkit.lm.model import LM
from memkit.testing.models import tiny_lm
from memkit.types import Fact

FACT = Fact("Peru", "The capital of {} is", "Lima")


def offloaded(lm: LM) -> None:
    lm.model.model.layers[2].to("meta")


def quantised(lm: LM) -> None:
    module = lm.model.model.layers[1].mlp.down_proj
    module.weight = torch.nn.Parameter(module.weight.to(torch.int8), requires_grad=False)


def sharded(lm: LM) -> None:
    weight = lm.model.model.layers[1].mlp.down_proj.weight
    weight.placements = ("Shard(dim=0)",)  # as a DTensor has, which wants a process group


def compiled(lm: LM) -> None:
    lm.model.compile(backend="eager")


@pytest.mark.parametrize(
    ("done", "says"),
    [
        (offloaded, r"9 weights .*'model\.layers\.2\..*offloaded.*device_map"),
        (quantised, r"'model\.layers\.1\.mlp\.down_proj\.weight' is stored as torch\.int8"),
        (sharded, "spread over devices"),
        (compiled, r"compiled in place.*\.compile\(\)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("editor", [FineTune(layer=1), GRACE(layer=1)], ids=["ft", "grace"])
def test_weights_that_cannot_be_edited_are_named(done, says, editor):
    lm = tiny_lm("llama")
    done(lm)
    with pytest.raises(UnsupportedModel, match=says):
        editor.apply(lm, [FACT])
    assert lm.edits == []


def test_a_wrapped_model_is_to_be_taken_out():
    lm = tiny_lm("llama")
    with pytest.raises(UnsupportedModel, match=r"OptimizedModule.*out of its wrapper"):
        LM(torch.compile(lm.model, backend="eager"), lm.tokenizer)


def test_a_model_that_is_not_wrapped_is_named():
    with pytest.raises(BadInput, match=r"lm is a LlamaForCausalLM; allowed: memkit\.LM.*LM\(model"):
        FineTune(layer=1).apply(tiny_lm("llama").model, [FACT])


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: MEMIT(layers=[0, 1]), r"layers is \[0, 1\], a list; allowed.*Write \(0, 1\)"),
        (lambda: MEMIT(layers=1), "layers is 1; allowed: a tuple"),
        (lambda: MEMIT(layers=(0.5,)), r"layers is \(0\.5,\); allowed: a tuple"),
        (lambda: GRACE(guards=None), r"guards is None; allowed: memkit\.Guards"),
        (lambda: FineTune(seed="a"), "seed is 'a'; allowed: an integer"),
        (lambda: Objective(steps=2.5), r"steps is 2\.5; allowed: an integer"),
        (lambda: Objective(lr="1"), "lr is '1'; allowed: a number of at least 0"),
    ],
)
def test_settings_of_another_type_are_named(made, says):
    with pytest.raises(BadInput, match=says):
        made()


@pytest.mark.parametrize("number", [1.0, "1", None])
def test_steps_are_counted_in_integers(number):
    edit = FineTune(layer=1, epochs=1).apply(tiny_lm("gpt2"), [FACT])
    with pytest.raises(BadInput, match="undo got"):
        edit.undo(number)
    with pytest.raises(BadInput, match="remove got"):
        edit.remove(number)
    with pytest.raises(BadInput, match="facts is None; allowed: a list"):
        edit.add(None)
    assert len(edit.steps) == 1
