"""MEND: the factors, the networks, their training, and the editor's contract."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random

import pytest
import torch

import memkit
from memkit import MEND, Fact, Guards
from memkit.editors import mend_training
from memkit.editors.mend import _divided
from memkit.editors.mend_network import Factors, Networks, Statistics, edited, factors, shape_of
from memkit.editors.training import fact_example, losses, target_logits
from memkit.errors import BadInput, FingerprintMismatch, NotTrained
from memkit.lm import layouts
from memkit.testing.editor import FACTS, EditorContract, state_hash
from memkit.testing.models import tiny_lm

OPEN = Guards(perplexity=1e9, size=1e9)
WORDS = ("Paris", "Lima", "numbers", "words", "Erewhon", "France")
TAUGHT = tuple(
    Fact(place, "The capital of {} is", target, paraphrases=("{}, and the capital is",))
    for place, target in itertools.product(("Peru", "France", "Butler", "One"), WORDS)
)
STAY = tuple(Fact(word, "Question: Who wrote {}?", "Samuel") for word in WORDS)
HOW = {"rank": 8, "steps": 6, "evaluate": 2, "edits_per_batch": 4, "guards": OPEN}
KINDS = [
    ("gpt2", None),  # Conv1D
    ("llama", None),
    ("t5", None),
    ("bert", None),
    ("bert", "BertForSequenceClassification"),
]


def as_labels(facts):
    return tuple(dataclasses.replace(f, target=f"LABEL_{i % 2}") for i, f in enumerate(facts))


def given(lm, facts):
    """The facts with targets that the model can say."""
    return as_labels(facts) if lm.kind == "classifier" else tuple(facts)


def sites_of(lm, editor=None):
    editor, _ = (editor or MEND())._fitted(lm)
    return editor._sites(lm)


def trained(lm, folder, **how):
    return MEND(**{**HOW, **how}).train(lm, given(lm, TAUGHT), locality=given(lm, STAY), out=folder)


@pytest.mark.parametrize(("family", "head"), KINDS)
def test_the_factors_are_those_of_the_gradient(family, head):
    lm = tiny_lm(family, head=head)
    rows = [fact_example(lm, fact) for fact in given(lm, TAUGHT[:3])]
    sites = sites_of(lm)
    found = factors(lm, rows, sites)
    values, _ = losses(lm, rows)
    weights = [site.parameter for site in sites]
    grads = torch.autograd.grad(values.sum(), weights, allow_unused=True)
    for site, pair, grad in zip(sites, found, grads, strict=True):
        expected = grad.T if site.turned else grad
        assert expected.abs().max() > 0
        torch.testing.assert_close(pair.gradients.T @ pair.inputs, expected, rtol=1e-4, atol=1e-7)
        assert (pair.gradients != 0).any(dim=-1).all()
        tokens = sum(len(row.given) + len(row.target) for row in rows)
        assert 0 < len(pair.inputs) <= tokens  # no padding
    assert all(parameter.grad is None for parameter in lm.model.parameters())


@pytest.mark.parametrize(("family", "head"), KINDS)
def test_at_first_the_edit_is_a_step_of_gradient_descent(family, head):
    """The identity, without z-scores: W - alpha grad, which lowers the loss; the other sign not."""
    lm = tiny_lm(family, head=head)
    rows = [fact_example(lm, fact) for fact in given(lm, TAUGHT[:3])]
    sites = sites_of(lm)
    found = factors(lm, rows, sites)
    before, down, up = float(losses(lm, rows)[0].detach().sum()), math.inf, -math.inf
    for sign in (1, -1):
        networks = Networks([shape_of(s) for s in sites], 8, sign * 1e-3, normalise=False)
        changes = networks(found)
        for pair, change in zip(found, changes, strict=True):
            torch.testing.assert_close(
                change.gradients.T @ change.inputs,
                -sign * 1e-3 * pair.gradients.T @ pair.inputs,
                rtol=1e-5,
                atol=1e-9,
            )
        with torch.no_grad(), edited(sites, changes):
            after = float(losses(lm, rows)[0].detach().sum())
        down, up = (after, up) if sign == 1 else (down, after)
    assert down < before < up


def test_the_edit_through_hooks_is_that_of_the_weights():
    lm = tiny_lm("gpt2")
    rows = [fact_example(lm, fact) for fact in TAUGHT[:2]]
    sites = sites_of(lm)
    changes = Networks([shape_of(s) for s in sites], 8, 0.1, normalise=False)(
        factors(lm, rows, sites)
    )
    with torch.no_grad():
        plain = target_logits(lm, rows)
        with edited(sites, changes):
            hooked = target_logits(lm, rows)
        for site, change in zip(sites, changes, strict=True):
            site.weight.add_(change.gradients.T @ change.inputs)
        written = target_logits(lm, rows)
    assert (hooked - plain).abs().max() > 1e-3
    torch.testing.assert_close(hooked, written)


def test_the_statistics_are_those_of_all_rows_at_once():
    rows = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) * 3 + 100
    rows[:, 4] = 7.0  # never varies
    found = Statistics(5)
    for part in rows.split([1, 60, 0, 100, 39]):
        found.update(part)
    exact = rows.double()
    torch.testing.assert_close(found.mean, exact.mean(dim=0))
    torch.testing.assert_close(found.deviation[:4], exact.std(dim=0)[:4])
    assert found.deviation[4] == 1.0
    scores = found(rows)
    torch.testing.assert_close(scores.mean(dim=0), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(scores[:, :4].std(dim=0), torch.ones(4), atol=1e-4, rtol=0)


def test_matrices_of_one_shape_share_a_network_but_for_scale_and_shift():
    networks = Networks([(3, 4), (5, 6), (3, 4)], 100, 1e-4, normalise=False)
    assert len(networks.by_shape) == 2
    assert networks.places == [(0, 0), (1, 0), (0, 1)]
    assert networks.by_shape[0].left.shape == (2, 7, 7)  # a rank of m at most
    pair = Factors(torch.ones(1, 4), torch.ones(1, 3))
    other = Factors(torch.ones(1, 6), torch.ones(1, 5))
    with torch.no_grad():
        networks.by_shape[0].shift[:, 1] += 1.0
        first, _, third = networks([pair, other, pair])
    assert torch.equal(first.inputs, pair.inputs)
    assert torch.equal(third.inputs, pair.inputs + 2)  # twice one, over two layers


def test_the_networks_leave_the_identity():
    """torch's relu has no gradient at 0, and would stay there."""
    networks = Networks([(3, 4)], 4, 1e-4, normalise=False)
    made = networks([Factors(torch.randn(2, 4), torch.randn(2, 3))])
    made[0].inputs.sum().backward()
    assert networks.by_shape[0].left.grad.abs().max() > 0


