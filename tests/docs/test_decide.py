"""The figures of the decision page stand in the tables that it links to."""

from __future__ import annotations

import re

import pytest

from .pages import ROOT

PAGE = ROOT / "docs" / "decide.md"
ROW = re.compile(
    r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \(\[table\]\((.+)\)\) \| [^|]+ \|$", re.MULTILINE
)
ROWS = ROW.findall(PAGE.read_text(encoding="utf-8"))
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


@pytest.mark.parametrize(("situation", "figure", "page"), ROWS, ids=[row[0] for row in ROWS])
def test_figures_are_those_of_the_table(situation, figure, page):
    there = NUMBER.findall((PAGE.parent / page).read_text(encoding="utf-8"))
    shown = NUMBER.findall(figure)
    assert shown
    assert set(shown) <= set(there)


def test_every_row_has_a_figure():
    text = PAGE.read_text(encoding="utf-8")
    assert len(ROWS) == text.count("\n| ") - 3 > 15  # less the three headers
