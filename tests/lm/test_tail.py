"""The tail of a model gives what the whole model gives."""

from __future__ import annotations

import pytest
import torch

from memkit.errors import UnsupportedModel
from memkit.lm.hooks import add_to_output
from memkit.lm.layouts import LAYOUTS
from memkit.lm.tail import Tail, aligned
from memkit.testing.models import tiny_lm

DECODERS = sorted(name for name, layout in LAYOUTS.items() if "decoder" in layout.heads.values())
ROWS = [[5, 9, 31, 7, 44, 12], [8, 3, 17], [21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32]]
PLACES = [2, 0, 10]


def whole(lm, row):
    """Logits of one row alone, by the plain model."""
    with torch.no_grad():
        return lm.model(input_ids=torch.tensor([row])).logits[0]


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("first", [0, 1, 3])
def test_the_tail_gives_the_logits_of_the_whole_model(family, first):
    lm = tiny_lm(family)
    tail = Tail.of(lm, aligned(ROWS, PLACES, lm.device), first)
    logits = lm.layout.logits(lm.model, tail.run(tail.hidden))
    for number, (row, place) in enumerate(zip(ROWS, PLACES, strict=True)):
        expected = whole(lm, row)[place:]
        torch.testing.assert_close(logits[number, : len(expected)], expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("family", DECODERS)
def test_a_change_reaches_what_it_reaches_in_the_whole_model(family):
    lm = tiny_lm(family)
    width = lm.layout.site(lm.model, 1).weight.shape[0]
    delta = torch.randn(len(ROWS), width, generator=torch.Generator().manual_seed(0))
    site = lm.layout.site(lm.model, 1)
    tail = Tail.of(lm, aligned(ROWS, PLACES, lm.device), 1)
    with add_to_output(site.module, delta, 0):
        logits = lm.layout.logits(lm.model, tail.run(tail.hidden))
    for number, (row, place) in enumerate(zip(ROWS, PLACES, strict=True)):
        with add_to_output(site.module, delta[number : number + 1], place):
            expected = whole(lm, row)[place:]
        assert not torch.allclose(expected, whole(lm, row)[place:], atol=1e-3)
        torch.testing.assert_close(logits[number, : len(expected)], expected, atol=3e-4, rtol=1e-4)


@pytest.mark.parametrize("family", DECODERS)
def test_adding_to_the_mlp_is_adding_to_the_stream_where_the_layout_says_so(family):
    lm = tiny_lm(family)
    site = lm.layout.site(lm.model, 1)
    delta = torch.randn(len(ROWS), site.weight.shape[0], generator=torch.Generator().manual_seed(0))
    rows = aligned(ROWS, PLACES, lm.device)
    at, above = Tail.of(lm, rows, 1), Tail.of(lm, rows, 2)
    with add_to_output(site.module, delta, 0):
        inside = at.run(at.hidden)
    stream = above.hidden.clone()
    stream[:, 0] += delta
    same = torch.allclose(inside[:, 0], above.run(stream)[:, 0], atol=1e-3)
    assert same == lm.layout.adds_last(lm.model)


def test_rows_can_be_selected():
    lm = tiny_lm("llama")
    tail = Tail.of(lm, aligned(ROWS, PLACES, lm.device), 1)
    some = tail.select(torch.tensor([2, 0]))
    torch.testing.assert_close(some.run(some.hidden), tail.run(tail.hidden)[[2, 0]])


@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral", "gemma2", "gptj"])
def test_eager_attention_gives_the_same(family):
    lm = tiny_lm(family)
    lm.model.set_attn_implementation("eager")
    tail = Tail.of(lm, aligned(ROWS, PLACES, lm.device), 1)
    logits = lm.layout.logits(lm.model, tail.run(tail.hidden))
    for number, (row, place) in enumerate(zip(ROWS, PLACES, strict=True)):
        expected = whole(lm, row)[place:]
        torch.testing.assert_close(logits[number, : len(expected)], expected, atol=2e-4, rtol=1e-4)


def test_attention_whose_masks_cannot_be_cut_is_named():
    lm = tiny_lm("llama")
    lm.model.set_attn_implementation("flex_attention")
    with pytest.raises(UnsupportedModel, match=r"'flex_attention'.*set_attn_implementation\('sdpa"):
        Tail.of(lm, aligned(ROWS, PLACES, lm.device), 1)
    lm.model.set_attn_implementation("sdpa")
    Tail.of(lm, aligned(ROWS, PLACES, lm.device), 1)
