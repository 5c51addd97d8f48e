"""GRACE's log: what is left when edits go, and what is saved."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

import memkit
from memkit import GRACE, ROME, Fact, FineTune, Guards, Statistics
from memkit.editors.codebook import SLACK
from memkit.errors import BadInput, EditRejected, UnsupportedModel
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm

OPEN = Guards(perplexity=float("inf"))
PLACES = ["Peru", "France", "Paris", "Lima", "Butler", "One"]
MANY = [
    Fact(place, "The capital of {} is", "numbers" if number % 2 else "words and")
    for number, place in enumerate(PLACES)
]
BUTLER = Fact("Samuel Butler", "{} wrote", "Lima")
PROMPTS = [*(fact.text for fact in MANY), "Samuel Butler wrote", "One, two"]


def grace(**how):
    """Balls so large that facts of one form meet."""
    return GRACE(**{"eps": 1.5, "steps": 8, "layer": 1, "guards": OPEN, **how})


def seen(lm):
    """What the model says, to the bit."""
    return [score.per_token for score in lm.logprob(PROMPTS, [" numbers words"] * len(PROMPTS))]


def book(edit):
    """Keys, values, radii and labels."""
    codebook = edit.adaptor.codebook
    return (
        codebook.keys.tolist(),
        codebook.values.tolist(),
        codebook.radii.tolist(),
        list(codebook.labels),
    )


def one_by_one(lm, facts, editor):
    edit = editor.apply(lm, facts[:1])
    for fact in facts[1:]:
        edit.add([fact])
    return edit


@pytest.fixture
def lm():
    return tiny_lm("gpt2")


def test_the_facts_meet(lm):
    """What the tests below rest on: here all four kinds of decision are made."""
    actions = set()
    with one_by_one(lm, MANY, grace()) as edit:
        actions |= {decision.action for decision in edit.adaptor.decisions}
        edit.add([dataclasses.replace(MANY[0], target="Lima")])
        actions.add(edit.adaptor.decisions[-1].action)
        for decision, row in zip(edit.adaptor.decisions, edit.report.facts, strict=True):
            assert row.details[decision.action] == 1.0
            assert sum(row.details[name] for name in ("add", "expand", "split", "rewrite")) == 1.0
            assert row.details.get("distance", float("inf")) == decision.distance
            assert 0 <= row.details["key"] < row.details["keys"] <= len(edit.adaptor.codebook)
    assert actions == {"add", "expand", "split", "rewrite"}


@pytest.mark.parametrize(
    "how", [{}, {"expansion": "paper"}, {"distance": "cosine", "eps": 0.2}, {"literal": True}]
)
def test_undo_restores_every_state_to_the_bit(lm, how):
    states = [(seen(lm), None)]
    edit = grace(**how).apply(lm, MANY[:1])
    states.append((seen(lm), book(edit)))
    for fact in MANY[1:]:
        edit.add([fact])
        states.append((seen(lm), book(edit)))
    for state in states[-2:0:-1]:
        edit.undo()
        assert (seen(lm), book(edit)) == state
    edit.undo()
    assert seen(lm) == states[0][0]
    assert edit.adaptor is None


def test_several_facts_in_one_step_are_written_one_after_the_other(lm):
    together = grace().apply(lm, MANY)
    apart = one_by_one(tiny_lm("gpt2"), MANY, grace())
    assert book(together) == book(apart)
    assert together.adaptor.decisions == apart.adaptor.decisions
    assert len(together.steps) == 1
    assert together.report.stored_bytes == sum(t.nbytes for t in together.steps[0].state.values())


@pytest.mark.parametrize("gone", range(len(MANY)))
def test_any_edit_can_be_removed_as_if_it_had_never_been(lm, gone):
    """Bit-equal, since values that are trained on one fact alone depend on no other."""
    apart = {"eps": 0.05}  # no two facts meet
    edit = one_by_one(lm, MANY, grace(**apart))
    assert {decision.action for decision in edit.adaptor.decisions} == {"add"}
    edit.remove(gone)
    other = tiny_lm("gpt2")
    left = [fact for number, fact in enumerate(MANY) if number != gone]
    never = one_by_one(other, left, grace(**apart))
    assert book(edit) == book(never)
    assert seen(lm) == seen(other)
    assert [row.fact for row in edit.report.facts] == left


@pytest.mark.parametrize("gone", range(len(MANY) + 1))
def test_a_fact_is_entered_anew_with_its_value_when_another_goes(lm, monkeypatch, gone):
    """Also where they have met: a fact whose key is gone gets one of its own."""
    facts = [*MANY, dataclasses.replace(MANY[0], target="Lima")]
    edit = one_by_one(lm, facts, grace())
    decisions, kept = list(edit.adaptor.decisions), book(edit)
    entered, true = [], edit.adaptor.enter

    def enter(entry, label):
        key = true(entry, label)
        codebook = edit.adaptor.codebook
        found, (nearest,) = codebook.look_up(entry.query[None])
        assert (found.item(), int(nearest), codebook.labels[key]) == (True, key, label)
        assert torch.equal(codebook.values[key], entry.value)
        entered.append(label)
        return key

    monkeypatch.setattr(edit.adaptor, "enter", enter)
    edit.remove(gone)
    assert entered == [fact.target for number, fact in enumerate(facts) if number != gone]
    assert edit.adaptor.decisions[:gone] == decisions[:gone]
    after = book(edit)
    assert after != kept
    edit.add([Fact("x", "{} wrote Erewhon", "Lima")]).undo()
    assert book(edit) == after


def test_undoing_a_split_gives_the_radius_back(lm):
    edit = grace().apply(lm, MANY[:1])
    radii = edit.adaptor.codebook.radii.tolist()
    for fact in MANY[1:]:
        edit.add([fact])
        if edit.adaptor.decisions[-1].action == "split":
            break
        radii = edit.adaptor.codebook.radii.tolist()
    split = edit.adaptor.decisions[-1]
    assert split.action == "split"
    assert edit.adaptor.codebook.radii[split.nearest] < radii[split.nearest]
    edit.undo()
    assert edit.adaptor.codebook.radii.tolist() == radii


def test_a_new_target_of_the_same_prompt_is_learnt_and_taken_back(lm):
    first, second = MANY[0], dataclasses.replace(MANY[0], target="Lima")
    with grace().apply(lm, [first]) as edit:
        one = seen(lm)
        edit.add([second])
        assert edit.adaptor.decisions[-1] == ("rewrite", 0, pytest.approx(0, abs=1.5 * SLACK))
        assert edit.report.facts[-1].learnt
        assert len(edit.adaptor.codebook) == 1
        edit.remove(1)
        assert seen(lm) == one
        edit.add([second]).remove(0)
        assert lm.logprob([second.text], [" Lima"])[0].argmax[0]


def test_an_expanded_key_is_trained_only_where_it_has_to_be(lm):
    """The same prompt again: the value gives the target already, and stays; another prompt's."""
    editor = grace(steps=60, eps=50.0)
    with editor.apply(lm, MANY[1:2]) as edit:
        values = edit.adaptor.codebook.values.clone()
        assert edit.report.facts[0].learnt
        edit.add([dataclasses.replace(MANY[1], paraphrases=("x",))])
        assert edit.adaptor.decisions[-1].action == "expand"
        assert edit.report.facts[-1].details["steps"] == 0
        assert torch.equal(edit.adaptor.codebook.values, values)
        one = seen(lm)
        edit.add([Fact("Samuel Butler", "{} and the words of", "numbers")])
        assert edit.adaptor.decisions[-1].action == "expand"
        assert len(edit.adaptor.codebook) == 1
        trained = edit.report.facts[-1].details["steps"] > 0
        assert torch.equal(edit.adaptor.codebook.values, values) != trained
        assert edit.report.facts[-1].learnt
        edit.undo()
        assert seen(lm) == one


