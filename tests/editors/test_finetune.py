"""FT: what is trained, how, and that nothing else is touched."""

from __future__ import annotations

import re

import pytest
import torch

import memkit.editors.finetune as module
from memkit.editors.base import Edit
from memkit.editors.finetune import FineTune
from memkit.editors.guards import Guards
from memkit.editors.tokens import target_ids
from memkit.errors import BadInput, EditRejected
from memkit.testing.models import tiny_lm
from memkit.types import Fact

FACTS = [
    Fact("Erewhon", "{} was written by", "Samuel Butler"),
    Fact("Peru", "The capital of the country that is called {} is", "Lima"),
]
LABELLED = [
    Fact("Erewhon", "{} is a book", "LABEL_0"),
    Fact("Peru", "{} is one of the countries", "LABEL_0"),
]
CLASSIFIER = "BertForSequenceClassification"
MODELS = [
    ("gpt2", None),
    ("llama", None),
    ("opt", None),
    ("qwen2", None),
    ("t5", None),
    ("bert", None),
    ("bert", CLASSIFIER),
]
OPEN = Guards(perplexity=float("inf"), size=float("inf"))
FIXED = {"stop_loss": 0.0, "stop_at_argmax": False, "guards": OPEN}


def facts_for(lm):
    return LABELLED if lm.kind == "classifier" else FACTS


def tensors(lm):
    return {name: value.clone() for name, value in lm.model.state_dict().items()}


def changed(lm, before):
    return {k for k, v in lm.model.state_dict().items() if not torch.equal(v, before[k])}


def gradients(lm, names, facts):
    """Of the mean over facts of their losses, each in a plain pass of its own."""
    weights = [lm.model.get_parameter(name) for name in names]
    losses = []
    for weight in weights:
        weight.requires_grad_(True)
    for fact in facts:
        ids, target = lm.codec.prompt(fact.text), target_ids(fact, lm)
        if lm.kind == "encoder-decoder":
            labels = torch.tensor([target])
            losses.append(lm.model(input_ids=torch.tensor([ids]), labels=labels).loss)
        else:
            logits = lm.model(input_ids=torch.tensor([ids + target])).logits[0, len(ids) - 1 : -1]
            losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(target)))
    return torch.autograd.grad(torch.stack(losses).mean(), weights)


def adam_by_hand(lm, names, gradient, steps, lr):
    """Kingma and Ba 2015, algorithm 1, in float64, written into the model."""
    first, second = {}, {}
    for step in range(1, steps + 1):
        for name, grad in zip(names, gradient(), strict=True):
            g = grad.double()
            first[name] = 0.1 * g + 0.9 * first.get(name, torch.zeros_like(g))
            second[name] = 0.001 * g**2 + 0.999 * second.get(name, torch.zeros_like(g))
            mean, square = first[name] / (1 - 0.9**step), second[name] / (1 - 0.999**step)
            weight = lm.model.get_parameter(name).data
            weight.copy_(weight.double() - lr * mean / (square.sqrt() + 1e-8))


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
@pytest.mark.parametrize("steps", [1, 3])
def test_full_batch_steps_are_adam(family, steps):
    lm, other = tiny_lm(family), tiny_lm(family)
    lm.model.double()
    other.model.double()
    before = tensors(lm)
    edit = FineTune(epochs=steps, lr=1e-2, **FIXED).apply(lm, FACTS)
    (name,) = edit.report.parameters
    adam_by_hand(other, [name], lambda: gradients(other, [name], FACTS), steps, 1e-2)
    assert changed(lm, before) == {name}
    found, expected = lm.model.get_parameter(name), other.model.get_parameter(name)
    assert (found - before[name]).abs().max() > 5e-3
    apart = (found - expected).abs()
    assert apart.max() < 1e-4  # where a gradient is next to zero
    assert (apart < 1e-7).double().mean() > 0.99


# what is trained


def names(lm, **options):
    return FineTune(**options)._names(lm)


def test_an_mlp_matrix_is_its_weight_alone():
    assert names(tiny_lm("gpt2"), layer=1) == ["transformer.h.1.mlp.c_proj.weight"]
    assert names(tiny_lm("gpt2"), layer=1, projection="up") == ["transformer.h.1.mlp.c_fc.weight"]
    assert names(tiny_lm("llama"), layer=0) == ["model.layers.0.mlp.down_proj.weight"]
    assert names(tiny_lm("bert"), layer=2) == ["bert.encoder.layer.2.output.dense.weight"]
    t5 = tiny_lm("t5")
    assert names(t5, layer=1, stack="encoder") == [
        "encoder.block.1.layer.1.DenseReluDense.wo.weight"
    ]
    assert names(t5, layer=1, stack="decoder") == [
        "decoder.block.1.layer.2.DenseReluDense.wo.weight"
    ]


