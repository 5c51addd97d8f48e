"""What GRACE chooses for a model, how values are trained, and what is refused."""

from __future__ import annotations

import dataclasses
import itertools
import statistics

import numpy as np
import pytest
import torch

from memkit import GRACE, Defer, Fact, Guards, Memory
from memkit.editors import grace as module
from memkit.editors.training import fact_example, losses
from memkit.errors import BadInput, UnsupportedModel
from memkit.lm import layouts
from memkit.lm.hooks import capture
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm

OPEN = Guards(perplexity=float("inf"))
FACTS = (
    Fact("Samuel Butler", "{} wrote", "Paris"),
    Fact("Peru", "The capital of {} is", "numbers and words"),
    Fact("France", "The capital of {} is", "Lima"),
)
EDITORS = [GRACE, Defer, Memory]


def known_as(monkeypatch, lm, name):
    """Let a tiny model pass for a published one."""
    width = lm.model.get_input_embeddings().weight.shape[1]
    config = lm.model.config
    shape = (config.model_type, len(lm.layout.layers(lm.model)), width, config.vocab_size)
    monkeypatch.setattr(layouts, "KNOWN", {shape: name})


# what is chosen


@pytest.mark.parametrize("kind", EDITORS)
@pytest.mark.parametrize(
    ("name", "layer", "projection"),
    [("gpt2-xl", 35, "up"), ("gpt-j-6b", 25, "down"), ("llama-2-7b", 27, "down")],
)
def test_a_known_models_preset_is_taken(monkeypatch, kind, name, layer, projection):
    lm = tiny_lm("gpt2", n_layer=40)
    known_as(monkeypatch, lm, name)
    fitted, chosen = kind(guards=OPEN).fitted(lm, FACTS[:1])
    assert (fitted.layer, fitted.projection) == (layer, projection)
    assert chosen["layer"] == f"{layer} (preset of {name})"
    assert chosen["projection"] == f"{projection} (preset of {name})"
    fitted, chosen = kind(layer=3, projection="down").fitted(lm, FACTS[:1])
    assert (fitted.layer, fitted.projection) == (3, "down")
    assert not {"layer", "projection"} & set(chosen)


@pytest.mark.parametrize("kind", EDITORS)
@pytest.mark.parametrize(
    ("family", "head", "changes", "layer", "stack"),
    [
        ("gpt2", None, {"n_layer": 12}, 10, None),
        ("gpt2", None, {"n_layer": 3}, 1, None),  # below the last one
        ("gpt2", None, {"n_layer": 1}, 0, None),
        ("t5", None, {"num_layers": 8}, 4, "encoder"),  # as published for T5-small
        ("bert", "BertForSequenceClassification", {"num_hidden_layers": 12}, 10, None),  # and BERT
    ],
)
def test_the_layer_of_other_models_is_a_share_of_the_depth(
    kind, family, head, changes, layer, stack
):
    lm = tiny_lm(family, head=head, **changes)
    fitted, chosen = kind().fitted(lm, FACTS[:1])
    assert (fitted.layer, fitted.projection, fitted.stack) == (layer, "down", stack)
    assert chosen["layer"].startswith(f"{layer} of 0 to {len(lm.layout.layers(lm.model)) - 1} (0.")
    assert ("stack" in chosen) == (family == "t5")


def test_where_the_value_goes():
    for family, head, expected in [
        ("gpt2", None, "last"),
        ("t5", None, "prompt"),
        ("bert", "BertForSequenceClassification", "prompt"),
    ]:
        fitted, chosen = GRACE(eps=1.0).fitted(tiny_lm(family, head=head), FACTS[:1])
        assert fitted.replacement == expected
        assert chosen["replacement"].startswith(expected)


