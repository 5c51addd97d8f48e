"""LEME: edits with related entities, and claims that people labelled."""

from __future__ import annotations

import csv
from collections import Counter

import pytest

from memkit import BadInput
from memkit.benchmarks import load

REWRITE = {
    "subject": "Eiffel Tower",
    "prompt": "{} stands in",
    "target_new": {"str": "Rome"},
    "target_true": {"str": "Paris"},
}
COUPLED = {
    "subject_entity": {
        "coupled_prompt": "Write an essay about Eiffel Tower\nInclude:\n- style",
        "ground_truth": {"place": ["Paris"], "style": ["iron", "lattice"], "near": ["Paris", "x"]},
    },
    "coupled_entities": [
        {
            "entity": "Champ de Mars",
            "coupled_prompt": "Write an essay about Champ de Mars",
            "overlapping_ground_truth": {"place": ["Paris"]},
        },
        {"entity": "Seine"},
    ],
}
ROW = {
    "case_id": 7,
    "requested_rewrite": REWRITE,
    "coupled_prompts_and_properties": COUPLED,
}


@pytest.mark.parametrize("field", ["coupled_prompts_and_properties", "dependancies"])
def test_an_edit_and_what_is_related(as_file, field):
    row = {"case_id": 7, "requested_rewrite": REWRITE, field: COUPLED}
    (case,) = load("leme", as_file([row])).cases
    assert (case.fact.target, case.fact.previous, case.id) == ("Rome", "Paris", "7")
    assert case.prompt == (
        "Write an essay about Eiffel Tower\nInclude:\n- style\n-relationship to Champ de Mars\n\n"
        "Eiffel Tower"
    )
    assert case.related_prompt.endswith("-relationship to Eiffel Tower\n\nChamp de Mars")
    # what the edit replaces is no old fact that has to stay
    assert case.known == {"style": ("iron", "lattice"), "near": ("x",)}
    assert case.related_known == {"place": ("Paris",)}


def test_rows_without_a_related_entity_are_counted(as_file):
    alone = {**ROW, "coupled_prompts_and_properties": {**COUPLED, "coupled_entities": []}}
    with pytest.warns(UserWarning, match="1 of 2 rows of leme have no related"):
        found = load("leme", as_file([alone, ROW]))
    assert len(found.cases) == len(found.facts) == 1


@pytest.fixture
def as_csv(tmp_path):
    def write(*rows):
        names = "content sample_id example_id classification method label question_type".split()
        with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            base = {"sample_id": "s", "example_id": "e", "method": "rome", "label": "new_fact"}
            writer.writerows({**base, "classification": "supports", **row} for row in rows)
        return tmp_path / "a.csv"

    return write


def test_claims(as_csv):
    text = "Passage: It says\n'Claim: no'.\nClaim: It is so "
    path = as_csv({"content": "Passage: It is in\nRome.\nClaim: It is in Rome"})
    (claim,) = load("leme", path).cases
    assert (claim.passage, claim.claim) == ("It is in\nRome.", "It is in Rome")
    assert (claim.label, claim.arm, claim.about) == ("supports", "rome", "new_fact")
    (odd,) = load("leme", as_csv({"content": text})).cases
    assert (odd.passage, odd.claim) == ("It says\n'Claim: no'.", "It is so")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"content": "It is in Rome"}, r"a.csv', row 1: content is 'It is in Rome'"),
        ({"content": "Passage: x Claim: y", "classification": "maybe"}, "row 1: .*'maybe'"),
    ],
)
def test_refuses_claims(as_csv, row, message):
    with pytest.raises(BadInput, match=message):
        load("leme", as_csv(row))


def test_the_real_claims(shared):
    path = shared / "data" / "leme" / "annotations_dataset.csv"
    claims = load("leme", path).cases
    assert len(claims) == 194
    assert Counter(c.label for c in claims) == {"supports": 96, "contradicts": 77, "neutral": 21}
    assert {claim.arm for claim in claims} == {"human", "no_edit", "rome"}
    assert not any("Claim:" in claim.passage or "\n" in claim.claim for claim in claims)
    assert len(load("leme", path, limit=5).cases) == 5
