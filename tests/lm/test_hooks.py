"""Hooks live as long as a block; one kind ends it early."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from memkit.lm.hooks import capture, capture_inputs, put_into_output
from memkit.testing.models import tiny_lm


class Chain(nn.Module):
    """Three linear maps, the second one called with a keyword."""

    def __init__(self):
        super().__init__()
        self.maps = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
        self.ran = []

    def forward(self, x):
        for i, each in enumerate(self.maps):
            x = each(input=x) if i == 1 else each(x)
            self.ran.append(i)
        return x


@pytest.fixture
def chain() -> Chain:
    return Chain()


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_the_block_ends_before_the_last_module_runs(chain):
    x, after = torch.ones(1, 2), []
    with capture_inputs([chain.maps[1], chain.maps[0]]) as seen:
        chain(x)
        after.append("not reached")
    assert chain.ran == [0]
    assert after == []
    assert torch.equal(seen[1], x)
    assert torch.equal(seen[0], chain.maps[0](x))
    assert hooks(chain) == 0


def test_a_module_that_is_not_called_is_missing(chain):
    stranger, after = nn.Linear(2, 2), []
    with capture_inputs([chain.maps[2], stranger]) as seen:
        chain(torch.ones(1, 2))
        after.append("reached")
    assert chain.ran == [0, 1, 2]
    assert after == ["reached"]
    assert set(seen) == {0}
    assert hooks(chain) == hooks(stranger) == 0


def test_the_first_call_counts(chain):
    with capture_inputs([chain.maps[0], chain.maps[2]]) as seen:
        chain.maps[0](torch.zeros(1, 2))
        chain(torch.ones(1, 2))
    assert torch.equal(seen[0], torch.zeros(1, 2))


def test_errors_pass_and_leave_no_hook(chain):
    with pytest.raises(KeyboardInterrupt), capture_inputs([chain.maps[0]]):
        raise KeyboardInterrupt
    assert hooks(chain) == 0


def test_an_inner_block_does_not_end_for_an_outer_one(chain):
    after = []
    with capture_inputs([chain.maps[0]]) as outer:
        with capture_inputs([chain.maps[1]]) as inner:
            chain(torch.ones(1, 2))
        after.append("not reached")
    assert (set(outer), set(inner), after) == ({0}, set(), [])


def test_a_real_pass_stops_and_the_next_one_is_whole():
    lm = tiny_lm("gpt2")
    ids = torch.tensor([lm.codec.prompt("Who wrote Erewhon?")])
    before = lm.model(input_ids=ids).logits
    site = lm.layout.site(lm.model, 1)
    with capture(lm.model.transformer.h[2]) as later, capture_inputs([site.module]) as seen:
        lm.model(input_ids=ids)
    assert later == []
    assert seen[0].shape == (1, ids.shape[1], 40)
    assert torch.equal(lm.model(input_ids=ids).logits, before)


@pytest.mark.parametrize("form", ["shaped", "flat", "tuple"])
def test_values_are_put_where_they_belong_and_nowhere_else(form):
    class Gives(nn.Module):
        def forward(self, x):
            return {"shaped": x, "flat": x.reshape(-1, 4), "tuple": (x, "weights")}[form]

    module, x = Gives(), torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    values = torch.ones(2, 3, 4)
    where = torch.tensor([[True, False, False], [False, True, True]])
    with put_into_output(module, values, where):
        given = module(x)
    if form == "tuple":
        given, rest = given
        assert rest == "weights"
    assert given.shape == ((6, 4) if form == "flat" else x.shape)
    expected = x.clone()
    expected[0, 0], expected[1, 1:] = 1, 1
    assert not torch.equal(expected, x)
    assert torch.equal(given.reshape(x.shape), expected)
    with pytest.raises(KeyboardInterrupt), put_into_output(module, values, where):
        raise KeyboardInterrupt
    assert hooks(module) == 0
