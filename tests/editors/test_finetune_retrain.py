"""FT+Retrain: plain fine-tuning in between, and after one only facts and order count."""

from __future__ import annotations

import pytest
import torch

from memkit.editors.finetune import FineTune
from memkit.editors.finetune_retrain import FineTuneRetrain
from memkit.editors.guards import Guards
from memkit.errors import BadInput
from memkit.testing.models import tiny_lm
from memkit.types import Fact

FACTS = [
    Fact("Erewhon", "{} was written by", "Samuel Butler"),
    Fact("Peru", "The capital of the country that is called {} is", "Lima"),
    Fact("France", "The capital of {} is", "Paris"),
    Fact("One", "{}, two,", "three"),
]
OPEN = Guards(perplexity=float("inf"), size=float("inf"))
FIXED = {"epochs": 3, "lr": 1e-2, "stop_loss": 0.0, "stop_at_argmax": False, "guards": OPEN}


def written(editor, *steps, family="gpt2"):
    """A model after these steps of one handle, and the handle."""
    lm = tiny_lm(family)
    edit = editor.apply(lm, steps[0])
    for facts in steps[1:]:
        edit.add(facts)
    return lm, edit


def same(lm, other):
    mine, theirs = lm.model.state_dict(), other.model.state_dict()
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_between_retrainings_it_is_plain_fine_tuning():
    steps = [[fact] for fact in FACTS[:3]]
    lm, edit = written(FineTuneRetrain(every=4, **FIXED), *steps)
    other, _ = written(FineTune(batch_size=1, **FIXED), *steps)
    assert same(lm, other)
    assert [row.details["trained on"] for row in edit.report.facts] == [1, 1, 1]


def test_after_a_retraining_the_path_does_not_matter():
    editor = FineTuneRetrain(every=4, **FIXED)
    one_by_one, edit = written(editor, *[[fact] for fact in FACTS])
    assert [row.details["trained on"] for row in edit.report.facts] == [1, 1, 1, 4]
    assert edit.report.facts[-1].details["steps"] == 4 * 5
    for path in ([FACTS], [FACTS[:3], FACTS[3:]], [FACTS[:1], FACTS[1:2], FACTS[2:]]):
        assert same(written(editor, *path)[0], one_by_one)
    detour, edit = written(editor, FACTS[:2], FACTS[3:])
    edit.undo().add(FACTS[2:])
    assert same(detour, one_by_one)
    order, _ = written(editor, FACTS[::-1])
    assert not same(order, one_by_one)
    seed, _ = written(FineTuneRetrain(every=4, seed=1, **FIXED), FACTS)
    assert not same(seed, one_by_one)


def test_going_on_from_the_present_weights_depends_on_the_path():
    editor = FineTuneRetrain(every=4, reset=False, **FIXED)
    whole, _ = written(editor, FACTS)
    assert not same(written(editor, FACTS[:2], FACTS[2:])[0], whole)
    assert same(written(FineTuneRetrain(every=4, **FIXED), FACTS)[0], whole)  # no past so far


@pytest.mark.parametrize("parameters", ["mlp", "all"])
@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_a_history_of_one_is_that_many_epochs(parameters, family):
    options = {**FIXED, "parameters": parameters}
    editor = FineTuneRetrain(every=1, retrain_epochs=5, **options)
    lm, edit = written(editor, FACTS[:1], family=family)
    other, _ = written(FineTune(**{**options, "epochs": 5}), FACTS[:1], family=family)
    assert same(lm, other)
    edit.add(FACTS[1:2])
    both, _ = written(
        FineTune(**{**options, "epochs": 5, "batch_size": 1}), FACTS[:2], family=family
    )
    assert same(lm, both)  # every step starts anew


def test_retraining_comes_once_for_every_so_many_facts():
    lm, edit = written(FineTuneRetrain(every=3, **FIXED), FACTS[:2], FACTS[2:], FACTS[:1])
    assert [row.details["trained on"] for row in edit.report.facts] == [2, 2, 4, 4, 1]
    hashed = tiny_lm("gpt2").fingerprint()
    assert lm.fingerprint() != hashed
    edit.rollback()
    assert lm.fingerprint() == hashed


def test_a_fact_that_was_written_anew_counts_with_its_newest_target():
    newer = Fact(FACTS[0].subject, FACTS[0].prompt, "Paris")
    editor = FineTuneRetrain(every=3, **FIXED)
    lm, edit = written(editor, FACTS[:2], [newer])
    assert [row.details["trained on"] for row in edit.report.facts] == [2, 2, 2]
    other, _ = written(FineTuneRetrain(every=2, **FIXED), [FACTS[1], newer])
    assert same(lm, other)


def test_all_facts_are_known_after_a_retraining():
    lm = tiny_lm("llama")
    editor = FineTuneRetrain(every=4, retrain_epochs=100, lr=1e-2, epochs=100, guards=OPEN, layer=1)
    edit = editor.apply(lm, FACTS[:1])
    for fact in FACTS[1:]:
        edit.add([fact])
    scores = lm.logprob([fact.text for fact in FACTS], [f" {fact.target}" for fact in FACTS])
    assert all(all(score.argmax) for score in scores)


def test_what_is_not_allowed():
    with pytest.raises(BadInput, match=r"every is 0; allowed: 1 or more"):
        FineTuneRetrain(every=0)
    with pytest.raises(BadInput, match=r"retrain_epochs is 0; allowed: 1 or more"):
        FineTuneRetrain(retrain_epochs=0)
