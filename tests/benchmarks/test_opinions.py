from __future__ import annotations

import dataclasses
import json

import pytest

from memkit.benchmarks.opinions import Opinion, load
from memkit.errors import BadInput
from memkit.world import Caseload, opinions, write


def test_what_was_written_is_read_back_without_the_train_split(tmp_path):
    made = opinions(2, Caseload(train=6, test=4, shifted=5, shifted_holdout=3))
    write(made, tmp_path)
    assert tuple(load(tmp_path)) == made[6:]
    assert tuple(load(tmp_path, "shifted")) == made[10:15]
    with pytest.raises(BadInput, match="has no opinion of the split 'train'; allowed"):
        load(tmp_path, "train")


def test_the_shipped_opinions_are_those_of_seed_0():
    assert load() == [opinion for opinion in opinions(0) if opinion.split != "train"]


def test_other_splits_and_other_rows_are_refused(tmp_path):
    with pytest.raises(BadInput, match="split is 'new'; allowed: 'train', 'test', 'shifted'"):
        load(split="new")
    with pytest.raises(BadInput, match="split is 'old'"):
        Opinion("A v. B", 1950, "A v. B\nIt is so.", "Privacy", "old")
    with pytest.raises(BadInput, match="cannot be read"):
        load(tmp_path)
    row = dataclasses.asdict(load(split="test")[0]) | {"court": "x"}
    (tmp_path / "opinions.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(BadInput, match=r"row 1, is no Opinion .*court.*; allowed"):
        load(tmp_path)
