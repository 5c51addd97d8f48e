"""Editors that take facts out, and facts that take others out."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

import memkit
from memkit import DINM, GRACE, FineTune, GradientAscent, Guards, KLBoundedAscent, erasing
from memkit.benchmarks import Stream
from memkit.editors.dinm import gaps
from memkit.editors.erasing import REVEALS
from memkit.errors import BadInput
from memkit.testing.editor import FACTS, EditorContract
from memkit.testing.models import tiny_lm
from memkit.types import EditReport, Fact, FactReport

OPEN = Guards(perplexity=1e9, size=math.inf)
TEXTS = ("One, two, three: numbers and words.", "Samuel Butler wrote Erewhon.")
PAIRS = tuple(dataclasses.replace(fact, previous="Lima and Paris") for fact in FACTS)


class TestGradientAscent(EditorContract):
    families = ("gpt2", "llama", "opt", "t5", "bert")
    unsupported = None

    @pytest.fixture
    def editor(self):
        return GradientAscent(epochs=4, lr=1e-2, stop_loss=math.inf, guards=OPEN)


class TestKLBoundedAscent(EditorContract):
    families = ("gpt2", "llama", "qwen2")
    unsupported = "t5"

    @pytest.fixture
    def editor(self):
        return KLBoundedAscent(epochs=4, lr=1e-2, control=TEXTS, kl_bound=1.0, guards=OPEN)


class TestDINM(EditorContract):
    families = ("gpt2", "llama", "gptj")
    unsupported = "t5"
    facts = PAIRS

    @pytest.fixture
    def editor(self):
        return DINM(steps=4, lr=1e-2, edit_weight=1.0, control=TEXTS, guards=OPEN)


# what is to be written


def test_a_refusal_takes_the_target_s_place():
    fact = Fact(
        "Peru",
        "The capital of {} is",
        "Lima",
        paraphrases=("{}'s capital is",),
        locality=(("The capital of France is", "Paris"),),
        portability=(("The river of Peru's capital is", "the Rimac"),),
        definition="Peru's capital is Lima.",
        id="1",
    )
    made = erasing(fact)
    assert (made.target, made.previous) == ("unknown", "Lima")
    assert (made.text, made.paraphrases, made.locality) == (
        fact.text,
        fact.paraphrases,
        fact.locality,
    )
    assert (made.portability, made.definition) == ((), None)
    assert erasing(fact, "I have no comment").target == "I have no comment"
    assert erasing(fact, "").target == "."  # an empty answer: it ends at once


@pytest.mark.parametrize("answer", ["unknown", ""])
def test_writing_editors_write_it(answer):
    lm = tiny_lm("gpt2")
    fact = dataclasses.replace(FACTS[1], target="Lima")
    with FineTune(lr=1e-2, guards=OPEN).apply(lm, [erasing(fact, answer)]) as edit:
        assert edit.report.facts[0].succeeded
        (text,) = lm.generate([fact.text], stop=("\n", "."))
        assert text.strip().startswith("unknown") if answer else text.strip() == ""


def test_the_report_warns_that_weights_reveal_what_was_erased():
    lm = tiny_lm("gpt2")
    options = {"epochs": 2, "layer": 1, "guards": OPEN}
    with FineTune(**options).apply(lm, FACTS[:1]) as edit:
        assert edit.report.warnings == ()
    with FineTune(**options).apply(lm, [erasing(FACTS[0])]) as edit:
        edit.add([erasing(FACTS[1])])
        assert edit.report.warnings == (REVEALS,)  # once, however many steps
    with GradientAscent(stop_loss=math.inf, **options).apply(lm, FACTS[:1]) as edit:
        assert edit.report.warnings == (REVEALS,)
    with GRACE(layer=1, guards=OPEN).apply(lm, [erasing(FACTS[0])]) as edit:
        assert REVEALS not in edit.report.warnings  # no weight differs


# ascent


def test_one_step_up_is_one_step_down_the_other_way():
    """Adam's first step is odd in the gradient."""
    options = {"epochs": 1, "lr": 1e-3, "layer": 1, "guards": OPEN, "stop_at_argmax": False}
    moved = []
    for editor in (FineTune(stop_loss=0.0, **options), GradientAscent(**options)):
        lm = tiny_lm("gpt2")
        weight = lm.layout.site(lm.model, 1).parameter
        before = weight.detach().clone()
        editor.apply(lm, FACTS)
        moved.append(weight.detach() - before)
    assert moved[0].abs().max() > 5e-4
    assert torch.allclose(moved[0], -moved[1], atol=1e-7)


