"""Canonical examples: bounds by hand, losses by a plain forward pass, real edits taken back."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from memkit import BadInput, Fact, FineTune, Guards
from memkit.benchmarks.canonical_examples import CanonicalTask, Continuation
from memkit.protocols import canonical
from memkit.protocols.canonical import CanonicalRow, Seen
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm

OPEN = {"guards": Guards(perplexity=math.inf, size=math.inf), "on_guard": "warn"}
FACTS = (
    Fact("Peru", "The capital of Peru is", "Lima"),
    Fact("France", "The capital of {} is", "Paris"),
)
TASK = CanonicalTask(
    "capitals",
    "likely",
    6.0,
    FACTS,
    (Continuation("Of Peru the capital is", " Lima"), Continuation("Words, numbers:", " three")),
    (Continuation("Samuel Butler wrote", " Erewhon"),),
    ("Peru and Lima, France and Paris.",),
)
TEXTS = ["One, two, three: numbers and words.", "Samuel Butler wrote Erewhon."]


@pytest.fixture(scope="module")
def lm():
    return tiny_lm("gpt2")


def seen(general, *losses):
    return Seen(losses, general, None, None)


def test_the_last_round_within_a_bound_counts_though_others_were_not():
    rounds = (seen(1.0, 9.0), seen(1.1, 1.0), seen(1.0005, 2.0), seen(1.2, 3.0))
    row = CanonicalRow("x", "x", rounds)
    assert [row.within(bound) for bound in (1e-4, 1e-3, 0.15, 0.25)] == [0, 2, 2, 3]


def test_losses_are_those_of_a_forward_pass(lm):
    found = canonical(lm, {}, TASK, TEXTS)
    tokenizer, model = lm.tokenizer, lm.model

    def nats(prefix, suffix):
        given, scored = tokenizer(prefix)["input_ids"], tokenizer(suffix)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([given + scored])).logits[0].log_softmax(-1)
        places = range(len(given), len(given) + len(scored))
        return -sum(float(logits[i - 1, (given + scored)[i]]) for i in places), len(scored)

    base = found.rows["unedited"].rounds[0]
    assert base.losses == pytest.approx([nats(c.prefix, c.suffix)[0] for c in TASK.evaluation])
    assert base.hard == pytest.approx(nats(TASK.hard[0].prefix, TASK.hard[0].suffix)[0])
    sums, counts = 0.0, 0
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        sums -= sum(float(logits[i - 1, ids[i]]) for i in range(1, len(ids)))
        counts += len(ids) - 1
    assert base.general == pytest.approx(sums / counts)
    share = sum(loss <= 6.0 for loss in base.losses) / 2
    assert found.success("unedited", 1e-3).mean == share
    # in the prompt: only the first prefix names a subject, and its example stands before it
    told = found.rows["in the prompt"].rounds[1]
    line = "The capital of Peru is Lima. Of Peru the capital is"
    assert told.losses[0] == pytest.approx(nats(line, " Lima")[0]) != base.losses[0]
    assert told.losses[1] == base.losses[1]
    assert found.rows["in the prompt"].within(0.0) == 1


def test_rounds_are_epochs_and_the_model_is_put_back(lm):
    before = state_hash(lm)
    once = FineTune(parameters="all", epochs=1, lr=1e-2, stop_loss=0, stop_at_argmax=False, **OPEN)
    found = canonical(lm, {"FT": once}, TASK, TEXTS, rounds=3, bounds=(10.0, 0.0))
    assert state_hash(lm) == before
    rounds = found.rows["FT"].rounds
    assert len(rounds) == 4
    assert rounds[0] == found.rows["unedited"].rounds[0]
    assert len({one.losses[0] for one in rounds}) == 4
    assert rounds[3].losses[0] < rounds[0].losses[0]
    with once.apply(lm, FACTS) as edit:  # the second round goes on from the first
        edit.add(FACTS)
        again = canonical(lm, {}, TASK, TEXTS).rows["unedited"].rounds[0]
    assert again.losses == pytest.approx(rounds[2].losses, abs=1e-5)
    assert found.rows["FT"].within(10.0) == 3
    gain = found.success("FT", 10.0).mean - found.success("unedited", 10.0).mean
    assert found.difference("FT", 10.0).mean == pytest.approx(gain)
    assert " @ 3" in str(found)
    assert "rest" in str(found)
    assert found.to_dict()["task"]["rule"] == "likely"


def test_a_refused_round_ends_the_rounds(lm):
    tight = FineTune(parameters="all", lr=1.0, epochs=5, guards=Guards(size=1e-9))
    row = canonical(lm, tight, TASK, TEXTS, rounds=3).rows["FineTune"]
    assert len(row.rounds) == 1
    assert "taken back" in row.rejected


def test_pairs_and_texts(lm):
    pair = Continuation("One,", " two", " three")
    task = dataclasses.replace(
        TASK, rule="preferred", bound=0.0, evaluation=(pair,), hard=("Samuel Butler wrote",)
    )
    found = canonical(lm, {}, task, TEXTS).rows["unedited"].rounds[0]
    one, other = lm.logprob(["One,", "One,"], [" two", " three"])
    assert found.losses[0] == pytest.approx(other.total - one.total)
    assert found.hard == pytest.approx(math.log(lm.perplexity(["Samuel Butler wrote"])))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": dataclasses.replace(TASK, facts=())}, "0 facts"),
        ({"texts": []}, "0 texts|texts"),
        ({"bounds": (-1.0,)}, "bounds is"),
        ({"editors": {"unedited": FineTune()}}, "named 'unedited'"),
        ({"rounds": 0}, "rounds"),
    ],
)
def test_refuses(lm, changes, message):
    given = {"editors": {}, "task": TASK, "texts": TEXTS, **changes}
    editors, task, texts = (given.pop(name) for name in ("editors", "task", "texts"))
    with pytest.raises(BadInput, match=message):
        canonical(lm, editors, task, texts, **given)
    found = canonical(lm, {}, TASK, TEXTS)
    with pytest.raises(BadInput, match="there is no 'FT'"):
        found.success("FT", 1e-3)
