"""The figures of the decision page and of the README stand in the tables that they link to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .pages import ROOT

PAGE = ROOT / "docs" / "decide.md"
ROW = re.compile(
    r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \(\[table\]\((.+)\)\) \| [^|]+ \|$", re.MULTILINE
)
ROWS = ROW.findall(PAGE.read_text(encoding="utf-8"))
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


CLAIM = re.compile(r"([^()]+)\(\[table\]\((docs/[^)]+)\)\)")
ITEMS = (ROOT / "README.md").read_text(encoding="utf-8").split("\n- ")
CLAIMS = [claim for item in ITEMS for claim in CLAIM.findall(item)]


@pytest.mark.parametrize(("situation", "figure", "page"), ROWS, ids=[row[0] for row in ROWS])
def test_figures_are_those_of_the_table(situation, figure, page):
    assert NUMBER.findall(figure)
    assert missing(figure, PAGE.parent / page) == set()


@pytest.mark.parametrize(("claim", "page"), CLAIMS, ids=[claim[1] for claim in CLAIMS])
def test_claims_of_the_readme_are_those_of_the_table(claim, page):
    assert missing(claim, ROOT / page) == set()


def missing(text: str, page: Path) -> set[str]:
    """Numbers of a text that a page has not."""
    there = NUMBER.findall(page.read_text(encoding="utf-8"))
    return set(NUMBER.findall(text)) - set(there)


def test_every_row_has_a_figure():
    text = PAGE.read_text(encoding="utf-8")
    assert len(CLAIMS) > 3
    assert len(ROWS) == text.count("\n| ") - 3 > 15  # less the three headers
