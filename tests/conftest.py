from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real benchmark data and models, where a developer has it."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("MEMKIT_SHARED", root.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("needs the developers' folder of real data (MEMKIT_SHARED)")
    return folder
