"""The pages' code runs, and prints what stands below it, up to what processors differ in."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [
    DOCS / "index.md",
    DOCS / "decide.md",
    DOCS / "routing.md",
    DOCS / "erasure.md",
    *sorted((DOCS / "tutorials").glob("*.md")),
]
NUMBER = re.compile(r"\d+(?:\.\d+)?")
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", re.DOTALL)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_code_prints_what_stands_below_it(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(path.read_text(encoding="utf-8"))
    assert blocks
    names: dict[str, object] = {}
    for code, expected in blocks:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(code, str(path), "exec"), names)
        assert NUMBER.sub("#", said.getvalue()) == NUMBER.sub("#", expected)
        shown = [float(number) for number in NUMBER.findall(expected)]
        assert [float(n) for n in NUMBER.findall(said.getvalue())] == pytest.approx(
            shown, rel=0.1, abs=0.2
        )
