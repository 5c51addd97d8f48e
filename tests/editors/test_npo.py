"""NPO against its formula in a plain loop, and what becomes of it for small and large beta."""

from __future__ import annotations

import math

import pytest
import torch

import memkit
from memkit import NPO, BadInput, FineTune, GradientAscent, Guards
from memkit.testing.editor import FACTS, EditorContract
from memkit.testing.models import tiny_lm

OPEN = Guards(perplexity=1e9, size=math.inf)
TEXTS = ("One, two, three: numbers and words.", "Samuel Butler wrote Erewhon.")
STEADY = {"layer": 1, "stop_loss": math.inf, "guards": OPEN}


class TestNPO(EditorContract):
    families = ("gpt2", "llama", "qwen2")
    unsupported = "t5"

    @pytest.fixture
    def editor(self):
        return NPO(epochs=4, lr=1e-2, stop_loss=math.inf, guards=OPEN)


def log_p(lm, fact):
    """Of the whole target after the prompt, by the model's own logits."""
    given = lm.codec.prompt(fact.text)
    target = lm.codec.target(f" {fact.target}")
    logits = lm.model(input_ids=torch.tensor([given + target])).logits[0]
    rows = logits[len(given) - 1 : -1].log_softmax(-1)
    return rows[range(len(target)), target].sum()


def loop(lm, reference, facts, beta, lr, epochs):
    """Adam on -(2 / beta) mean log sigmoid(-beta log(p / p_ref)), the paper's equation."""
    weight = lm.layout.site(lm.model, 1).parameter.requires_grad_(True)
    optimiser = torch.optim.Adam([weight], lr=lr)
    with torch.no_grad():
        before = [log_p(reference, fact) for fact in facts]
    for _ in range(epochs):
        optimiser.zero_grad()
        ratios = [log_p(lm, fact) - old for fact, old in zip(facts, before, strict=True)]
        terms = [torch.nn.functional.logsigmoid(-beta * ratio) for ratio in ratios]
        (-2 / beta * torch.stack(terms).mean()).backward()
        optimiser.step()
    return weight.detach()


@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_it_is_the_paper_s_loss(beta):
    lm, other, base = (tiny_lm("llama") for _ in range(3))
    with NPO(beta=beta, lr=3e-3, epochs=8, **STEADY).apply(lm, FACTS[:2]) as edit:
        one = loop(other, base, FACTS[:2], beta, 3e-3, 8)
        plain = base.layout.site(base.model, 1).weight
        assert (one - plain).abs().max() > 1e-2
        torch.testing.assert_close(lm.layout.site(lm.model, 1).weight, one, atol=1e-5, rtol=1e-4)
        edit.add(FACTS[2:])  # the reference is the model before the first step
        two = loop(other, base, FACTS[2:], beta, 3e-3, 8)
        torch.testing.assert_close(lm.layout.site(lm.model, 1).weight, two, atol=3e-5, rtol=1e-4)


def test_a_small_beta_is_gradient_ascent():
    found = []
    for editor in (
        NPO(beta=1e-6, lr=1e-3, epochs=6, **STEADY),
        GradientAscent(lr=1e-3, epochs=6, **STEADY),
    ):
        lm = tiny_lm("gpt2")
        editor.apply(lm, FACTS[:1])
        found.append(lm.layout.site(lm.model, 1).weight.clone())
    torch.testing.assert_close(*found, atol=2e-6, rtol=0)


def test_it_slows_down_where_ascent_goes_on():
    moved = {}
    for name, editor in {
        "ascent": GradientAscent(lr=1e-2, epochs=60, **STEADY),
        "npo": NPO(beta=1.0, lr=1e-2, epochs=60, **STEADY),
    }.items():
        lm = tiny_lm("gpt2")
        before = lm.layout.site(lm.model, 1).weight.clone()
        (row,) = editor.apply(lm, FACTS[:1]).report.facts
        assert row.after < row.before - 5
        moved[name] = float((lm.layout.site(lm.model, 1).weight - before).norm())
    assert moved["npo"] < 0.7 * moved["ascent"]


def test_a_fact_is_forgotten_by_its_own_loss():
    lm = tiny_lm("gpt2")
    FineTune(lr=1e-2, guards=OPEN).apply(lm, FACTS[:1])
    with NPO(stop_loss=9.0, lr=3e-3, epochs=200, layer=1, guards=OPEN).apply(lm, FACTS[:1]) as edit:
        details = edit.report.facts[0].details
        assert 1 < details["steps"] < 200
        assert details["loss"] > 9
    argmax = NPO(stop_at_argmax=True, lr=1e-3, epochs=99, **STEADY)
    with argmax.apply(lm, FACTS[:1]) as edit:
        (row,) = edit.report.facts
        assert not row.learnt
        assert 0 < row.details["steps"] < 99
    with NPO(stop_loss=0.0, layer=1, guards=OPEN).apply(lm, FACTS[:1]) as edit:
        assert edit.report.facts[0].details["steps"] == 0


def test_with_kl_it_holds_control_texts():
    kl = {}
    for weight in (0.0, 20.0):
        lm = tiny_lm("gpt2")
        editor = NPO(control=TEXTS, kl_weight=weight, lr=1e-2, epochs=6, **STEADY)
        (row,) = editor.apply(lm, FACTS[:1]).report.facts
        kl[weight] = row.details["kl"]
    assert 0 < kl[20.0] < kl[0.0] / 2
    lm = tiny_lm("gpt2")
    bounded = NPO(control=TEXTS, kl_bound=kl[0.0] / 3, lr=1e-2, epochs=6, **STEADY)
    assert bounded.apply(lm, FACTS[:1]).report.facts[0].details["kl"] <= kl[0.0] / 3


def test_beta_is_checked_and_the_editor_registered():
    with pytest.raises(BadInput, match="beta is 0; allowed"):
        NPO(beta=0)
    with pytest.raises(BadInput, match="end is True"):
        NPO(end=True)
    assert memkit.EDITORS["npo"] is NPO
    assert NPO.erases
