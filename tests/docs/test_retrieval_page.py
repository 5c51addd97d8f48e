"""The page on retrieval: its arithmetic is right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "retrieval.md").read_text(encoding="utf-8")
UNITS = {"MB": 1e6, "GB": 1e9}


ROWS = re.findall(r"^\| ([\d,]+)( million)? x (\d+) words[^|]*\|(.*)\|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("count", "million", "words", "cells"), ROWS)
def test_the_arithmetic_is_right(count, million, words, cells):
    n = int(count.replace(",", "")) * (10**6 if million else 1)
    terms = {"44": 35, "100": 65}[words]
    found = [float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+) (.B)", cells)]
    expected = [8 * n * terms, 4 * n * 384, n * (4 * 384 + 256), 4 * n * 768]
    assert found[1:] == pytest.approx(expected, rel=0.03)
    assert found[0] == pytest.approx(6.15 * int(words) * n, rel=0.05)


def test_all_rows_are_checked():
    assert len(ROWS) == 5
