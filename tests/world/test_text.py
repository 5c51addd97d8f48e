"""Statements of the world as the text that editors take their second moments of."""

from __future__ import annotations

import json

import pytest

from memkit import GRACE, ROME, Statistics
from memkit.benchmarks import load
from memkit.world import located


@pytest.fixture(scope="module")
def world():
    return load("miniworld")


def test_moments_are_taken_of_statements(world, tmp_path):
    rome, grace = ROME(statistics=Statistics(ridge=1e-3)), GRACE()
    given = {"ROME": rome, "GRACE": grace}
    found = located(given, world, tmp_path, statements=20, contexts=2, tokens=50, seed=3)
    assert found["GRACE"] is grace
    assert given == {"ROME": rome, "GRACE": grace}
    statistics = found["ROME"].statistics
    assert (statistics.ridge, statistics.tokens) == (1e-3, 50)
    first, *told = found["ROME"].contexts
    assert first == "{}"
    with open(statistics.corpus, encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    lines = "".join(texts).splitlines(keepends=True)
    assert len(lines) == 20
    assert [len(text.splitlines()) for text in texts] == [5] * 4
    assert told == [f"{line}{{}}" for line in lines[:2]]
    targets = {fact.target for fact in world.facts}
    ends = tuple(f" {target}{end}" for target in targets for end in (".\n", "\n"))
    assert all(line.endswith(ends) for line in lines)


def test_equal_seeds_give_equal_statements(world, tmp_path):
    made = []
    for number, seed in enumerate((0, 0, 1)):
        folder = tmp_path / str(number)
        folder.mkdir()
        located({"ROME": ROME()}, world, folder, statements=30, seed=seed)
        made.append((folder / "statements.jsonl").read_bytes())
    assert made[0] == made[1] != made[2]
