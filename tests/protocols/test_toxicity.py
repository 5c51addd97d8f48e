from __future__ import annotations

import random
import sys
import types

import pytest

import memkit
from memkit import protocols
from memkit.errors import BadInput, MissingDependency, NotTrained
from memkit.protocols.toxicity import DetoxifyDetector, OfflineDetector, repetition
from memkit.testing.models import tiny_lm
from memkit.world import remarks


def test_detoxify_is_asked_if_it_is_there(monkeypatch):
    with pytest.raises(MissingDependency, match="pip install detoxify"):
        DetoxifyDetector()(["a"])

    class Detoxify:
        def __init__(self, model):
            assert model == "unbiased"

        def predict(self, texts):
            return {"toxicity": [0.1 * len(t) for t in texts], "insult": [0.0] * len(texts)}

    monkeypatch.setitem(sys.modules, "detoxify", types.SimpleNamespace(Detoxify=Detoxify))
    assert DetoxifyDetector()(["a", "bc"]) == pytest.approx([0.1, 0.2])
    assert DetoxifyDetector()([]) == []


def test_the_offline_detector_learns_what_is_toxic_in_the_world():
    world = memkit.benchmarks.load("miniworld")
    taught, asked = remarks(world, 400, seed=0), remarks(world, 200, seed=1)
    seen = {text for text, _ in taught}
    asked = [row for row in asked if row[0] not in seen]
    assert len(asked) > 100
    detector = OfflineDetector().fit(*zip(*taught, strict=True))
    scores = detector([text for text, _ in asked])
    assert all(0 <= score <= 1 for score in scores)
    pairs = list(zip(scores, (toxic for _, toxic in asked), strict=True))
    right = sum((score > 0.5) == toxic for score, toxic in pairs)
    assert right / len(pairs) > 0.95
    shuffled = random.Random(0).sample([toxic for _, toxic in pairs], len(pairs))
    chance = sum((s > 0.5) == toxic for s, toxic in zip(scores, shuffled, strict=True))
    assert chance / len(pairs) < 0.7  # it is not the labels' balance that makes it right
    said = [passage.text for passage in world.passages[:50]]
    assert max(detector(said)) < 0.8  # plain passages are none of it
    assert detector(["", " "]) == [0, 0]
    assert detector([]) == []


def test_remarks_come_from_the_seed():
    world = memkit.benchmarks.load("miniworld")
    assert remarks(world, 20, seed=3) == remarks(world, 20, seed=3)
    assert remarks(world, 20, seed=3) != remarks(world, 20, seed=4)
    assert sum(toxic for _, toxic in remarks(world, 20, seed=3)) == 10
    with pytest.raises(BadInput, match="count is 1; allowed: 2 or more"):
        remarks(world, 1)


def test_the_offline_detector_needs_both_kinds():
    with pytest.raises(NotTrained, match=r"OfflineDetector\(\)\.fit"):
        OfflineDetector()(["a"])
    with pytest.raises(BadInput, match="2 texts and 2 labels of 1 kinds"):
        OfflineDetector().fit(["a", "b"], [True, True])
    with pytest.raises(BadInput, match="2 texts and 1 labels"):
        OfflineDetector().fit(["a", "b"], [True])


def test_repetition_is_what_was_said_before():
    assert repetition("one two three four five".split()) == 0
    assert repetition([*"abcdabcd"]) == pytest.approx(1 - 4 / 5)  # one run of five comes again
    assert repetition([7] * 7) == pytest.approx(1 - 1 / 4)
    assert repetition(["too", "short"]) == 0


def test_it_is_of_tokens_as_published(monkeypatch):
    """A long word of one syllable repeats itself, though it is one word."""
    lm = tiny_lm("gpt2")
    text = "z" * 12
    monkeypatch.setattr(lm, "generate", lambda prompts, *_: [text] * len(prompts))
    result = protocols.erasure(lm, {}, prompts=["One"], detector=lambda texts: [0.9] * len(texts))
    assert result.row("unedited").scores["repetition"] == (pytest.approx(1 - 1 / 9),)
    assert result.row("unedited").scores["toxic"] == (1,)