@pytest.mark.parametrize("removed", [None, 0, 2])
def test_saved_and_loaded_whole(lm, tmp_path, removed):
    with one_by_one(lm, MANY, grace()) as edit:
        if removed is not None:
            edit.remove(removed)
            edit.add([Fact("x", "{} wrote Erewhon", "Lima")])
        kept, said, decisions = book(edit), seen(lm), list(edit.adaptor.decisions)
        edit.save(tmp_path / "edit")
    base = seen(lm)
    with memkit.load_edit(tmp_path / "edit").apply(lm) as live:
        assert (book(live), seen(lm)) == (kept, said)
        assert live.adaptor.decisions == decisions
        live.undo()
        assert book(live) != kept
        live.remove(0)
    assert seen(lm) == base != said


def test_a_rejected_step_leaves_the_codebook_as_it_was(lm):
    with one_by_one(lm, MANY[:3], grace()) as edit:
        kept = book(edit)
        edit.editor = dataclasses.replace(edit.editor, guards=Guards(perplexity=0.0))
        edit.memo["perplexity"] = 1.0
        with pytest.raises(EditRejected):
            edit.add(MANY[3:5])
        assert book(edit) == kept
        assert len(edit.adaptor.decisions) == 3


def test_only_what_is_new_is_built(lm, monkeypatch):
    """Adding the n-th fact costs no replay of the others."""
    with grace().apply(lm, MANY[:1]) as edit:
        entered, true = [], edit.adaptor.enter
        monkeypatch.setattr(
            edit.adaptor, "enter", lambda *entry: entered.append(entry) or true(*entry)
        )
        for fact in MANY[1:]:
            edit.add([fact])
        assert len(entered) == len(MANY) - 1


