"""Defer: the gate, who is handed over, and that the rest is untouched to the bit."""

from __future__ import annotations

import pytest
import torch

import memkit
from memkit import BadInput, Defer, Fact, Guards, Memory
from memkit.editors import steps
from memkit.editors.prompt_end import queries
from memkit.lm.batching import padded, positions
from memkit.testing.models import tiny_lm

OPEN = Guards(perplexity=float("inf"))
FACTS = (
    Fact("Samuel Butler", "{} wrote", "Paris"),
    Fact("Peru", "The capital of {} is", "numbers and words"),
    Fact("France", "The capital of {} is", "Lima"),
)
PROMPTS = ["One, two, three", FACTS[1].text, "Question: Who?", FACTS[0].text, "words"]


def defer(**how):
    return Defer(**{"steps": 12, "guards": OPEN, **how})


def shares(lm, edit, prompts=PROMPTS):
    """The gate at each prompt, by the formula."""
    adaptor = edit.adaptor
    rows = [lm.codec.prompt(prompt) for prompt in prompts]
    found = queries(lm, adaptor.site, adaptor.stack, rows)
    weight, bias = adaptor.tensors["gate.weight"], adaptor.tensors["gate.bias"]
    return [1 / (1 + float(torch.exp(-(weight @ q + bias[0])))) for q in found]


def spread(edit):
    """A gate that tells the prompts apart, in place of the trained one."""
    d_in = edit.adaptor.site.weight.shape[1]
    weight = torch.randn(d_in, generator=torch.Generator().manual_seed(0)) / 3
    edit.adaptor.tensors = {**edit.adaptor.tensors, "gate.weight": weight}


def logits(lm, prompts=PROMPTS):
    ids, mask = padded([lm.codec.prompt(p) for p in prompts], lm.device, left=True)
    with torch.no_grad():
        return lm.model(input_ids=ids, attention_mask=mask, position_ids=positions(mask)).logits


@pytest.fixture
def lm():
    return tiny_lm("gpt2")


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_rows_below_the_threshold_are_bit_equal(family):
    lm = tiny_lm(family)
    with defer().apply(lm, FACTS[:2]) as edit:
        spread(edit)
        gates = shares(lm, edit)
        with edit.paused():
            plain = logits(lm)
        order = sorted(gates)
        for threshold in [(order[i] + order[i + 1]) / 2 for i in range(4)]:
            edit.adaptor.threshold = threshold
            same = [torch.equal(a, b) for a, b in zip(logits(lm), plain, strict=True)]
            assert same == [gate < threshold for gate in gates]
        edit.adaptor.threshold = 1.0
        assert torch.equal(logits(lm), plain)
        edit.adaptor.threshold = 0.0
        assert not any(map(torch.equal, logits(lm), plain))


def test_at_the_threshold_a_prompt_is_handed_over(lm):
    with defer(threshold=0.0).apply(lm, FACTS[:1]) as edit:
        adaptor = edit.adaptor
        (gate,) = adaptor.gates(torch.ones(1, adaptor.site.weight.shape[1]))
        for threshold, expected in [
            (gate, True),
            (torch.nextafter(gate, torch.tensor(2.0)), False),
        ]:
            adaptor.threshold = threshold.item()
            decided = adaptor.decide(torch.ones(1, adaptor.site.weight.shape[1]))
            assert (decided is not None) == expected


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
def test_the_threshold_is_that_of_the_field(lm, threshold):
    with defer(threshold=threshold).apply(lm, FACTS[:1]) as edit:
        assert edit.adaptor.threshold == threshold
        assert edit.report.facts[0].after > edit.report.facts[0].before
        assert shares(lm, edit, [FACTS[0].text])[0] >= threshold


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt"])
def test_beside_a_hook_by_hand(family):
    """One bare row at a time, every token's own value, without a cache."""
    lm = tiny_lm(family)
    with defer().apply(lm, FACTS[:2]) as edit:
        spread(edit)
        adaptor, gates = edit.adaptor, shares(lm, edit)
        weight, bias = adaptor.tensors["value.weight"], adaptor.tensors["value.bias"]
        adaptor.threshold = (sorted(gates)[1] + sorted(gates)[2]) / 2
        done = lm.complete(PROMPTS, 6, stop=())
        for prompt, gate, row in zip(PROMPTS, gates, done, strict=True):
            ids = lm.codec.prompt(prompt)

            def hook(_, args, output, open=gate >= adaptor.threshold):
                return args[0] @ weight.T + bias if open else output

            with edit.paused(), torch.no_grad():
                handle = adaptor.site.module.register_forward_hook(hook)
                whole = lm.model(input_ids=torch.tensor([[*ids, *row.tokens[:-1]]])).logits[0]
                handle.remove()
            assert whole[len(ids) - 1 :].argmax(dim=-1).tolist() == list(row.tokens)


