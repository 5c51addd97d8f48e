"""SafeEdit's protocol on a tiny model, and its classifier by path."""

from __future__ import annotations

import dataclasses
import math

import pytest

from memkit import DINM, Fact, FineTune, GradientAscent, Guards, protocols
from memkit.errors import BadInput
from memkit.lm.generation import Completion
from memkit.protocols.safety import SafetyClassifier
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm

OPEN = Guards(perplexity=math.inf, size=math.inf)
FACTS = [
    Fact(
        "Who?",
        "One, two: Who?",
        "Samuel Butler",
        previous="Lima",
        paraphrases=("Who?", "Three: Who?", "One, two: Peru?", "Three: Peru?"),
    ),
    Fact("Peru", "Three: {}", "Samuel Butler", previous="Lima"),
]


def safe(texts):
    return [text.strip().startswith("Samuel Butler") for text in texts]


def test_each_record_is_edited_alone():
    lm = tiny_lm("gpt2")
    before = state_hash(lm)
    editors = {"FT": FineTune(lr=1e-2, guards=OPEN), "DINM": DINM(steps=1, lr=1e-9, guards=OPEN)}
    result = protocols.safety(lm, editors, FACTS, safe, max_new_tokens=8)
    assert state_hash(lm) == before
    assert result.row("unedited").scores["ds"] == (0, 0)
    assert result.row("FT").scores["ds"] == (1, 1)
    assert result.row("DINM").scores["ds"] == (0, 0)
    generalised = result.row("FT").scores["dg_other_a"]
    assert generalised[0] in (0, 1)
    assert math.isnan(generalised[1])  # a record for training has no tests
    assert set(result.row("FT").scores) == {
        *("ds", "dg_only_q", "dg_other_a", "dg_other_q", "dg_other_aq", "fluency"),
    }
    assert "DG otherAQ" in str(result)
    assert result.difference("FT", "ds").value == 1


def test_silence_is_neither_safe_nor_unsafe(monkeypatch):
    lm = tiny_lm("gpt2")
    texts = ["", "Samuel Butler", " \n", "Lima", "Lima"]
    said = [Completion(text, -1.0, (), 0) for text in texts]
    monkeypatch.setattr(lm, "complete_ids", lambda *_: said)
    asked = []

    def classifier(texts):
        asked.append(len(texts))
        return safe(texts)

    row = protocols.safety(lm, {}, FACTS[:1], classifier, max_new_tokens=8).row("unedited")
    found = [row.scores[name] for name in ("ds", "dg_only_q", "dg_other_a", "dg_other_q")]
    assert found == [(0.5,), (1,), (0.5,), (0,)]
    assert asked == [5]


def test_a_long_prompt_loses_its_beginning():
    """As in EasyEdit, so that an answer has room; the fact itself has to fit."""
    lm = tiny_lm("gpt2")
    (short,) = (fact for fact in FACTS if fact.paraphrases)
    long = "words and numbers, numbers and words: " * 9
    tests = (f"{long}Who?", *short.paraphrases[1:])
    fact = dataclasses.replace(short, paraphrases=tests)
    read = []
    seen = lm.complete_ids
    lm.complete_ids = lambda rows, *more: read.extend(rows) or seen(rows, *more)
    protocols.safety(lm, {}, [fact], safe, max_new_tokens=600)
    whole = [lm.codec.prompt(text) for text in (fact.text, *tests)]
    assert len(whole[1]) > 64  # the window
    assert read == [ids[-32:] for ids in whole]


def test_an_editor_may_be_made_for_each_record():
    lm = tiny_lm("gpt2")
    asked = []

    def of(record):
        asked.append(record)
        return FineTune(lr=1e-2 if record is FACTS[0] else 1e-9, epochs=60, guards=OPEN)

    result = protocols.safety(lm, {"own": of}, FACTS, safe, max_new_tokens=8)
    assert asked == FACTS
    assert result.row("own").scores["ds"] == (1, 0)
    assert result.row("own").what.startswith("FineTune(")
    with pytest.raises(BadInput, match="'up'"):
        protocols.safety(lm, {"up": lambda _: GradientAscent()}, FACTS, safe)


def test_a_rejected_edit_scores_the_model_without_it():
    lm = tiny_lm("gpt2")
    editors = {"FT": FineTune(lr=1e-2, guards=Guards(size=0.0))}
    row = protocols.safety(lm, editors, FACTS, safe, max_new_tokens=8).row("FT")
    assert row.scores["ds"] == (0, 0)
    assert len(row.rejected) == 2


def test_editors_that_take_out_the_target_would_take_out_the_safe_response():
    with pytest.raises(BadInput, match=r"'up' \(GradientAscent\) takes out a fact's target"):
        protocols.safety(tiny_lm("gpt2"), {"up": GradientAscent()}, FACTS, safe)
    with pytest.raises(BadInput, match="facts is empty"):
        protocols.safety(tiny_lm("gpt2"), {}, [], safe)


def test_a_classifier_is_loaded_by_its_path(tmp_path):
    lm = tiny_lm("bert", head="BertForSequenceClassification")
    lm.save(tmp_path / "classifier")
    texts = ["Samuel Butler wrote Erewhon.", "One, two", "Peru and France " * 60]
    name = str(tmp_path / "classifier")
    found = SafetyClassifier(name)(texts)
    labels = list(lm.model.config.label2id)
    scores = lm.logprob(texts[:2] * 2, [labels[0]] * 2 + [labels[1]] * 2)
    expected = [a.total > b.total for a, b in zip(scores[:2], scores[2:], strict=True)]
    assert found[:2] == expected  # SafeEdit's label 0 is safe, 1 is not
    assert SafetyClassifier(name, safe=1)(texts) == [not value for value in found]
    assert SafetyClassifier(name)([]) == []
    with pytest.raises(BadInput, match="safe is 2; allowed: 0 to 1"):
        SafetyClassifier(name, safe=2)(texts)
    with pytest.raises(BadInput, match="cannot be loaded"):
        SafetyClassifier(str(tmp_path / "nothing"))(texts)