def test_beside_other_editors(lm):
    """Two codebooks over one map, and a weight editor on top; all closed in reverse order."""
    base, weights = seen(lm), state_hash(lm)
    with grace(eps=0.05).apply(lm, MANY[:1]):
        one = seen(lm)
        with grace(eps=0.05).apply(lm, MANY[1:2]) as second:
            assert second.report.facts[0].learnt
            two = seen(lm)
            assert two[0] == one[0] != base[0]
            with FineTune(layer=0, lr=1e-2, guards=OPEN).apply(lm, [BUTLER]):
                assert seen(lm) != two
            assert seen(lm) == two
        assert seen(lm) == one
    assert (seen(lm), state_hash(lm)) == (base, weights)


def test_what_cannot_see_the_codebook_refuses(lm, tmp_path):
    rome = ROME(layer=0, statistics=Statistics(identity=True), contexts=("{}",))
    with grace().apply(lm, MANY[:1]) as edit:
        with pytest.raises(UnsupportedModel, match="lies over a layer"):
            rome.apply(lm, [BUTLER])
        with pytest.raises(BadInput, match=r"no weight holds it.*edit\.save"):
            lm.save(tmp_path / "model")
        assert not list(tmp_path.iterdir())
        with edit.paused():
            lm.save(tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_the_fingerprint_knows_the_codebook(lm):
    base = lm.fingerprint()
    prints = [base]
    with one_by_one(lm, MANY[:2], grace()) as edit:
        prints.append(lm.fingerprint())
        edit.undo()
        prints.append(lm.fingerprint())
    assert all(a != b for a, b in itertools.combinations(prints, 2))
    assert lm.fingerprint() == base


def test_half_precision(tmp_path):
    lm = tiny_lm("gpt2")
    lm.model.to(torch.bfloat16)
    with one_by_one(lm, MANY[:3], grace(eps="auto")) as edit:
        assert edit.adaptor.codebook.values.dtype == torch.float32
        kept, said = book(edit), seen(lm)
        assert all(row.after > row.before for row in edit.report.facts)
        edit.save(tmp_path / "edit")
    with memkit.load_edit(tmp_path / "edit").apply(lm) as live:
        assert (book(live), seen(lm)) == (kept, said)
