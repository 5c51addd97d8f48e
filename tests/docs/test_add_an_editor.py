"""The editor that the tutorial adds keeps the contract: its own suite, as the page has it."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from memkit import editors

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "add_an_editor.md"
METHOD, _, SUITE = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

module = types.ModuleType("hebbian")
sys.modules["hebbian"] = module  # dataclasses look their module up
exec(compile(METHOD, str(PAGE), "exec"), module.__dict__)
exec(compile(SUITE, str(PAGE), "exec"), module.__dict__)


class TestHebbian(module.TestHebbian):
    @pytest.fixture(autouse=True)
    def registry(self, monkeypatch):
        monkeypatch.setattr(editors, "EDITORS", {**editors.EDITORS, "hebbian": module.Hebbian})