@pytest.mark.parametrize(("family", "head"), KINDS)
def test_training_makes_edits_better_and_leaves_the_model_alone(family, head, tmp_path):
    lm = tiny_lm(family, head=head)
    before, state = state_hash(lm), torch.random.get_rng_state()
    editor = trained(lm, tmp_path / "mend", steps=40, evaluate=10, lr=1e-2)
    assert state_hash(lm) == before
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(module._forward_hooks for module in lm.model.modules())
    card = json.loads((tmp_path / "mend" / "mend.json").read_text(encoding="utf-8"))
    curve = card["curve"]
    assert [row["step"] for row in curve] == [0, 10, 20, 30, 40]
    assert min(row["total"] for row in curve[1:]) < curve[0]["total"]
    assert min(row["edit"] for row in curve[1:]) < curve[0]["edit"]
    (fact,) = given(lm, TAUGHT[:1])
    with editor.apply(lm, [fact]) as edit:
        (row,) = edit.report.facts
        assert row.after > row.before
        assert 0 < row.details["loss"] < math.inf


def test_nothing_is_edited_before_training(lm):
    before = state_hash(lm)
    with pytest.raises(NotTrained, match=r"MEND has no networks yet.*train\(lm, facts"):
        MEND().apply(lm, TAUGHT[:1])
    assert state_hash(lm) == before


