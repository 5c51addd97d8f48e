"""The fine-tuning family keeps the editor's contract, on every kind of model."""

from __future__ import annotations

import pytest

from memkit import (
    FineTune,
    FineTuneConstrained,
    FineTuneEWC,
    FineTuneLocalized,
    FineTuneRetrain,
    Guards,
)
from memkit.testing.editor import EditorContract

OPEN = Guards(perplexity=1e6)


class TestFineTune(EditorContract):
    families = ("gpt2", "llama", "opt", "t5", "bert")
    unsupported = None

    @pytest.fixture
    def editor(self):
        return FineTune(epochs=4, lr=1e-2, guards=OPEN)


class TestFineTuneAll(EditorContract):
    families = ("gpt2", "gptj", "t5")
    unsupported = None

    @pytest.fixture
    def editor(self):
        return FineTune(parameters="all", epochs=3, lr=1e-3, guards=OPEN)


class TestFineTuneMasked(EditorContract):
    families = ("bert",)
    unsupported = None

    @pytest.fixture
    def editor(self):
        return FineTune(epochs=4, lr=1e-2)


class TestFineTuneEncoderDecoder(EditorContract):
    families = ("t5",)
    unsupported = None

    @pytest.fixture
    def editor(self):
        return FineTune(epochs=4, lr=1e-2)


class TestFineTuneConstrained(EditorContract):
    families = ("gpt2", "qwen2")
    unsupported = None

    @pytest.fixture
    def editor(self):
        return FineTuneConstrained(epochs=4, eps=1e-2, lr=5e-3, guards=OPEN)


class TestFineTuneLocalized(EditorContract):
    families = ("gpt2", "mistral")
    unsupported = None

    @pytest.fixture
    def editor(self):
        return FineTuneLocalized(epochs=4, lr=1e-2, guards=OPEN)


class TestFineTuneEWC(EditorContract):
    families = ("gpt2", "gpt_neox")
    unsupported = None

    @pytest.fixture
    def editor(self):
        return FineTuneEWC(epochs=4, lr=1e-2, ewc_lambda=10.0, guards=OPEN)


class TestFineTuneRetrain(EditorContract):
    families = ("gpt2", "phi")
    unsupported = None

    @pytest.fixture
    def editor(self):
        return FineTuneRetrain(epochs=4, lr=1e-2, every=2, retrain_epochs=2, guards=OPEN)