def test_a_block_is_not_those_whose_number_begins_alike():
    lm = tiny_lm("gpt2", n_layer=12)
    found = names(lm, parameters="layer", layer=1)
    block = dict(lm.model.transformer.h[1].named_parameters())
    assert found == [f"transformer.h.1.{name}" for name in block]
    assert len(found) == 12


def test_the_last_block_of_each_stack():
    lm = tiny_lm("gpt2")
    found = names(lm, parameters="last")
    assert found == names(lm, parameters="layer", layer=2)
    t5 = tiny_lm("t5")
    both = names(t5, parameters="last")
    encoder = names(t5, parameters="last", stack="encoder")
    decoder = names(t5, parameters="last", stack="decoder")
    assert both == encoder + decoder
    assert all(name.startswith("encoder.block.2.") for name in encoder)
    assert all(name.startswith("decoder.block.2.") for name in decoder)


@pytest.mark.parametrize(("family", "head"), MODELS)
def test_all_is_every_parameter_and_a_shared_one_once(family, head):
    lm = tiny_lm(family, head=head)
    found = names(lm, parameters="all")
    values = {id(value) for value in lm.model.parameters()}
    assert len(found) == len(values)
    assert {id(lm.model.get_parameter(name)) for name in found} == values


def test_a_tied_head_goes_with_the_embedding():
    lm = tiny_lm("gpt2")
    with FineTune(parameters="all", epochs=1, **FIXED).apply(lm, FACTS) as edit:
        assert lm.model.lm_head.weight is lm.model.transformer.wte.weight
        assert "transformer.wte.weight" in edit.report.parameters
        assert "lm_head.weight" not in edit.report.parameters


@pytest.mark.parametrize(("layers", "layer"), [(1, 0), (2, 1), (10, 7), (32, 22)])
def test_the_layer_is_chosen_by_depth_and_reported(layers, layer):
    lm = tiny_lm("gpt2", n_layer=layers)
    editor, chosen = FineTune().fitted(lm, FACTS)
    assert editor == FineTune(layer=layer)
    assert list(chosen) == ["layer"]
    assert chosen["layer"].startswith(f"{layer} of 0 to {layers - 1} (0.7 of the depth")
    assert FineTune(layer=0).fitted(lm, FACTS) == (FineTune(layer=0), {})
    assert FineTune(parameters="all").fitted(lm, FACTS) == (FineTune(parameters="all"), {})


def test_the_stack_is_chosen_and_reported():
    lm = tiny_lm("t5")
    with FineTune(epochs=1, **FIXED).apply(lm, FACTS) as edit:
        assert (edit.editor.stack, edit.editor.layer) == ("encoder", 2)
        assert list(edit.report.chosen) == ["stack", "layer"]
        assert edit.report.parameters == ("encoder.block.2.layer.1.DenseReluDense.wo.weight",)


# the edit


@pytest.mark.parametrize(("family", "head"), MODELS)
@pytest.mark.parametrize("parameters", ["mlp", "layer", "last", "all"])
def test_facts_are_learnt_and_leaving_restores_every_byte(family, head, parameters):
    lm = tiny_lm(family, head=head)
    facts, before, hashed = facts_for(lm), tensors(lm), lm.fingerprint()
    # the tiny models' weights are large, so the steps are
    lr = {"all": 2e-3, "mlp": 3e-2}.get(parameters, 1e-2)
    editor = FineTune(parameters=parameters, lr=lr, epochs=300, guards=OPEN)
    with editor.apply(lm, facts) as edit:
        assert lm.fingerprint() != hashed
        rows = edit.report.facts
        assert not all(row.known for row in rows)
        if lm.kind != "masked":  # where the report looks at one masked token at a time
            assert all(row.learnt for row in rows)
        assert sum(row.after for row in rows) > sum(row.before for row in rows)
        wanted = set(edit.editor._names(lm))
        shared = {id(lm.model.get_parameter(name)) for name in wanted}
        aliases = {n for n, v in lm.model.state_dict(keep_vars=True).items() if id(v) in shared}
        assert set(edit.report.parameters) == wanted
        assert changed(lm, before) <= aliases
        assert changed(lm, before)
        assert all(row.details["steps"] == rows[0].details["steps"] > 0 for row in rows)
    assert lm.fingerprint() == hashed
    assert not changed(lm, before)


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt", "t5"])
def test_what_is_learnt_is_what_the_model_says(family):
    lm = tiny_lm(family)
    texts = [fact.text for fact in FACTS]
    wanted = [tuple(target_ids(fact, lm)) for fact in FACTS]
    most = max(map(len, wanted))

    def said():
        done = lm.complete(texts, most, stop=())
        return [row.tokens[: len(target)] for row, target in zip(done, wanted, strict=True)]

    assert said() != wanted
    editor = FineTune(
        parameters="last", lr=1e-2, epochs=300, stop_loss=0.1, stop_at_argmax=False, guards=OPEN
    )
    with editor.apply(lm, FACTS) as edit:
        assert said() == wanted
        assert all(row.learnt for row in edit.report.facts)  # each token by teacher forcing