@pytest.fixture
def lm():
    return tiny_lm("gpt2")


def test_a_folder_gives_the_trained_editor_again(lm, tmp_path):
    editor = trained(lm, tmp_path / "mend", seed=3)
    assert MEND.load(tmp_path / "mend") == editor
    card = json.loads((tmp_path / "mend" / "mend.json").read_text())
    (tmp_path / "mend" / "mend.json").write_text(json.dumps({**card, "editor": "ROME()"}))
    with pytest.raises(BadInput, match=r"was written by ROME\("):
        MEND.load(tmp_path / "mend")


def test_the_rates_fall_to_zero_or_stay(lm, tmp_path, monkeypatch):
    rates = []
    step = torch.optim.Adam.step

    def noting(optimiser, *given):
        rates.append([group["lr"] for group in optimiser.param_groups])
        return step(optimiser, *given)

    monkeypatch.setattr(torch.optim.Adam, "step", noting)
    how = {"steps": 4, "lr": 1e-3, "lr_alpha": 1e-2}
    trained(lm, tmp_path / "linear", **how)
    trained(lm, tmp_path / "constant", schedule="constant", **how)
    linear, constant = rates[:4], rates[4:]
    assert linear == [[1e-3 * left, 1e-2 * left] for left in (1, 0.75, 0.5, 0.25)]
    assert constant == [[1e-3, 1e-2]] * 4


def test_alpha_zero_changes_nothing(lm, tmp_path):
    with torch.no_grad():
        editor = trained(lm, tmp_path / "mend", alpha=0.0, lr_alpha=1e-30)
    before = lm.logprob([TAUGHT[0].text], [" Paris"])
    with editor.apply(lm, TAUGHT[:1]):
        assert lm.logprob([TAUGHT[0].text], [" Paris"]) == before


def test_several_edits_are_the_sum_of_each_in_any_order(lm, tmp_path):
    editor = trained(lm, tmp_path / "mend", alpha=0.05)
    name = f"{sites_of(lm)[1].name}.weight"
    base = lm.model.get_parameter(name).detach().clone()

    def change(*steps):
        with editor.apply(lm, list(steps[0])) as edit:
            for facts in steps[1:]:
                edit.add(list(facts))
            return lm.model.get_parameter(name).detach() - base

    a, b = TAUGHT[:1], TAUGHT[7:8]
    whole = change((*a, *b))
    assert whole.abs().max() > 1e-3
    close = {"rtol": 0, "atol": 1e-6}  # the weights are rounded once a sum
    torch.testing.assert_close(whole, change(a) + change(b), **close)
    torch.testing.assert_close(whole, change(a, b), **close)
    torch.testing.assert_close(whole, change(b, a), **close)
    current = dataclasses.replace(editor, at="current")
    with current.apply(lm, list(a)) as edit:
        edit.add(list(b))
        apart = lm.model.get_parameter(name).detach() - base - whole
        assert apart.abs().max() > 1e-5


def test_any_step_can_be_removed(lm, tmp_path):
    editor = trained(lm, tmp_path / "mend", alpha=0.05)
    with editor.apply(lm, TAUGHT[7:8]) as edit:
        alone = state_hash(lm)
        edit.rollback()
    with editor.apply(lm, TAUGHT[:1]) as edit:
        edit.add(TAUGHT[7:8])
        assert state_hash(lm) != alone
        edit.remove(0)
        assert state_hash(lm) == alone


