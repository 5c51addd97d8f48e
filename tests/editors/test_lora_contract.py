"""LoRA keeps the editor's contract, on every kind of model."""

from __future__ import annotations

import pytest

from memkit import Guards, LoRA
from memkit.testing.editor import EditorContract
from memkit.testing.models import TINY

pytest.importorskip("peft")

OPEN = Guards(perplexity=1e6)


class TestLoRA(EditorContract):
    families = ("gpt2", *(family for family in TINY if family != "gpt2"))
    unsupported = None

    @pytest.fixture
    def editor(self):
        return LoRA(rank=2, epochs=4, lr=2e-2, guards=OPEN)


class TestLoRAByName(EditorContract):
    families = ("llama", "qwen2")
    unsupported = None

    @pytest.fixture
    def editor(self):
        targets = ("q_proj", "v_proj", "attention")
        return LoRA(rank=4, epochs=4, lr=2e-2, targets=targets, dropout=0.1, guards=OPEN)


class TestLoRAEncoderDecoder(EditorContract):
    families = ("t5",)
    unsupported = None

    @pytest.fixture
    def editor(self):
        return LoRA(rank=2, epochs=4, lr=2e-2, targets=("q", "v"), layers=(0, 2))


class TestLoRAMasked(EditorContract):
    families = ("bert",)
    unsupported = None

    @pytest.fixture
    def editor(self):
        return LoRA(rank=2, epochs=4, lr=2e-2, batch_size=1)
