"""FT+EWC: the Fisher information by hand, and plain fine-tuning where there is no pull."""

from __future__ import annotations

import pytest
import torch

import memkit.editors.finetune_ewc as module
from memkit.editors.finetune import FineTune
from memkit.editors.finetune_ewc import FineTuneEWC
from memkit.editors.guards import Guards
from memkit.editors.tokens import target_ids
from memkit.errors import BadInput, UnsupportedModel
from memkit.testing.models import tiny_lm
from memkit.types import Fact

FACTS = [
    Fact("Erewhon", "{} was written by", "Samuel Butler"),
    Fact("Peru", "The capital of the country that is called {} is", "Lima"),
    Fact("France", "The capital of {} is", "Paris"),
    Fact("One", "{}, two,", "three"),
]
OPEN = Guards(perplexity=float("inf"), size=float("inf"))
FIXED = {
    "layer": 1,
    "epochs": 3,
    "lr": 1e-2,
    "stop_loss": 0.0,
    "stop_at_argmax": False,
    "guards": OPEN,
}
NAME = {"gpt2": "transformer.h.1.mlp.c_proj.weight", "llama": "model.layers.1.mlp.down_proj.weight"}
NAME["t5"] = "encoder.block.1.layer.1.DenseReluDense.wo.weight"


def same(lm, other):
    mine, theirs = lm.model.state_dict(), other.model.state_dict()
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


def loss_of(lm, fact):
    """The loss of one fact as transformers computes it."""
    ids, target = lm.codec.prompt(fact.text), target_ids(fact, lm)
    if lm.kind == "encoder-decoder":
        given, labels = ids, target
    else:
        given, labels = ids + target, [-100] * len(ids) + target
    return lm.model(input_ids=torch.tensor([given]), labels=torch.tensor([labels])).loss


def fisher_by_hand(lm, weight, losses):
    squares = [torch.autograd.grad(loss, weight)[0] ** 2 for loss in losses]
    return sum(squares) / len(squares)


@pytest.fixture
def noted(monkeypatch):
    """The Fisher information of every step that has one."""
    found, real = [], module.fisher
    monkeypatch.setattr(module, "fisher", lambda *a: found.append(real(*a)) or found[-1])
    return found


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
@pytest.mark.parametrize("batch_size", [1, 100])
def test_fisher_is_the_mean_of_squared_gradients_of_past_facts(family, batch_size, noted):
    lm = tiny_lm(family)
    edit = FineTuneEWC(batch_size=batch_size, **FIXED).apply(lm, FACTS[:2]).add(FACTS[2:3])
    assert len(noted) == 1  # none without history
    weight = lm.model.get_parameter(NAME[family]).requires_grad_(True)
    expected = fisher_by_hand(lm, weight, [loss_of(lm, fact) for fact in FACTS[:3]])
    edit.add(FACTS[3:])
    ((found,),) = noted[1:]
    assert found.min() >= 0
    assert found.max() > 0
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-6 * expected.max().item())


def test_only_the_newest_past_facts_count_and_not_what_is_written_anew(noted):
    lm = tiny_lm("gpt2")
    edit = FineTuneEWC(past=2, **FIXED).apply(lm, FACTS[:3])
    newer = Fact(FACTS[2].subject, FACTS[2].prompt, "Lima")
    weight = lm.model.get_parameter(NAME["gpt2"]).requires_grad_(True)
    expected = fisher_by_hand(lm, weight, [loss_of(lm, fact) for fact in FACTS[:2]])
    edit.add([newer])
    torch.testing.assert_close(noted[0][0], expected, rtol=2e-3, atol=1e-6 * expected.max().item())
    expected = fisher_by_hand(lm, weight, [loss_of(lm, fact) for fact in (FACTS[1], newer)])
    edit.add(FACTS[3:])
    torch.testing.assert_close(noted[1][0], expected, rtol=2e-3, atol=1e-6 * expected.max().item())


@pytest.mark.parametrize("parameters", ["mlp", "all"])
def test_without_a_pull_it_is_plain_fine_tuning(parameters):
    options = {**FIXED, "layer": None if parameters == "all" else 1, "parameters": parameters}

    def sequence(editor):
        lm = tiny_lm("gpt2")
        editor.apply(lm, FACTS[:2]).add(FACTS[2:])
        return lm

    plain = sequence(FineTune(**options))
    assert not same(sequence(FineTuneEWC(ewc_lambda=100.0, **options)), plain)
    assert same(sequence(FineTuneEWC(ewc_lambda=0.0, **options)), plain)
    alone, other = tiny_lm("gpt2"), tiny_lm("gpt2")
    FineTuneEWC(ewc_lambda=1e6, **options).apply(alone, FACTS)
    FineTune(**options).apply(other, FACTS)
    assert same(alone, other)  # no history, no pull


