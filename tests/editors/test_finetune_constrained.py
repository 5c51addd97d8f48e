"""FT-L: no weight moves further than eps, to the last bit."""

from __future__ import annotations

import math

import pytest
import torch

from memkit.editors.finetune import FineTune
from memkit.editors.finetune_constrained import FineTuneConstrained, interval
from memkit.editors.guards import Guards
from memkit.editors.training import fact_example, losses
from memkit.errors import BadInput, UnsupportedModel
from memkit.testing.models import tiny_lm
from memkit.types import Fact

FACTS = [
    Fact("Erewhon", "{} was written by", "Samuel Butler"),
    Fact("Peru", "The capital of the country that is called {} is", "Lima"),
]
OPEN = Guards(perplexity=math.inf, size=math.inf)
FIXED = {"epochs": 10, "lr": 1e-2, "stop_loss": 0.0, "guards": OPEN}


def tensors(lm):
    return {name: value.clone() for name, value in lm.model.state_dict().items()}


def moved(lm, before):
    """How far the weights are from those before, in float64."""
    pairs = [(v.double(), before[k].double()) for k, v in lm.model.state_dict().items()]
    return max((now - then).abs().max().item() for now, then in pairs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("eps", [3e-2, 7e-3, 1e-3])
@pytest.mark.parametrize("parameters", ["mlp", "all"])
def test_no_weight_moves_further_than_eps(dtype, eps, parameters):
    lm = tiny_lm("llama")
    lm.model.to(dtype)
    before = tensors(lm)
    with FineTune(parameters=parameters, stop_at_argmax=False, **FIXED).apply(lm, FACTS):
        assert moved(lm, before) > 3e-2  # or the bound would bind nothing
    with FineTuneConstrained(parameters=parameters, eps=eps, **FIXED).apply(lm, FACTS):
        assert eps / 2 < moved(lm, before) <= eps
    assert moved(lm, before) == 0


def test_the_bound_is_about_the_weights_before_the_step_of_the_handle():
    lm = tiny_lm("gpt2")
    before = tensors(lm)
    edit = FineTuneConstrained(eps=1e-3, **FIXED).apply(lm, FACTS)
    between = tensors(lm)
    edit.add(FACTS)
    assert moved(lm, between) <= 1e-3 < moved(lm, before) <= 2e-3


@pytest.mark.parametrize("eps", [math.inf, 1e300, 1e3])
def test_a_bound_that_does_not_bind_is_plain_fine_tuning(eps):
    lm, other = tiny_lm("gpt2"), tiny_lm("gpt2")
    FineTuneConstrained(eps=eps, layer=1, **FIXED).apply(lm, FACTS)
    FineTune(layer=1, stop_at_argmax=False, **FIXED).apply(other, FACTS)
    assert moved(lm, tensors(other)) == 0
    assert moved(lm, tensors(tiny_lm("gpt2"))) > 0


def test_the_first_layer_is_taken():
    editor, chosen = FineTuneConstrained().fitted(tiny_lm("gpt2"), FACTS)
    assert editor.layer == 0
    assert chosen["layer"].startswith("0 of 0 to 2 (the first")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("eps", [1e-5, 5e-4, 0.1, 70.0, 1e30])
def test_the_interval_is_the_widest_that_the_precision_has(dtype, eps):
    generator = torch.Generator().manual_seed(0)
    start = (torch.randn(500, generator=generator) * 0.3).to(dtype).double()
    start[0] = 0
    low, high = interval(start, eps, dtype)
    assert low.dtype == high.dtype == dtype
    beyond = torch.tensor((math.inf, -math.inf), dtype=dtype)
    assert (start - low.double() <= eps).all()
    assert (high.double() - start <= eps).all()
    assert (torch.nextafter(high, beyond[0]).double() - start > eps).all() or eps > 1e4
    assert (start - torch.nextafter(low, beyond[1]).double() > eps).all() or eps > 1e4


# the published code's loss


def test_the_last_position_is_trained_and_reported():
    lm = tiny_lm("gpt2")
    rows = [fact_example(lm, fact) for fact in FACTS]
    before = losses(lm, rows, last_position=True)[0].tolist()
    editor = FineTuneConstrained(eps=math.inf, loss="last_position", **FIXED)
    with editor.apply(lm, FACTS) as edit:
        after = losses(lm, rows, last_position=True)[0].tolist()
        assert [row.details["loss"] for row in edit.report.facts] == pytest.approx(after, abs=1e-6)
        assert sum(after) < sum(before) - 1


def test_target_tokens_compete_for_the_last_position():
    lm = tiny_lm("gpt2")
    target = fact_example(lm, FACTS[0]).target
    shares = [target.count(token) / len(target) for token in set(target)]
    entropy = -sum(share * math.log(share) for share in shares)
    loss = {}
    for name in ("target", "last_position"):
        editor = FineTuneConstrained(
            eps=math.inf, loss=name, parameters="last", **{**FIXED, "epochs": 100}
        )
        with editor.apply(lm, FACTS[:1]) as edit:
            loss[name] = edit.report.facts[0].details["loss"]
    assert loss["target"] < 0.2 < entropy <= loss["last_position"]


def test_what_is_not_allowed():
    with pytest.raises(BadInput, match=r"eps is 0.0; allowed: a number above 0"):
        FineTuneConstrained(eps=0.0)
    with pytest.raises(BadInput, match=r"loss is 'prompt_last'; allowed: 'target' or"):
        FineTuneConstrained(loss="prompt_last")
    with pytest.raises(BadInput, match=r"'last_position' and text 'definition'"):
        FineTuneConstrained(loss="last_position", text="definition")
    for family in ("t5", "bert"):
        lm = tiny_lm(family)
        hashed = lm.fingerprint()
        with pytest.raises(UnsupportedModel, match=rf"{type(lm.model).__name__}.*a decoder"):
            FineTuneConstrained(loss="last_position").apply(lm, FACTS)
        assert lm.fingerprint() == hashed