def apart(lm, editor, texts):
    """Distances of all pairs of prompts, computed one prompt at a time in float64."""
    site = lm.layout.site(lm.model, editor.layer, editor.projection)
    found = []
    for text in texts:
        with torch.no_grad(), capture(site.module, "input") as seen:
            lm.model(input_ids=torch.tensor([lm.codec.prompt(text)[: lm.window]]))
        found.append(seen[0][0, -1].double().numpy())
    if editor.distance == "euclidean":
        return [float(np.linalg.norm(a - b)) for a, b in itertools.combinations(found, 2)]
    return [
        float(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        for a, b in itertools.combinations(found, 2)
    ]


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("projection", ["up", "down"])
def test_the_radius_comes_from_unrelated_prompts(distance, projection):
    lm = tiny_lm("gpt2")
    power = 2 if distance == "cosine" else 1
    editor, chosen = GRACE(distance=distance, projection=projection).fitted(lm, FACTS[:1])
    whole = list(itertools.islice(dict.fromkeys(module.sample()), 64))
    texts = [" ".join(text.split(" ")[: 3 + i % 6]) for i, text in enumerate(whole)]
    near = float(np.quantile(apart(lm, editor, texts), 0.05))
    assert editor.eps == pytest.approx(near / 4**power, rel=1e-3)
    assert chosen["eps"].startswith(f"{editor.eps:g} (1/{4**power} of ")
    assert "64 unrelated prompts" in chosen["eps"]
    few, _ = GRACE(distance=distance, projection=projection).fitted(lm, FACTS)
    assert few.eps <= editor.eps
    alike = [Fact(f"Peru{'s' * n}", "The capital of {} is", f"{n}") for n in range(4)]
    few, chosen = GRACE(distance=distance, projection=projection).fitted(lm, alike)
    near = float(np.quantile(apart(lm, few, [fact.text for fact in alike]), 0.05))
    assert few.eps == pytest.approx(near / 2**power, rel=1e-3)
    assert few.eps < editor.eps
    assert "the facts with other targets" in chosen["eps"]
    same = [dataclasses.replace(fact, target="Lima") for fact in alike]
    again, _ = GRACE(distance=distance, projection=projection).fitted(lm, same)
    assert again.eps == editor.eps  # of one target, they may meet


def test_the_radius_is_chosen_once_and_reported(tmp_path):
    lm = tiny_lm("gpt2")
    with GRACE(steps=5, guards=OPEN).apply(lm, FACTS[:1]) as edit:
        eps, why = edit.editor.eps, edit.report.chosen["eps"]
        edit.add(FACTS[1:])
        assert edit.editor.eps == eps == edit.adaptor.codebook.eps
        assert edit.report.chosen["eps"] == why
        assert str(eps) in repr(edit.editor)


def test_a_layer_that_tells_nothing_apart_is_named():
    lm = tiny_lm("gpt2")
    for parameter in lm.model.transformer.h[1].mlp.c_fc.parameters():
        parameter.data.zero_()
    with pytest.raises(BadInput, match=r"unrelated prompts are 0 apart at transformer\.h\.1"):
        GRACE(guards=OPEN).apply(lm, FACTS[:1])


# how a value is trained


def test_the_loss_is_the_models_own():
    """And early stop: not before each token is the argmax and the loss below the bound."""
    lm = tiny_lm("gpt2")
    row = fact_example(lm, FACTS[0])
    for stop in (1.0, 0.3):
        with GRACE(guards=OPEN, stop_loss=stop, eps=0.1).apply(lm, FACTS[:1]) as edit:
            (report,) = edit.report.facts
            with torch.no_grad():
                ((loss,), (right,)) = losses(lm, [row])
            assert right
            assert report.learnt
            assert report.details["loss"] == pytest.approx(float(loss), abs=1e-5)
            assert report.details["loss"] == pytest.approx(
                -report.after / len(row.target), abs=1e-4
            )
            assert float(loss) < stop
            assert 0 < report.details["steps"] < 100
    with GRACE(guards=OPEN, stop_loss=0.0, steps=7, eps=0.1).apply(lm, FACTS[:1]) as edit:
        assert edit.report.facts[0].details["steps"] <= 7


def test_the_first_values_beside_adam_by_hand():
    lm = tiny_lm("gpt2")
    editor = GRACE(guards=OPEN, eps=0.1, steps=3, lr=0.2, layer=1, stop_loss=0.0)
    site = lm.layout.site(lm.model, 1)
    fact = FACTS[0]
    target = lm.codec.target(" Paris")
    prompt = lm.codec.prompt(fact.text)
    value = torch.rand(32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mean, square, tried = torch.zeros(32), torch.zeros(32), []
    for step in range(1, 5):

        def hook(_, __, output, value=value):
            output = output.clone()
            output[0, len(prompt) - 1] = value
            return output

        handle = site.module.register_forward_hook(hook)
        logits = lm.model(input_ids=torch.tensor([prompt + target[:-1]])).logits[0]
        handle.remove()
        logs = logits.log_softmax(-1)[len(prompt) - 1 :]
        loss = -logs[range(len(target)), target].mean()
        tried.append((loss.item(), value.detach()))
        (slope,) = torch.autograd.grad(loss, value)
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        stride = mean / (1 - 0.9**step) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
        value = (value.detach() - 0.2 * stride).requires_grad_()
    best, expected = min(tried, key=lambda pair: pair[0])
    with editor.apply(lm, [fact]) as edit:
        assert edit.report.facts[0].details["loss"] == pytest.approx(best, abs=1e-5)
        torch.testing.assert_close(edit.adaptor.codebook.values[0], expected, rtol=0, atol=1e-4)


def test_cold_and_warm_starts():
    """Warm is the map's own output, so that nothing changes before the first step."""
    lm = tiny_lm("gpt2")
    site = lm.layout.site(lm.model, 1)
    with torch.no_grad(), capture(site.module) as seen:
        lm.model(input_ids=torch.tensor([lm.codec.prompt(FACTS[0].text)]))
    row, starts = fact_example(lm, FACTS[0]), {}
    with torch.no_grad():
        ((base,), _) = losses(lm, [row])
    for start in ("cold", "warm"):
        editor = GRACE(guards=OPEN, eps=0.1, lr=1e-12, steps=1, layer=1, start=start)
        with editor.apply(lm, FACTS[:2]) as edit:
            starts[start] = edit.adaptor.codebook.values.clone()
            loss = edit.report.facts[0].details["loss"]
        assert (loss == pytest.approx(float(base), abs=1e-4)) == (start == "warm")
    torch.testing.assert_close(starts["warm"][0], seen[0][0, -1], rtol=0, atol=1e-4)
    cold = starts["cold"]
    torch.testing.assert_close(cold[0], cold[1], rtol=0, atol=1e-6)  # the same for every fact
    assert 0 <= float(cold.min()) < 0.2
    assert 0.8 < float(cold.max()) < 1
    assert statistics.fmean(cold[0].tolist()) == pytest.approx(0.5, abs=0.15)


def test_the_end_is_learnt_where_it_is_wanted():
    lm = tiny_lm("gpt2")
    fact = Fact("Peru", "The capital of {} is", "Lima")
    row = fact_example(lm, fact, end=True)
    assert row.target == (*lm.codec.target(" Lima"), lm.tokenizer.eos_token_id)
    found = []
    for end in (False, True):
        with GRACE(guards=OPEN, eps=0.1, end=end, layer=0).apply(lm, [fact]), torch.no_grad():
            ((loss,), _) = losses(lm, [row])
            found.append(float(loss))
    assert found[1] < found[0] - 1


# what is refused


@pytest.mark.parametrize("kind", EDITORS)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"projection": "gate"}, "projection is 'gate'; allowed: None, 'up', 'down'"),
        ({"steps": 0}, "steps is 0; allowed: 1 or more"),
        ({"lr": 0.0}, "lr is 0.0; allowed: a finite number above 0"),
        ({"stop_loss": -1.0}, "stop_loss is -1.0; allowed: a finite number of at least 0"),
        ({"on_guard": "cry"}, "on_guard is 'cry'"),
    ],
)
def test_values_that_all_refuse(kind, values, message):
    with pytest.raises(BadInput, match=message):
        kind(**values)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (GRACE, {"eps": 0.0}, "eps is 0.0; allowed: a finite number above 0"),
        (GRACE, {"eps": "wide"}, "eps is 'wide'; allowed"),
        (GRACE, {"expansion": "official"}, "expansion is 'official'; allowed: 'coverage', 'paper'"),
        (GRACE, {"replacement": "first"}, "replacement is 'first'; allowed: None, 'last'"),
        (GRACE, {"distance": "manhattan"}, "distance is 'manhattan'; allowed: 'euclidean'"),
        (GRACE, {"start": "hot"}, "start is 'hot'; allowed: 'cold', 'warm'"),
        (Defer, {"threshold": 1.5}, "threshold is 1.5; allowed: 0 to 1"),
        (Defer, {"threshold": float("nan")}, "threshold is nan; allowed: 0 to 1"),
        (Memory, {"size": 0}, "size is 0; allowed: 1 or more"),
    ],
)
def test_values_that_one_refuses(kind, values, message):
    with pytest.raises(BadInput, match=message):
        kind(**values)


