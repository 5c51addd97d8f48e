from __future__ import annotations

import pytest

from memkit import BadInput, Fact
from memkit.benchmarks import load

ROW = {
    "known_id": 12,
    "subject": "Il Gazzettino",
    "attribute": "Italian",
    "template": "{} was written in",
    "prediction": " the 1980s, when the Italian",
    "prompt": "Il Gazzettino was written in the 1980s, when the",
    "relation_id": "P407",
}


def test_the_prompt_ends_before_the_attribute(as_file):
    assert load("known_1000", as_file([ROW])).facts == (
        Fact(
            subject="Il Gazzettino",
            prompt="Il Gazzettino was written in the 1980s, when the",
            target="Italian",
            relation="P407",
            id="12",
        ),
    )


def test_says_where_the_file_is():
    with pytest.raises(BadInput, match=r"Download https://rome.baulab.info/.*/known_1000.json"):
        load("known_1000")


def test_reads_the_real_file(shared):
    bench = load("known_1000", shared / "data" / "counterfact" / "known_1000.json")
    assert len(bench.facts) == len({fact.id for fact in bench.facts}) == 600
    assert bench.questions == ()
    assert all(fact.relation and fact.previous is None for fact in bench.facts)
