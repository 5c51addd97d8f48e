"""GRACE, Defer and Memory keep the editor's contract, on every kind of model that they serve."""

from __future__ import annotations

import dataclasses

import pytest

from memkit import GRACE, Defer, Guards, Memory
from memkit.testing.editor import FACTS, EditorContract

OPEN = Guards(perplexity=1e9)
CLASSES = tuple(
    dataclasses.replace(fact, target=f"LABEL_{number % 2}") for number, fact in enumerate(FACTS)
)


class TestGRACE(EditorContract):
    families = ("gpt2", "llama", "gemma3", "t5")
    strict = Guards(perplexity=0.0)

    @pytest.fixture
    def editor(self):
        return GRACE(steps=12)


class TestGRACEAll(EditorContract):
    families = ("gpt_neox",)
    strict = Guards(perplexity=0.0)

    @pytest.fixture
    def editor(self):
        return GRACE(
            steps=12,
            projection="up",
            replacement="all",
            distance="cosine",
            expansion="paper",
            start="warm",
            end=True,
            guards=OPEN,
        )


class TestDefer(EditorContract):
    families = ("gpt2", "t5")
    strict = Guards(perplexity=0.0)

    @pytest.fixture
    def editor(self):
        return Defer(steps=20, guards=OPEN)


class TestMemory(EditorContract):
    families = ("gpt2", "t5")
    strict = Guards(perplexity=0.0)

    @pytest.fixture
    def editor(self):
        return Memory(steps=12, size=10)


class Classifier(EditorContract):
    families = ("bert",)
    head = "BertForSequenceClassification"
    facts = CLASSES

    test_a_guard_rejects_or_warns = None  # perplexity, the one guard that there is, is a decoder's


class TestGRACEClassifier(Classifier):
    @pytest.fixture
    def editor(self):
        return GRACE(steps=12)


class TestDeferClassifier(Classifier):
    @pytest.fixture
    def editor(self):
        return Defer(steps=12)


class TestMemoryClassifier(Classifier):
    @pytest.fixture
    def editor(self):
        return Memory(steps=12, size=10)
