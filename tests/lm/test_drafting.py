"""A look at the first token changes nothing of the answers, and says what the logits say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memkit.errors import BadInput, UnsupportedModel
from memkit.testing.models import tiny_lm

PROMPTS = ["The capital of Peru is", "Who?", "A long sentence about nothing at all, and then"]


@pytest.fixture(scope="module", params=["gpt2", "llama", "t5"])
def lm(request):
    return tiny_lm(request.param)


def everything(rows, firsts):
    return [True] * len(rows)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_all_admitted_are_answered_as_by_complete(lm, batch_size):
    plain = lm.complete(PROMPTS, 8, batch_size=batch_size)
    drafts = lm.draft(PROMPTS, everything, 8, batch_size=batch_size)
    assert [draft.completion for draft in drafts] == plain
    assert all(len(d.entropies) == len(d.completion.tokens) for d in drafts)


@pytest.mark.parametrize("admitted", [[0], [2], [0, 2], [1, 2], []])
def test_those_not_admitted_stop_and_the_others_go_on(lm, admitted):
    plain = lm.complete(PROMPTS, 8)
    drafts = lm.draft(PROMPTS, lambda rows, firsts: [row in admitted for row in rows], 8)
    for row, (draft, whole) in enumerate(zip(drafts, plain, strict=True)):
        if row in admitted:
            assert draft.completion.text == whole.text
            assert draft.completion.logprob == pytest.approx(whole.logprob, abs=1e-4)
        else:
            assert draft.completion is None
            assert draft.entropies == ()


def test_first_tokens_are_what_the_logits_say():
    lm = tiny_lm("gpt2")
    layer = 1
    drafts = lm.draft(PROMPTS, lambda rows, firsts: [False] * len(rows), layers=[layer])
    for prompt, draft in zip(PROMPTS, drafts, strict=True):
        ids = torch.tensor([lm.codec.prompt(prompt)])
        with torch.no_grad():
            out = lm.model(input_ids=ids, output_hidden_states=True)
        probabilities = out.logits[0, -1].double().softmax(-1)
        best, second = probabilities.sort(descending=True).values[:2]
        assert draft.first.margin == pytest.approx(float((best / second).log()), abs=1e-4)
        entropy = -(probabilities * probabilities.log()).sum()
        assert draft.first.entropy == pytest.approx(float(entropy), abs=1e-4)
        hidden = out.hidden_states[layer + 1][0, -1].numpy()
        if layer + 1 < len(lm.layout.layers(lm.model)):  # the last is given after the final norm
            assert np.allclose(draft.first.hidden[layer], hidden, atol=1e-5)


def test_hidden_states_of_an_inner_layer():
    lm = tiny_lm("gpt2")
    drafts = lm.draft(PROMPTS, lambda rows, firsts: [False] * len(rows), layers=[0])
    for prompt, draft in zip(PROMPTS, drafts, strict=True):
        ids = torch.tensor([lm.codec.prompt(prompt)])
        with torch.no_grad():
            out = lm.model(input_ids=ids, output_hidden_states=True)
        expected = out.hidden_states[1][0, -1].numpy()
        assert np.allclose(draft.first.hidden[0], expected, atol=1e-5)


def test_an_edit_over_a_layer_sees_its_prompts_where_rows_are_left_out():
    from memkit import GRACE, Fact

    lm = tiny_lm("gpt2")
    fact = Fact("Peru", "The capital of {} is", "me")
    bare = lm.complete(PROMPTS, 6)
    with GRACE(layer=1, on_guard="warn").apply(lm, [fact]):
        plain = lm.complete(PROMPTS, 6)
        assert plain[0].text != bare[0].text  # the edit does something
        for left_out in range(3):
            drafts = lm.draft(PROMPTS, lambda rows, _, out=left_out: [r != out for r in rows], 6)
            for row, draft in enumerate(drafts):
                if row != left_out:
                    assert draft.completion.text == plain[row].text


def test_admit_is_told_places_in_the_prompts():
    lm = tiny_lm("gpt2")
    told = []
    lm.draft(PROMPTS, lambda rows, firsts: told.extend(rows) or [False] * len(rows), batch_size=2)
    assert sorted(told) == [0, 1, 2]


def test_refuses():
    lm = tiny_lm("gpt2")
    with pytest.raises(BadInput, match="layer is 99; allowed: 0 to"):
        lm.draft(PROMPTS, everything, layers=[99])
    with pytest.raises(UnsupportedModel, match="hidden states"):
        tiny_lm("t5").draft(PROMPTS, everything, layers=[0])
    with pytest.raises(UnsupportedModel, match="does not generate"):
        tiny_lm("bert").draft(PROMPTS, everything)
