from __future__ import annotations

import pytest

from memkit import BadInput, Fact
from memkit.benchmarks import load

ROW = {
    "case_id": 43,
    "requested_rewrite": {
        "prompt": "{} is spoken in",
        "relation_id": "re_P37",
        "target_new": {"str": "Spain"},
        "target_true": {"str": "Peru"},
        "subject": "Castilian",
    },
    "postive_list": ["Peru", "Spain"],
    "negtive_list": ["Chad"],
    "para_add_prompts": ["Castilian is a language of"],
    "neighborhood_prompts": [["Lima lies in", "Peru"]],
    "negtive_random_list": ["Ann"],
}


def test_reads_a_row(as_file):
    assert load("peak", as_file([ROW])).facts == (
        Fact(
            subject="Castilian",
            prompt="{} is spoken in",
            target="Spain",
            relation="re_P37",
            paraphrases=("Castilian is a language of",),
            locality=(("Castilian is spoken in", "Peru"), ("Lima lies in", "Peru")),
            id="43",
        ),
    )


def test_refuses_a_neighbour_that_is_no_pair(as_file):
    with pytest.raises(BadInput, match=r"row 1: neighborhood_prompts has .* allowed: pairs"):
        load("peak", as_file([{**ROW, "neighborhood_prompts": ["Lima"]}]))


@pytest.mark.parametrize(("name", "rows"), [("PEAK_counter", 130), ("PEAK_time", 70)])
def test_reads_the_real_files(shared, name, rows):
    facts = load("peak", shared / "data" / "peak" / f"{name}.json").facts
    assert len(facts) == rows
    assert all(fact.locality and fact.paraphrases for fact in facts)