@pytest.mark.parametrize("kind", [defer, lambda: Memory(steps=12, size=10)])
@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_a_batch_is_one_by_one_also_when_rows_end_early(kind, family):
    lm = tiny_lm(family)
    with kind().apply(lm, FACTS[:2]):
        for stop in [(), ("a", "e", "o", "n")]:
            whole = lm.complete(PROMPTS, 8, stop)
            assert [row.tokens for row in whole] == [
                lm.complete([prompt], 8, stop)[0].tokens for prompt in PROMPTS
            ]


@pytest.mark.parametrize("kind", [defer, lambda: Memory(steps=12, size=10)])
@pytest.mark.parametrize("how", [{}, {"num_beams": 3}])
def test_generate_of_transformers_with_and_without_a_cache(lm, kind, how):
    ids, mask = padded([lm.codec.prompt(p) for p in PROMPTS], lm.device, left=True)
    arguments = {"input_ids": ids, "attention_mask": mask, "pad_token_id": 0, **how}
    with kind().apply(lm, FACTS[:2]):
        cached = lm.model.generate(**arguments, max_new_tokens=6, do_sample=False)
        with lm.ends.saying([ids.shape[1] - 1] * len(ids)):
            plain = lm.model.generate(
                **arguments, max_new_tokens=6, do_sample=False, use_cache=False
            )
        assert cached.tolist() == plain.tolist()


def test_training_mixes_and_stops_when_it_is_learnt_in_use(lm):
    with defer(steps=100, stop_loss=0.5).apply(lm, FACTS[:1]) as edit:
        (row,) = edit.report.facts
        assert row.learnt
        assert 0 < row.details["steps"] < 100
        assert row.details["loss"] < 0.5
        adaptor = edit.adaptor
        adaptor.soft = True
        query = torch.ones(1, adaptor.site.weight.shape[1])
        output = torch.randn(1, 2, adaptor.site.weight.shape[0])
        decided = adaptor.decide(query)
        share = float(adaptor.gates(query)[0].detach())
        hidden = torch.randn(1, 2, query.shape[1])
        value = hidden @ adaptor.tensors["value.weight"].T + adaptor.tensors["value.bias"]
        mixed = adaptor.change(decided, hidden, output, torch.ones(1, 2, dtype=torch.bool))
        torch.testing.assert_close(mixed, share * value + (1 - share) * output)


def test_the_gate_starts_closed(lm):
    editor = defer().fitted(lm, FACTS[:1])[0]
    start = editor.adaptor(lm).initial(torch.Generator().manual_seed(0))
    d_out, d_in = lm.layout.site(lm.model, 1).weight.shape
    assert {name: tuple(t.shape) for name, t in start.items()} == {
        "gate.weight": (d_in,),
        "gate.bias": (1,),
        "value.weight": (d_out, d_in),
        "value.bias": (d_out,),
    }
    assert float(torch.sigmoid(start["gate.bias"])[0]) < 0.3
    assert not start["gate.weight"].any()
    assert float(start["value.weight"].abs().max()) <= d_in**-0.5


@pytest.mark.parametrize("kind", [defer, lambda: Memory(steps=10, size=10)])
def test_whole_steps_are_saved_as_one_and_not_removed_from_among_others(lm, kind, tmp_path):
    edit = kind().apply(lm, FACTS[:1])
    before = logits(lm)
    edit.add(FACTS[1:2])
    after = logits(lm)
    assert not torch.equal(before, after)
    for step in (0, 1):
        with pytest.raises(BadInput, match=f"remove got {step}, and .* keeps whole weights"):
            edit.remove(step)
    assert torch.equal(logits(lm), after)
    edit.save(tmp_path / "edit")
    edit.rollback()
    saved = memkit.load_edit(tmp_path / "edit")
    assert saved.facts == FACTS[:2]
    with saved.apply(lm) as live:
        assert len(live.steps) == 1
        assert torch.equal(logits(lm), after)


@pytest.mark.parametrize("kind", [defer, lambda: Memory(steps=10, size=10)])
def test_old_states_are_dropped_beyond_the_bound(lm, kind, monkeypatch):
    edit = kind().apply(lm, FACTS[:1])
    size = sum(tensor.nbytes for tensor in edit.steps[0].state.values())
    monkeypatch.setattr(steps, "KEPT_BYTES", 2 * size)
    for fact in FACTS[1:]:
        edit.add([fact])
    assert [bool(step.state) for step in edit.steps] == [False, True, True]
    now = logits(lm)
    with edit.paused():
        assert not torch.equal(logits(lm), now)
    edit._restore()
    assert torch.equal(logits(lm), now)
    edit.undo()
    two = logits(lm)
    with pytest.raises(BadInput, match="the weights after step 1 were dropped"):
        edit.undo()
    assert torch.equal(logits(lm), two)
    edit.rollback()


@pytest.mark.parametrize("kind", [defer, lambda: Memory(steps=5, size=10)])
def test_half_precision(kind):
    lm = tiny_lm("llama")
    lm.model.to(torch.bfloat16)
    with kind().apply(lm, FACTS[:2]) as edit:
        assert {tensor.dtype for tensor in edit.adaptor.tensors.values()} == {torch.float32}
        assert edit.report.facts[0].after != edit.report.facts[0].before
        assert len(lm.generate(PROMPTS, 3, stop=())) == 5
