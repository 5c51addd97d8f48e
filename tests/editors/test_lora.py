from __future__ import annotations

import pytest
import torch

import memkit
from memkit import BadInput, Fact, LoRA, MissingDependency
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm

pytest.importorskip("peft")

FACT = Fact("Samuel Butler", "{} wrote", "Paris")
PAIR = ("Who wrote Erewhon?", "Samuel Butler")


def names_of(model):
    modules = [(name, type(module), id(module)) for name, module in model.named_modules()]
    return modules, list(model.state_dict()), sorted(vars(model))


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bert"])
def test_peft_leaves_no_trace(family):
    lm = tiny_lm(family)
    before = names_of(lm.model)
    with LoRA(rank=2, epochs=2).apply(lm, [FACT]):
        assert names_of(lm.model) == before
    LoRA(rank=2, epochs=2).train(lm, [PAIR])
    assert names_of(lm.model) == before
    assert not any("lora" in type(module).__module__ for module in lm.model.modules())


def test_nor_after_an_error(monkeypatch, lm):
    before = names_of(lm.model), state_hash(lm)

    def fails(*_, **__):
        assert any("lora" in type(module).__module__ for module in lm.model.modules())
        raise KeyboardInterrupt

    monkeypatch.setattr("memkit.editors.lora.train", fails)
    with pytest.raises(KeyboardInterrupt):
        LoRA().apply(lm, [FACT])
    assert (names_of(lm.model), state_hash(lm)) == before


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_what_is_merged_says_what_peft_says(lm):
    peft = pytest.importorskip("peft")
    adapter = LoRA(rank=3, alpha=6.0, epochs=6, lr=1e-2, stop_at_argmax=False).train(lm, [PAIR])
    ids = torch.tensor([lm.codec.prompt("Who wrote Erewhon?")])
    plain = lm.model(ids).logits
    with adapter.apply(lm):
        merged = lm.model(ids).logits
    config = peft.LoraConfig(r=3, lora_alpha=3, target_modules=list(adapter.changes))
    config.fan_in_fan_out = True
    other = tiny_lm("gpt2")
    wrapped = peft.get_peft_model(other.model, config)
    for name, change in adapter.changes.items():
        layer = other.model.get_submodule(name)
        layer.lora_A["default"].weight.data = change.right.T.contiguous()
        layer.lora_B["default"].weight.data = change.left
    assert not torch.allclose(plain, merged, atol=1e-3)
    torch.testing.assert_close(wrapped(ids).logits, merged, atol=1e-5, rtol=1e-5)


def test_the_update_has_the_rank_and_a_fresh_one_is_nothing(lm):
    adapter = LoRA(rank=2, epochs=3, layers=(1,)).train(lm, [PAIR, "One, two, three."])
    assert list(adapter.changes) == ["transformer.h.1.mlp.c_fc", "transformer.h.1.mlp.c_proj"]
    for change in adapter.changes.values():
        assert torch.linalg.matrix_rank(change.left @ change.right.T) == 2
    before = state_hash(lm)
    fresh = LoRA(rank=2, stop_loss=1e9).train(lm, [PAIR])
    with fresh.apply(lm):
        assert state_hash(lm) == before


def test_training_needs_no_facts_and_leaves_the_model(lm):
    before = state_hash(lm), torch.random.get_rng_state()
    score = lm.logprob([PAIR[0]], [" " + PAIR[1]])[0].total
    adapter = LoRA(epochs=20, lr=1e-2).train(lm, [PAIR])
    assert state_hash(lm) == before[0]
    assert torch.equal(torch.random.get_rng_state(), before[1])
    with adapter.apply(lm) as edit:
        assert lm.logprob([PAIR[0]], [" " + PAIR[1]])[0].total > score + 1
        assert edit.report.facts == ()
        assert "steps by LoRA(" in edit.report.chosen["training"]
        assert str(edit.report)
    assert state_hash(lm) == before[0]
    again = LoRA(epochs=20, lr=1e-2).train(lm, [PAIR])
    assert all(torch.equal(again.changes[n].left, c.left) for n, c in adapter.changes.items())
    other = LoRA(epochs=20, lr=1e-2, seed=1).train(lm, [PAIR])
    name = next(iter(adapter.changes))
    assert not torch.equal(other.changes[name].left, adapter.changes[name].left)


def test_the_response_alone_is_learnt(lm):
    """A longer prompt does not change how many tokens count: the loss is that of the target."""
    adapter = LoRA(epochs=1, lr=1e-9).train(lm, [PAIR])
    same = LoRA(epochs=1, lr=1e-9).train(lm, [Fact("Erewhon", *PAIR)])
    for name, change in adapter.changes.items():
        assert torch.equal(change.left, same.changes[name].left)


def test_dropout_is_the_adapters_alone():
    lm = tiny_lm("gpt2", resid_pdrop=0.9)
    one = LoRA(epochs=3, seed=0).train(lm, [PAIR])
    two = LoRA(epochs=3, seed=0).train(tiny_lm("gpt2", resid_pdrop=0.0), [PAIR])
    dropped = LoRA(epochs=3, seed=0, dropout=0.5).train(lm, [PAIR])
    name = next(iter(one.changes))
    assert torch.equal(one.changes[name].left, two.changes[name].left)
    assert not torch.equal(one.changes[name].left, dropped.changes[name].left)
    assert not lm.model.training


def test_half_precision_trains_in_float32():
    lm = tiny_lm("llama")
    lm.model.bfloat16()
    before = state_hash(lm)
    with LoRA(epochs=8, lr=1e-2).apply(lm, [FACT]) as edit:
        (row,) = edit.report.facts
        assert row.after > row.before
        change = next(iter(edit.steps[0].changes.values()))[0]
        assert change.left.dtype == torch.float32
    assert state_hash(lm) == before


def test_the_targets_are_chosen_and_reported(lm):
    report = LoRA(epochs=1).apply(lm, [FACT]).report
    assert report.chosen["targets"].startswith("up, down")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"targets": ()}, r"targets is \(\)"),
        ({"layers": [1]}, r"layers is \[1\]"),
        ({"lr": float("nan")}, "lr is nan"),
    ],
)
def test_values_that_are_not_allowed(changes, message):
    with pytest.raises(BadInput, match=message):
        LoRA(**changes)


@pytest.mark.parametrize(
    ("lessons", "message"),
    [
        ([], "lessons is"),
        ("One text.", "lessons is 'One text.'"),
        ([("a", "b", "c")], "a lesson is"),
        ([("word " * 100, "b")], "allowed: 64"),
        (["word " * 100], "allowed: 2 to 64"),
    ],
)
def test_lessons_that_are_none(lm, lessons, message):
    with pytest.raises(BadInput, match=message):
        LoRA().train(lm, lessons)


def test_a_classifier_learns_labels():
    lm = tiny_lm("bert", head="BertForSequenceClassification")
    label = next(iter(lm.model.config.label2id))
    before = lm.logprob(["One, two"], [label])[0].total
    with LoRA(epochs=5, lr=1e-2, stop_at_argmax=False).train(lm, [("One, two", label)]).apply(lm):
        assert lm.logprob(["One, two"], [label])[0].total > before
    with pytest.raises(BadInput, match="is no label"):
        LoRA().train(lm, [("One, two", "nonsense")])


def test_without_peft_it_says_what_to_install(monkeypatch, lm):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(MissingDependency, match=r'pip install "memkit\[lora\]"'):
        LoRA().apply(lm, [FACT])
    assert lm.edits == []
    assert memkit.EDITORS["lora"] is LoRA