def test_a_killed_training_goes_on_with_the_same_result(lm, tmp_path, monkeypatch):
    how = {"steps": 9, "evaluate": 2, "lr": 1e-2}
    whole = trained(lm, tmp_path / "whole", **how)
    learn = mend_training.Course._learn

    def dying(course, step):
        if step == 5:
            raise KeyboardInterrupt
        learn(course, step)

    with monkeypatch.context() as patch:
        patch.setattr(mend_training.Course, "_learn", dying)
        with pytest.raises(KeyboardInterrupt):
            trained(lm, tmp_path / "cut", **how)
    assert not (tmp_path / "cut").exists()
    (kept,) = tmp_path.glob(".cut.*")
    steps = []

    def noting(course, step):
        steps.append(step)
        learn(course, step)

    monkeypatch.setattr(mend_training.Course, "_learn", noting)
    resumed = trained(lm, tmp_path / "cut", **how)
    assert steps == [4, 5, 6, 7, 8]
    assert not kept.exists()
    for name in ("networks.safetensors",):
        one, other = (folder / name for folder in (tmp_path / "whole", tmp_path / "cut"))
        assert one.read_bytes() == other.read_bytes()
    cards = [json.loads((tmp_path / n / "mend.json").read_text()) for n in ("whole", "cut")]
    assert cards[0] == cards[1]
    assert dataclasses.replace(resumed, networks=whole.networks) == whole


