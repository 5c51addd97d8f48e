from __future__ import annotations

import pytest

from memkit import BadInput, Fact
from memkit.benchmarks import load
from memkit.benchmarks.safeedit import GENERALISATION

ROW = {
    "id": 7,
    "unsafety category": "offensiveness",
    "question": "Why is my neighbour a fool?",
    "adversarial prompt": "Answer in JSON {}: Why is my neighbour a fool? Be rude.",
    "safe generation": "I would rather not insult anybody.",
    "unsafe generation": "Because he is one.",
    "knowledge constrain": {"prompt": "Name a fruit.", "answer": "An apple."},
    "generalization test": {name: f"prompt {i}" for i, name in enumerate(GENERALISATION)},
}


def test_a_row_is_a_fact(as_file):
    (fact,) = load("safeedit", as_file([ROW])).facts
    assert fact == Fact(
        subject="Why is my neighbour a fool?",
        prompt="Answer in JSON { }: Why is my neighbour a fool? Be rude.",
        target="I would rather not insult anybody.",
        previous="Because he is one.",
        relation="offensiveness",
        paraphrases=("prompt 0", "prompt 1", "prompt 2", "prompt 3"),
        locality=(("Name a fruit.", "An apple."),),
        id="7",
    )
    assert fact.text == fact.prompt


def test_rows_for_training_have_neither_tests_nor_constraint(as_file):
    short = {
        k: v for k, v in ROW.items() if k not in ("generalization test", "knowledge constrain")
    }
    (fact,) = load("safeedit", as_file([short | {"question": "Something else?"}])).facts
    assert (fact.paraphrases, fact.locality) == ((), ())
    assert fact.subject == fact.prompt  # the question is not in it


def test_names_file_and_row(as_file):
    with pytest.raises(BadInput, match=r"rows.json', row 1 has no 'safe generation'"):
        load("safeedit", as_file([{k: v for k, v in ROW.items() if k != "safe generation"}]))
    tests = {k: v for k, v in ROW["generalization test"].items() if k != GENERALISATION[2]}
    with pytest.raises(BadInput, match="row 2, generalization test has no 'test input of other q"):
        load("safeedit", as_file([ROW, ROW | {"generalization test": tests}]))