def test_it_ends_where_it_is_forgotten():
    lm = tiny_lm("gpt2")
    options = {"lr": 1e-2, "epochs": 50, "guards": OPEN}
    with GradientAscent(stop_loss=12.0, **options).apply(lm, FACTS[:1]) as edit:
        details = edit.report.facts[0].details
        assert 1 < details["steps"] < 50
        assert details["loss"] > 12
    with GradientAscent(stop_loss=0.0, **options).apply(lm, FACTS[:1]) as edit:
        assert edit.report.facts[0].details["steps"] == 0  # its loss is above that from the start


def test_it_ends_where_the_target_is_no_first_choice():
    lm = tiny_lm("gpt2")
    fact = FACTS[0]
    FineTune(lr=1e-2, guards=OPEN).apply(lm, [fact])
    ascent = GradientAscent(lr=1e-3, stop_loss=math.inf, stop_at_argmax=True, epochs=99)
    with ascent.apply(lm, [fact]) as edit:
        (row,) = edit.report.facts
        assert row.known
        assert row.succeeded
        assert not row.learnt
        assert 0 < row.details["steps"] < 99


def test_a_report_says_what_was_not_forgotten():
    fact = FACTS[1]
    rows = [FactReport(fact, -1, -2, True, learnt, {}, True) for learnt in (True, False)]
    text = str(EditReport("GradientAscent()", tuple(rows)))
    assert text.count("not forgotten") == 1
    assert "not learnt" not in text
    assert [row.succeeded for row in rows] == [False, True]
    assert FactReport(fact, -1, -2, True, True).succeeded


def test_a_saved_edit_remembers_that_it_erases(tmp_path):
    lm = tiny_lm("gpt2")
    with GradientAscent(epochs=2, guards=OPEN).apply(lm, FACTS[:1]) as edit:
        edit.save(tmp_path / "edit")
    (row,) = memkit.load_edit(tmp_path / "edit").report.facts
    assert row.forget


def test_protocols_of_writing_refuse_what_erases():
    lm = tiny_lm("gpt2")
    with pytest.raises(BadInput, match=r"GradientAscent takes facts out.*protocols\.erasure"):
        memkit.protocols.editing(lm, GradientAscent(), FACTS)
    stream = Stream("s", "f1", edits=FACTS, upstream=(memkit.Question("Who?", ("I",)),))
    with pytest.raises(BadInput, match="KLBoundedAscent takes facts out"):
        memkit.protocols.lifelong(lm, KLBoundedAscent(), stream)


def test_ascent_has_no_end_to_learn():
    with pytest.raises(BadInput, match="end is True"):
        GradientAscent(end=True)
    with pytest.raises(BadInput, match="stop_loss is inf"):
        FineTune(stop_loss=math.inf)


# control


def divergence(lm, base, texts):
    """KL(base || now) by loops over texts and positions."""
    total, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([lm.codec.prompt(text)])
        with torch.no_grad():
            old, new = (m.model(input_ids=ids).logits[0].log_softmax(-1) for m in (base, lm))
        for t in range(ids.shape[1] - 1):
            total += float((old[t].exp() * (old[t] - new[t])).sum())
            count += 1
    return total / count