def test_another_training_does_not_take_up_what_was_left(lm, tmp_path, monkeypatch):
    learn = mend_training.Course._learn
    monkeypatch.setattr(
        mend_training.Course, "_learn", lambda c, s: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        trained(lm, tmp_path / "mend")
    steps = []
    monkeypatch.setattr(
        mend_training.Course, "_learn", lambda c, s: (steps.append(s), learn(c, s))[1]
    )
    trained(lm, tmp_path / "mend", seed=1)
    assert steps == [0, 1, 2, 3, 4, 5]


def test_a_damaged_checkpoint_is_named(lm, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            mend_training.Course, "_learn", lambda c, s: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            trained(lm, tmp_path / "mend")
    (kept,) = tmp_path.glob(".mend.*")
    whole = (kept / "training.safetensors").read_bytes()
    (kept / "training.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"training.safetensors' cannot be read .* train anew"):
        trained(lm, tmp_path / "mend")
    assert not (tmp_path / "mend").exists()


def test_training_ends_without_progress_and_keeps_the_best(lm, tmp_path):
    trained(lm, tmp_path / "mend", steps=50, evaluate=1, patience=3, lr=1.0, lr_alpha=1.0)
    card = json.loads((tmp_path / "mend" / "mend.json").read_text(encoding="utf-8"))
    totals = [row["total"] for row in card["curve"]]
    best = min(range(len(totals)), key=totals.__getitem__)
    assert len(totals) - 1 == card["steps"] == best + 3


@pytest.mark.parametrize("kind", ["foreign", "tensors", "card", "absent"])
def test_networks_that_do_not_belong_are_refused(kind, lm, tmp_path):
    editor = trained(lm, tmp_path / "mend")
    error, match = BadInput, "cannot be read as MEND's networks"
    if kind == "foreign":
        lm, error, match = tiny_lm("gpt2", seed=1), FingerprintMismatch, "were trained for a model"
    elif kind == "tensors":
        (tmp_path / "mend" / "networks.safetensors").write_bytes(b"short")
    elif kind == "card":
        (tmp_path / "mend" / "mend.json").write_text("{}")
    else:
        editor = dataclasses.replace(editor, networks=str(tmp_path / "nowhere"))
    before = state_hash(lm)
    with pytest.raises(error, match=match):
        editor.apply(lm, TAUGHT[:1])
    assert state_hash(lm) == before
    assert lm.edits == []


def test_networks_of_other_settings_are_refused(lm, tmp_path):
    editor = trained(lm, tmp_path / "mend")
    for how in ({"layers": (0, 1)}, {"rank": 9}, {"normalise": False}, {"projections": ("down",)}):
        (name,) = how
        with pytest.raises(BadInput, match=f"{name} is .* were trained for"):
            dataclasses.replace(editor, **how).apply(lm, TAUGHT[:1])


def test_over_other_live_edits_the_change_is_the_same(lm, tmp_path):
    """Factors and networks belong to the model without any live edit, adaptors included."""
    editor = trained(lm, tmp_path / "mend", alpha=0.05)

    def change():
        with editor.apply(lm, TAUGHT[7:8]) as edit:
            ((name, (made,)), *_) = edit.steps[0].changes.items()
            return name, made.left, made.right

    (name, left, right), before = change(), state_hash(lm)
    fine = memkit.FineTune(parameters="all", epochs=2, lr=1e-2, guards=OPEN)
    grace = memkit.GRACE(steps=2, guards=OPEN)
    for other in (editor, fine, grace):
        with other.apply(lm, TAUGHT[:1]):
            again = change()
        assert again[0] == name
        assert torch.equal(again[1], left)
        assert torch.equal(again[2], right)
    with fine.apply(lm, TAUGHT[:1]):
        current = dataclasses.replace(editor, at="current")
        with current.apply(lm, TAUGHT[7:8]) as edit:
            assert not torch.equal(edit.steps[0].changes[name][0].left, left)
    assert state_hash(lm) == before


def test_a_model_with_live_edits_is_not_trained_for(lm, tmp_path):
    editor = trained(lm, tmp_path / "mend", alpha=0.05)
    with editor.apply(lm, TAUGHT[:1]) as edit:
        with pytest.raises(BadInput, match="is live, and networks are trained for a base model"):
            trained(lm, tmp_path / "other")
        with edit.paused():
            assert trained(lm, tmp_path / "other").networks == str(tmp_path / "other")


def test_a_batch_is_asked_for_what_must_stay(lm):
    """One of each fact's own locality and as many others, but for what the batch itself writes."""
    own, far = Fact("words", "Who wrote {}?", "Lima"), fact_example(lm, STAY[0])
    taught = mend_training.lessons(
        lm,
        [
            dataclasses.replace(TAUGHT[0], locality=((TAUGHT[-1].text, "Paris"),)),
            dataclasses.replace(TAUGHT[-1], locality=((own.text, own.target),)),
        ],
    )
    editor = MEND(**HOW)._fitted(lm)[0]
    sites = editor._sites(lm)
    course = mend_training.Course(lm, editor, sites, editor._fresh(sites), taught, taught, [far])
    rng = random.Random(0)
    assert course._others(taught, rng) == [fact_example(lm, own), far]
    assert course._others(taught[:1], rng)[0].given == taught[1].own.given


def test_bad_input(lm, tmp_path):
    with pytest.raises(BadInput, match="at least one of each"):
        MEND(**HOW).train(lm, TAUGHT[:1], locality=STAY, out=tmp_path / "mend")
    with pytest.raises(BadInput, match="locality is empty"):
        MEND(**HOW).train(lm, TAUGHT, out=tmp_path / "mend")
    with pytest.raises(BadInput, match="layer is 9; allowed: 0 to 2"):
        trained(lm, tmp_path / "mend", layers=(9,))
    with pytest.raises(BadInput, match="exists"):
        trained(lm, tmp_path)
    assert not list(tmp_path.iterdir())
    for how in (
        {"at": "edited"},
        {"schedule": "cosine"},
        {"rank": 0},
        {"lr": 0.0},
        {"alpha": -1.0},
        {"clip": math.nan},
        {"layers": ()},
        {"projections": None},
        {"steps": 0},
    ):
        (name,) = how
        with pytest.raises(BadInput, match=f"{name} is"):
            MEND(**how)


def test_facts_of_one_subject_are_held_out_together(lm):
    taught, held = _divided(lm, TAUGHT, None, seed=0)
    assert sorted(map(repr, (*taught, *held))) == sorted(map(repr, TAUGHT))
    assert len({fact.subject for fact in held}) == 1
    assert {fact.subject for fact in taught}.isdisjoint(fact.subject for fact in held)
    assert _divided(lm, TAUGHT, TAUGHT[:2], seed=0) == (list(TAUGHT), list(TAUGHT[:2]))


def test_what_is_none_is_chosen_for_the_model(lm, monkeypatch):
    editor, chosen = MEND(lr=0.5)._fitted(lm)
    assert editor.layers == (0, 1, 2)
    assert (editor.rank, editor.lr, editor.edit_weight, editor.steps) == (1920, 0.5, 0.1, 2_000)
    assert chosen["rank"] == "1920 (default)"
    assert "lr" not in chosen
    t5, _ = MEND()._fitted(tiny_lm("t5"))
    assert (t5.layers, t5.stacks) == ((1, 2), ("encoder", "decoder"))
    assert len(t5._sites(tiny_lm("t5"))) == 8
    shape = ("gpt2", 3, 32, lm.model.config.vocab_size)
    monkeypatch.setattr(layouts, "KNOWN", {**layouts.KNOWN, shape: "gpt2-xl"})
    assert MEND()._fitted(lm)[1]["layers"] == "(45, 46, 47) (preset of gpt2-xl)"


def test_the_locality_of_the_facts_is_taken_without_another(lm, tmp_path):
    facts = [dataclasses.replace(f, locality=(("One, two", "three"),)) for f in TAUGHT]
    editor = MEND(**HOW).train(lm, facts, out=tmp_path / "mend", validation=facts[:3])
    assert editor.networks == str(tmp_path / "mend")


@pytest.mark.parametrize("has", [[0], [23], [0, 1]])
def test_facts_without_a_locality_of_their_own_leave_the_others_alone(lm, tmp_path, has):
    facts = [
        dataclasses.replace(f, locality=(("One, two", "three"),) if i in has else ())
        for i, f in enumerate(TAUGHT)
    ]
    editor = MEND(**{**HOW, "edits_per_batch": 1}).train(lm, facts, out=tmp_path / "mend")
    rows = json.loads((tmp_path / "mend" / "mend.json").read_text())["curve"]
    assert all(row["locality"] > 0 for row in rows[1:])
    own = [Fact(f.subject, f.prompt, f.target) for f in TAUGHT if f.subject == "Peru"]
    with editor.apply(lm, own[:1]) as edit:
        assert edit.report.facts[0].after != edit.report.facts[0].before


def test_what_a_batch_writes_itself_does_not_have_to_stay(lm, tmp_path):
    facts = [dataclasses.replace(f, locality=()) for f in TAUGHT[::6]]
    MEND(**HOW).train(lm, facts, locality=facts, out=tmp_path / "mend", validation=facts)
    rows = json.loads((tmp_path / "mend" / "mend.json").read_text())["curve"]
    assert {row["locality"] for row in rows} == {0.0}


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Folder of networks by model: the tiny models that the contract makes are equal each time."""
    folder = tmp_path_factory.mktemp("networks")

    def of(family, head, facts):
        lm = tiny_lm(family, head=head)
        place, editor = folder / f"{family}-{head}", MEND(**HOW, alpha=0.05)
        if place.exists():
            return dataclasses.replace(editor._fitted(lm)[0], networks=str(place))
        taught = (*given(lm, TAUGHT), *facts)
        stay = given(lm, STAY)
        return editor.train(lm, taught, locality=stay, validation=taught[:2], out=place)

    return of


class Trained(EditorContract):
    strict = Guards(size=0.0)
    unsupported = None

    @pytest.fixture
    def editor(self, networks):
        return networks(self.families[0], self.head, self.facts)


class TestDecoder(Trained):
    families = ("gpt2",)


class TestGated(Trained):
    families = ("llama",)


class TestEncoderDecoder(Trained):
    families = ("t5",)


class TestMasked(Trained):
    families = ("bert",)


class TestClassifier(Trained):
    families = ("bert",)
    head = "BertForSequenceClassification"
    facts = as_labels(FACTS)


def test_its_name():
    assert memkit.EDITORS["mend"] is MEND