def test_the_pull_is_the_gradient_of_the_penalty():
    lm, other = tiny_lm("gpt2"), tiny_lm("gpt2")
    strength = 1000.0
    editor = FineTuneEWC(ewc_lambda=strength, **FIXED)
    editor.apply(lm, FACTS[:2]).add(FACTS[2:3])
    FineTune(**FIXED).apply(other, FACTS[:2])
    weight = other.model.get_parameter(NAME["gpt2"]).requires_grad_(True)
    fisher = fisher_by_hand(other, weight, [loss_of(other, fact) for fact in FACTS[:2]])
    start = weight.detach().clone()
    optimiser = torch.optim.Adam([weight], lr=1e-2)
    for _ in range(3):
        penalty = (fisher * (weight - start) ** 2).sum()
        weight.grad = torch.autograd.grad(loss_of(other, FACTS[2]) + strength * penalty, weight)[0]
        optimiser.step()
    found = lm.model.get_parameter(NAME["gpt2"])
    close = (found - weight).abs() < 1e-5
    assert close.float().mean() > 0.98
    assert (found - weight).abs().max() < 2e-3


def test_a_stronger_pull_moves_what_matters_less_far():
    far = []
    for strength in (0.0, 1e3, 1e6):
        lm = tiny_lm("gpt2")
        many = {**FIXED, "epochs": 50}
        edit = FineTuneEWC(ewc_lambda=strength, **many).apply(lm, FACTS[:1])
        weight = lm.model.get_parameter(NAME["gpt2"]).requires_grad_(True)
        fisher = fisher_by_hand(lm, weight, [loss_of(lm, FACTS[0])])
        start = weight.detach().clone()
        edit.add(FACTS[2:3])
        far.append((fisher * (weight.detach() - start) ** 2).sum().item())
    assert far[0] > 2 * far[1] > 4 * far[2]


def test_a_sample_takes_the_place_of_past_facts(noted):
    lm = tiny_lm("gpt2")
    sample = ("Samuel Butler wrote Erewhon.", "One, two, three: numbers and words")
    weight = lm.model.get_parameter(NAME["gpt2"]).requires_grad_(True)
    rows = [torch.tensor([lm.codec.prompt(text)]) for text in sample]
    losses = [lm.model(input_ids=ids, labels=ids).loss for ids in rows]
    expected = fisher_by_hand(lm, weight, losses)
    FineTuneEWC(sample=sample, **FIXED).apply(lm, FACTS[:2])
    ((found,),) = noted
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-6 * expected.max().item())
    with pytest.raises(UnsupportedModel, match=r"T5.*sample\[0\].*a decoder"):
        FineTuneEWC(sample=sample).apply(tiny_lm("t5"), FACTS)


@pytest.mark.parametrize("head", [None, "BertForSequenceClassification"])
def test_other_kinds_have_a_history_too(head, noted):
    lm = tiny_lm("bert", head=head)
    facts = [Fact("Peru", "{} is", "LABEL_0"), Fact("One", "{} is", "LABEL_1")] if head else FACTS
    hashed = lm.fingerprint()
    with FineTuneEWC(parameters="all", epochs=2, guards=OPEN).apply(lm, facts[:1]) as edit:
        edit.add(facts[1:])
        assert len(noted) == 1
    assert lm.fingerprint() == hashed


def test_half_precision_keeps_the_sums_in_float32(noted):
    lm = tiny_lm("llama")
    lm.model.to(torch.bfloat16)
    FineTuneEWC(**FIXED).apply(lm, FACTS[:1]).add(FACTS[1:2])
    assert noted[0][0].dtype == torch.float32


def test_what_is_not_allowed():
    with pytest.raises(BadInput, match=r"ewc_lambda is -1; allowed: a finite number of at least 0"):
        FineTuneEWC(ewc_lambda=-1)
    with pytest.raises(BadInput, match=r"past is 0; allowed: 1 or more"):
        FineTuneEWC(past=0)
    with pytest.raises(BadInput, match=r"sample is 'text'; allowed: a tuple of texts"):
        FineTuneEWC(sample="text")
    with pytest.raises(BadInput, match=r"sample\[1\] is ' '"):
        FineTuneEWC(sample=("One, two", " ")).apply(tiny_lm("gpt2"), FACTS)