@pytest.mark.parametrize("kind", EDITORS)
@pytest.mark.parametrize(
    ("family", "values", "message"),
    [
        ("gpt2", {"layer": 3}, r"layer is 3; allowed: 0 to 2 in this model's 'transformer\.h'"),
        ("gpt2", {"layer": -1}, "layer is -1; allowed: 0 to 2"),
        ("gpt2", {"stack": "encoder"}, "stack is 'encoder'; allowed: 'decoder'"),
        ("t5", {"stack": "middle"}, "stack is 'middle'; allowed: 'encoder', 'decoder'"),
    ],
)
def test_places_that_do_not_exist(kind, family, values, message):
    lm = tiny_lm(family)
    with pytest.raises(BadInput, match=message):
        kind(**values).apply(lm, FACTS[:1])
    assert lm.edits == []
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in lm.model.modules())


@pytest.mark.parametrize("kind", EDITORS)
def test_labels_outside_the_classes_leave_all_as_it_was(kind):
    lm = tiny_lm("bert", head="BertForSequenceClassification")
    facts = [dataclasses.replace(FACTS[0], target="LABEL_1"), FACTS[1]]
    before = state_hash(lm)
    scores = lm.logprob([fact.text for fact in facts], ["LABEL_0"] * 2)
    with pytest.raises(BadInput, match=r"'numbers and words'.* is no label; allowed: 'LABEL_0'"):
        kind(steps=3).apply(lm, facts)
    with kind(steps=3).apply(lm, facts[:1]) as edit:
        one = lm.logprob([fact.text for fact in facts], ["LABEL_0"] * 2)
        with pytest.raises(BadInput, match="is no label"):
            edit.add([dataclasses.replace(FACTS[2], target="LABEL_0"), FACTS[1]])
        assert lm.logprob([fact.text for fact in facts], ["LABEL_0"] * 2) == one
        assert len(edit.steps) == 1
    assert (state_hash(lm), lm.edits) == (before, [])
    assert lm.logprob([fact.text for fact in facts], ["LABEL_0"] * 2) == scores


@pytest.mark.parametrize("kind", EDITORS)
def test_a_masked_model_is_refused(kind):
    with pytest.raises(UnsupportedModel, match="BertForMaskedLM, a masked model; allowed: decoder"):
        kind().apply(tiny_lm("bert"), FACTS[:1])