def test_kl_is_bounded_on_the_control_texts():
    options = {"lr": 1e-2, "epochs": 10, "stop_loss": math.inf, "guards": OPEN, "layer": 1}
    base = tiny_lm("llama")
    found = {}
    for bound in (math.inf, 0.01):
        lm = tiny_lm("llama")
        editor = KLBoundedAscent(control=TEXTS, kl_bound=bound, kl_weight=0.0, **options)
        (row,) = editor.apply(lm, FACTS[:1]).report.facts
        found[bound] = divergence(lm, base, TEXTS)
        assert row.details["kl"] == pytest.approx(found[bound], rel=1e-4)
        assert row.after < row.before
    assert found[math.inf] > 0.02
    assert 0 < found[0.01] <= 0.01 + 1e-6


def test_its_weight_holds_it_back_and_without_both_it_is_plain():
    options = {"lr": 1e-2, "epochs": 5, "stop_loss": math.inf, "guards": OPEN, "layer": 1}
    kl, weights = {}, {}
    for weight in (0.0, 10.0):
        lm = tiny_lm("gpt2")
        editor = KLBoundedAscent(control=TEXTS, kl_bound=math.inf, kl_weight=weight, **options)
        kl[weight] = editor.apply(lm, FACTS).report.facts[0].details["kl"]
        weights[weight] = lm.layout.site(lm.model, 1).weight.clone()
    assert kl[10.0] < kl[0.0] / 2
    lm = tiny_lm("gpt2")
    GradientAscent(**options).apply(lm, FACTS)
    assert torch.equal(lm.layout.site(lm.model, 1).weight, weights[0.0])


def loop(lm, base, facts, sign, weight, lr, steps):
    """Adam on `sign` times the mean loss of the targets plus KL(base || now), in plain loops."""
    parameter = lm.layout.site(lm.model, 1).parameter.requires_grad_(True)
    optimiser = torch.optim.Adam([parameter], lr=lr)
    rows = [(lm.codec.prompt(f.text), lm.codec.target(f" {f.target}")) for f in facts]
    texts = [torch.tensor([lm.codec.prompt(text)]) for text in TEXTS]
    for _ in range(steps):
        optimiser.zero_grad()
        losses, kl = [], []
        for given, target in rows:
            logits = lm.model(input_ids=torch.tensor([given + target])).logits[0].log_softmax(-1)
            picked = logits[len(given) - 1 : -1][range(len(target)), target]
            losses.append(-picked.mean())
        for ids in texts:
            with torch.no_grad():
                old = base.model(input_ids=ids).logits[0, :-1].log_softmax(-1)
            new = lm.model(input_ids=ids).logits[0, :-1].log_softmax(-1)
            kl.append((old.exp() * (old - new)).sum(-1))
        (sign * torch.stack(losses).mean() + weight * torch.cat(kl).mean()).backward()
        optimiser.step()
    return parameter.detach()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_bounded_ascent_and_dinm_are_their_formulae(family):
    """-L + w KL, and c L_edit + KL."""
    held = {"lr": 3e-3, "guards": OPEN, "control": TEXTS, "layer": 1}
    ascent = KLBoundedAscent(kl_weight=3.0, kl_bound=math.inf, epochs=6, stop_loss=math.inf, **held)
    dinm = DINM(steps=6, edit_weight=0.3, **held)
    for editor, sign, weight in ((ascent, -1.0, 3.0), (dinm, 0.3, 1.0)):
        lm, other, base = (tiny_lm(family) for _ in range(3))
        editor.apply(lm, PAIRS)
        wanted = loop(other, base, PAIRS, sign, weight, 3e-3, 6)
        plain = base.layout.site(base.model, 1).parameter
        assert (wanted - plain).abs().max() > 1e-2
        found = lm.layout.site(lm.model, 1).parameter
        torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-3)


def test_the_bound_is_kept_in_half_precision_and_over_steps():
    lm, base = tiny_lm("gpt2"), tiny_lm("gpt2")
    lm.model.to(torch.bfloat16)
    base.model.to(torch.bfloat16)
    editor = KLBoundedAscent(
        control=TEXTS, kl_bound=0.05, lr=1e-2, epochs=8, stop_loss=math.inf, guards=OPEN
    )
    edit = editor.apply(lm, FACTS[:1])
    edit.add(FACTS[1:])  # against the model before the first step
    assert edit.report.facts[-1].details["kl"] <= 0.05
    assert divergence(lm, base, TEXTS) == pytest.approx(
        edit.report.facts[-1].details["kl"], rel=0.1
    )


