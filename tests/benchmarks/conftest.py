from __future__ import annotations

import json

import pytest


@pytest.fixture
def as_file(tmp_path):
    """Write rows as a JSON list and give back the path."""

    def write(rows, name="rows.json"):
        (tmp_path / name).write_text(json.dumps(rows), encoding="utf-8")
        return tmp_path / name

    return write
