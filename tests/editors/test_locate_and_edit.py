"""ROME, MEMIT and AlphaEdit keep the editor's contract on every family of decoders."""

from __future__ import annotations

import pytest

from memkit import MEMIT, ROME, AlphaEdit, Guards, Statistics
from memkit.lm.layouts import LAYOUTS
from memkit.testing.editor import EditorContract

DECODERS = sorted(name for name, layout in LAYOUTS.items() if "decoder" in layout.heads.values())
FAMILIES = ("gpt2", *(name for name in DECODERS if name != "gpt2"))
OPEN = Guards(perplexity=1e6, size=1e3)
COMMON = {
    "contexts": ("{}", "One, two. {}"),
    "statistics": Statistics(tokens=400, ridge=1e-2),
    "steps": 8,
    "clamp": 4.0,
    "guards": OPEN,
}


class TestROME(EditorContract):
    families = FAMILIES

    @pytest.fixture
    def editor(self):
        return ROME(layer=1, **COMMON)


class TestOfficialROME(EditorContract):
    @pytest.fixture
    def editor(self):
        return ROME(layer=1, variant="official", **COMMON)


class TestMEMIT(EditorContract):
    families = FAMILIES

    @pytest.fixture
    def editor(self):
        return MEMIT(layers=(0, 1), weight=10.0, **COMMON)


class TestAlphaEdit(EditorContract):
    families = FAMILIES

    @pytest.fixture
    def editor(self):
        return AlphaEdit(layers=(0, 1), null_share=0.5, ridge=0.1, **COMMON)