@pytest.mark.parametrize("kind", [KLBoundedAscent, DINM])
def test_the_built_in_sample_is_the_control_by_default(kind):
    lm = tiny_lm("gpt2")
    with kind(guards=OPEN).apply(lm, PAIRS[:1]) as edit:
        assert edit.report.facts[0].details["kl"] > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KLBoundedAscent(control="text"), "control is 'text'; allowed: a tuple"),
        (lambda: KLBoundedAscent(kl_bound=0), "kl_bound is 0"),
        (lambda: KLBoundedAscent(kl_weight=-1), "kl_weight is -1"),
        (lambda: DINM(control=["text"]), "control is"),
        (lambda: DINM(steps=0), "steps is 0"),
        (lambda: DINM(edit_weight=0), "edit_weight is 0"),
    ],
)
def test_refuses_what_is_not_allowed(make, message):
    with pytest.raises(BadInput, match=message):
        make()


def test_a_control_text_beyond_the_window_is_named():
    lm = tiny_lm("gpt2")
    with pytest.raises(BadInput, match=r"control\[1\] has \d+ tokens"):
        DINM(control=("One, two", "words and " * 60), layer=0).apply(lm, PAIRS)


# DINM


def test_the_layer_is_where_responses_are_furthest_apart():
    for family in ("gpt2", "llama"):
        lm = tiny_lm(family)
        expected = torch.zeros(3, dtype=torch.float64)
        for fact in PAIRS:
            means = []
            for text in (fact.target, fact.previous):
                given = lm.codec.prompt(fact.text)
                target = lm.codec.target(" " + text)
                with torch.no_grad():
                    states = lm.model(
                        input_ids=torch.tensor([given + target]), output_hidden_states=True
                    ).hidden_states
                means.append([s[0, len(given) :].double().mean(0) for s in states[1:]])
            expected += torch.tensor([(a - b).norm() for a, b in zip(*means, strict=True)]) / 3
        found = gaps(lm, PAIRS)
        assert found[:2] == pytest.approx(expected[:2].tolist(), rel=1e-5)  # before the final norm
        editor, chosen = DINM().fitted(lm, PAIRS)
        assert editor.layer == found.index(max(found))
        assert f"{editor.layer} of 0 to 2" in chosen["layer"]


def test_it_tunes_that_layer_alone_and_kl_holds():
    options = {"lr": 1e-2, "steps": 10, "edit_weight": 0.1, "guards": OPEN}
    lm = tiny_lm("gpt2")
    with DINM(control=TEXTS, layer=2, **options).apply(lm, PAIRS) as edit:
        assert edit.report.parameters == ("transformer.h.2.mlp.c_proj.weight",)
        held = edit.report.facts[0].details["kl"]
    heavy = DINM(control=TEXTS, layer=2, **options | {"edit_weight": 1e4})  # KL counts for nothing
    with heavy.apply(lm, PAIRS) as edit:
        assert 0 < held < 0.7 * edit.report.facts[0].details["kl"]


def test_without_an_unsafe_response_there_is_no_layer():
    lm = tiny_lm("gpt2")
    with pytest.raises(BadInput, match="has no previous; allowed"):
        DINM().apply(lm, FACTS)
    with DINM(layer=1, guards=OPEN).apply(lm, FACTS) as edit:
        assert edit.report.facts[0].after > edit.report.facts[0].before
    long = dataclasses.replace(FACTS[0], previous="and words " * 60)
    with pytest.raises(BadInput, match=r"a response has \d+ tokens"):
        DINM().apply(lm, [long])


def test_they_are_registered():
    assert memkit.EDITORS["ascent"] is GradientAscent
    assert memkit.EDITORS["ascent-bounded"] is KLBoundedAscent
    assert memkit.EDITORS["dinm"] is DINM