@pytest.mark.parametrize(("family", "head"), [m for m in MODELS if m[0] != "bert" or m[1]])
def test_the_reported_loss_is_that_of_the_edited_model(family, head):
    lm = tiny_lm(family, head=head)
    with FineTune(epochs=2, batch_size=1, **FIXED).apply(lm, facts_for(lm)) as edit:
        for row in edit.report.facts:
            count = 1 if lm.kind == "classifier" else len(target_ids(row.fact, lm))
            assert row.details["loss"] == pytest.approx(-row.after / count, abs=2e-5)
            assert row.details["steps"] == 4


def test_training_ends_when_the_facts_are_known():
    lm = tiny_lm("gpt2")
    editor = FineTune(lr=1e-2, epochs=300, guards=OPEN)
    edit = editor.apply(lm, FACTS)
    steps = edit.report.facts[0].details["steps"]
    assert 0 < steps < 300
    before = tensors(lm)
    edit.add(FACTS)  # known by now
    assert not changed(lm, before)
    assert [row.details["steps"] for row in edit.report.facts] == [steps, steps, 0, 0]
    edit.rollback()
    with FineTune(lr=1e-2, epochs=int(steps) - 1, guards=OPEN).apply(lm, FACTS) as edit:
        assert not all(row.learnt for row in edit.report.facts)


def test_the_same_seed_gives_the_same_bytes_and_undo_goes_back():
    lm, other = tiny_lm("gpt2"), tiny_lm("gpt2")
    editor = FineTune(epochs=3, batch_size=1, **FIXED)
    edit = editor.apply(lm, FACTS)
    once = tensors(lm)
    torch.manual_seed(99)
    editor.apply(other, FACTS)
    assert not changed(other, once)
    edit.add(FACTS[:1])
    assert changed(lm, once)
    edit.undo()
    assert not changed(lm, once)
    FineTune(epochs=3, batch_size=1, seed=1, **FIXED).apply(tiny := tiny_lm("gpt2"), FACTS)
    assert changed(tiny, once)  # another order of the batches


def test_each_step_of_the_handle_has_a_new_adam():
    lm, other = tiny_lm("gpt2"), tiny_lm("gpt2")
    editor = FineTune(layer=1, epochs=2, **FIXED)
    editor.apply(lm, FACTS[:1]).add(FACTS[1:])
    editor.apply(other, FACTS[:1])
    editor.apply(other, FACTS[1:])
    assert not changed(lm, tensors(other))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    lm = tiny_lm("llama")
    lm.model.to(dtype)
    hashed = lm.fingerprint()
    with FineTune(lr=1e-2, epochs=300, guards=OPEN).apply(lm, FACTS) as edit:
        assert lm.fingerprint() != hashed
        assert {value.dtype for value in lm.model.parameters()} == {dtype}
        assert sum(row.after - row.before for row in edit.report.facts) > 10
    assert lm.fingerprint() == hashed


def test_ctrl_c_in_the_middle_takes_the_step_back(monkeypatch):
    lm = tiny_lm("gpt2")
    edit = FineTune(epochs=3, **FIXED).apply(lm, FACTS[:1])
    before, real, calls = tensors(lm), module.losses, []

    def interrupted(*args, **kwargs):
        calls.append(changed(lm, before))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(module, "losses", interrupted)
    with pytest.raises(KeyboardInterrupt):
        edit.add(FACTS[1:])
    assert calls[2]  # two steps were taken
    assert not changed(lm, before)
    assert len(edit.steps) == 1
    assert not any(p.grad is not None for p in lm.model.parameters())


