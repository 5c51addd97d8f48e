"""Memory: attention over values, for every prompt."""

from __future__ import annotations

import pytest
import torch

from memkit import Fact, Memory
from memkit.editors.prompt_end import queries
from memkit.testing.models import tiny_lm

FACTS = (
    Fact("Samuel Butler", "{} wrote", "Paris"),
    Fact("Peru", "The capital of {} is", "numbers and words"),
)
PROMPTS = ["One, two, three", FACTS[1].text, "Question: Who?", FACTS[0].text, "words"]


def memory(**how):
    return Memory(**{"steps": 30, "size": 12, **how})


@pytest.fixture
def lm():
    return tiny_lm("gpt2")


def test_weights_sum_to_one_and_the_output_is_in_the_hull(lm):
    with memory().apply(lm, FACTS) as edit:
        adaptor = edit.adaptor
        found = queries(
            lm, adaptor.site, adaptor.stack, [lm.codec.prompt(prompt) for prompt in PROMPTS]
        )
        weights = adaptor.attention(found)
        assert weights.shape == (5, 12)
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(5))
        assert bool((weights >= 0).all())
        scores = found @ adaptor.tensors["attention.weight"].T + adaptor.tensors["attention.bias"]
        torch.testing.assert_close(weights, scores.exp() / scores.exp().sum(dim=1, keepdim=True))
        (values,) = adaptor.decide(found)
        table = adaptor.tensors["values"]
        assert bool((values <= table.max(dim=0).values + 1e-5).all())
        assert bool((values >= table.min(dim=0).values - 1e-5).all())
        torch.testing.assert_close(values, weights @ table)


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt"])
def test_beside_a_hook_by_hand(family):
    """Every token of every row has the value that the prompt's last token asks for."""
    lm = tiny_lm(family)
    with memory().apply(lm, FACTS) as edit:
        tensors = edit.adaptor.tensors
        for prompt, row in zip(PROMPTS, lm.complete(PROMPTS, 6, stop=()), strict=True):
            ids = lm.codec.prompt(prompt)
            last = len(ids) - 1

            def hook(_, args, output, end=last):
                query = args[0].reshape(-1, args[0].shape[-1])[end]
                scores = tensors["attention.weight"] @ query + tensors["attention.bias"]
                return (scores.softmax(dim=0) @ tensors["values"]).expand(output.shape)

            with edit.paused(), torch.no_grad():
                handle = edit.adaptor.site.module.register_forward_hook(hook)
                whole = lm.model(input_ids=torch.tensor([[*ids, *row.tokens[:-1]]])).logits[0]
                handle.remove()
            assert whole[last:].argmax(dim=-1).tolist() == list(row.tokens)


def test_every_prompt_is_changed(lm):
    """The lower bound: what the model knew is gone, and so the guard is off by default."""

    def scores():
        return [score.total for score in lm.logprob(PROMPTS, [" words"] * 5)]

    plain, perplexity = scores(), lm.perplexity(["One, two, three: numbers and words"])
    with memory().apply(lm, FACTS[:1]) as edit:
        assert all(a != b for a, b in zip(scores(), plain, strict=True))
        assert lm.perplexity(["One, two, three: numbers and words"]) != perplexity
        assert edit.report.facts[0].after > edit.report.facts[0].before
        assert edit.report.warnings == ()
    assert Memory().guards.perplexity == float("inf")


def test_the_start(lm):
    editor = Memory().fitted(lm, FACTS)[0]
    start = editor.adaptor(lm).initial(torch.Generator().manual_seed(0))
    d_out, d_in = lm.layout.site(lm.model, 1).weight.shape
    assert {name: tuple(tensor.shape) for name, tensor in start.items()} == {
        "attention.weight": (100, d_in),
        "attention.bias": (100,),
        "values": (100, d_out),
    }
    assert 0 <= float(start["values"].min()) < 0.01
    assert 0.99 < float(start["values"].max()) < 1
    again = editor.adaptor(lm).initial(torch.Generator().manual_seed(0))
    assert all(torch.equal(start[name], again[name]) for name in start)