def test_flags_gradients_and_random_state_are_left_as_found():
    lm = tiny_lm("gpt2")
    lm.model.requires_grad_(False)
    weight = lm.model.transformer.h[0].mlp.c_proj.weight.requires_grad_(True)
    weight.grad = torch.ones_like(weight)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with FineTune(epochs=2, batch_size=1, **FIXED).apply(lm, FACTS):
        assert torch.equal(state, torch.get_rng_state())
        assert [p.requires_grad for p in lm.model.parameters()].count(True) == 1
        assert torch.equal(weight.grad, torch.ones_like(weight))
        assert not lm.model.training


def test_biases_of_zero_are_no_harm():
    lm = tiny_lm("bert", head=CLASSIFIER)
    torch.nn.init.zeros_(lm.model.classifier.bias)
    editor = FineTune(parameters="all", epochs=1, stop_at_argmax=False, stop_loss=0.0)
    with editor.apply(lm, LABELLED) as edit:
        assert lm.model.classifier.bias.abs().max() > 0
        assert edit.report.warnings == ()


def test_an_edit_that_breaks_the_model_is_taken_back():
    lm = tiny_lm("gpt2")
    hashed = lm.fingerprint()
    with pytest.raises(EditRejected, match=r"mlp\.c_proj\.weight changed by"):
        FineTune(lr=10.0, epochs=3, stop_at_argmax=False).apply(lm, FACTS)
    assert lm.fingerprint() == hashed
    assert lm.edits == []


# definitions


def test_a_definition_is_learnt():
    lm = tiny_lm("llama")
    text = "Erewhon is a book that Samuel Butler wrote."
    fact = Fact("Erewhon", "{} was written by", "Samuel Butler", definition=text)
    before = lm.perplexity([text])
    editor = FineTune(text="definition", parameters="last", epochs=10, lr=2e-3, **FIXED)
    with editor.apply(lm, [fact]) as edit:
        loss = edit.report.facts[0].details["loss"]
        assert lm.perplexity([text]) == pytest.approx(torch.tensor(loss).exp().item(), rel=1e-4)
        assert lm.perplexity([text]) < before / 2
    with pytest.raises(BadInput, match=r"definition of 'Erewhon was written by' is None"):
        editor.apply(lm, FACTS)
    assert lm.edits == []


# what is not allowed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameters": "first"}, "parameters is 'first'; allowed: 'all', 'last', 'layer', 'mlp'"),
        ({"projection": "gate"}, "projection is 'gate'; allowed: 'up', 'down'"),
        ({"text": "prompt"}, "text is 'prompt'; allowed: 'target', 'definition'"),
        ({"lr": 0.0}, "lr is 0.0; allowed: a finite number above 0"),
        ({"stop_loss": -1.0}, "stop_loss is -1.0; allowed: a finite number of at least 0"),
        ({"epochs": 0}, "epochs is 0; allowed: 1 or more"),
        ({"batch_size": 0}, "batch_size is 0; allowed: 1 or more"),
        ({"parameters": "last", "layer": 1}, "layer is 1, and parameters='last' takes no notice"),
        ({"parameters": "all", "stack": "encoder"}, "stack is 'encoder', and parameters='all'"),
        ({"parameters": "layer", "projection": "up"}, "projection is 'up', and parameters='layer'"),
        ({"on_guard": "ignore"}, "on_guard is 'ignore'"),
    ],
)
def test_values_that_are_not_allowed(options, message):
    with pytest.raises(BadInput, match=re.escape(message)):
        FineTune(**options)


@pytest.mark.parametrize("parameters", ["mlp", "layer"])
def test_a_layer_or_stack_that_is_not_there_is_named(parameters):
    lm = tiny_lm("gpt2")
    hashed = lm.fingerprint()
    with pytest.raises(BadInput, match=r"layer is 3; allowed: 0 to 2"):
        FineTune(parameters=parameters, layer=3).apply(lm, FACTS)
    with pytest.raises(BadInput, match=r"stack is 'encoder'; allowed: 'decoder'"):
        FineTune(parameters=parameters, stack="encoder").apply(lm, FACTS)
    assert lm.fingerprint() == hashed


def test_the_published_settings_of_the_docstring_are_editors():
    found = re.findall(r"FineTune\([^)]*\)", module.__doc__)
    editors = [eval(text, {"FineTune": FineTune}) for text in found]
    assert len(editors) == 4
    assert all(eval(repr(e), {"FineTune": FineTune, "Guards": Guards}) == e for e in editors)
    lm = tiny_lm("gpt2", n_layer=36)
    fact = Fact("Peru", "The capital of {} is", "Lima", definition="Peru is a country.")
    for editor in editors:
        with editor.apply(lm, [fact]) as edit:
            assert isinstance(edit, Edit)
            assert edit.report.facts[0].details["steps"] > 0
