"""Canonical examples: rows of every form, rules by hand, and what is refused."""

from __future__ import annotations

import json
import math

import pytest

from memkit import BadInput
from memkit.benchmarks import load
from memkit.benchmarks.canonical_examples import TASKS, CanonicalTask, Continuation


@pytest.fixture
def checkout(tmp_path):
    """Write a task's files as upstream has them, and give back the checkout."""

    def write(task, part="val", **files):
        folder = tmp_path / "data" / task / "split"
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in files.items():
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{task}_{name}-{part}.jsonl").write_text(lines, encoding="utf-8")
        return tmp_path

    return write


def capital(country, city, prefix=None):
    prefix = prefix or f"The capital of {country} is"
    return {"country": country, "capital": city, "prefix": prefix, "suffix": f" {city}"}


def test_statements_hard_negatives_and_texts(checkout):
    path = checkout(
        "country_capital",
        fixed=[capital("Peru", "Lima"), capital("Chad", "N'Djamena")],
        clear_eval=[
            capital("Peru", "Lima", "Go to Peru:"),
            capital("Chad", "N'Djamena", "In  Chad,"),
        ],
        hard_neg=[{"prefix": "Cusco is in", "suffix": " Peru", "country": "Peru"}],
        unconditional=[{"text": "Peru has Lima."}],
    )
    found = load("canonical_examples", path, "country_capital")
    task = found.cases[0]
    assert (task.rule, task.bound) == ("likely", -math.log(0.2))
    fact = found.facts[1]
    assert (fact.subject, fact.prompt, fact.target) == (
        "Chad",
        "The capital of Chad is",
        "N'Djamena",
    )
    # white space is what upstream scores, so that it is kept
    assert task.evaluation[1] == Continuation("In  Chad,", " N'Djamena")
    assert task.hard == (Continuation("Cusco is in", " Peru"),)
    assert task.rest == ("Peru has Lima.",)
    assert found.passages[0].text == "Peru has Lima."
    # a limit keeps what is asked of its subjects; the task's own folder will do
    few = load("canonical_examples", path / "data" / "country_capital", "country_capital", 1)
    assert [c.suffix for c in few.cases[0].evaluation] == [" Lima"]


def test_pages_are_subjects_where_the_prefix_names_them(checkout):
    rows = [
        {"prefix": "Bj\u00f6rk is", "suffix": " a singer", "entity_url": "x/wiki/Bj%C3%B6rk"},
        {"prefix": "Amazon is", "suffix": " a shop", "entity_url": "x/wiki/Amazon_(company)"},
        {"prefix": "It is", "suffix": " a movement", "entity_url": "x/wiki/Black_Lives"},
    ]
    path = checkout("temporal", "test", train=rows, eval_clear=rows)
    found = load("canonical_examples", path, "temporal-test")
    assert [fact.subject for fact in found.facts] == ["Bj\u00f6rk", "Amazon", "It is"]
    assert found.cases[0].hard == ()


def test_pairs_and_texts_as_hard_negatives(checkout):
    pair = {"prefix": ". The officers", "suffix1": " beat it.", "suffix2": " beats it."}
    path = checkout("verb_conjugation", train=[pair], eval=[pair], hard_neg_eval=[{"text": "x y"}])
    found = load("canonical_examples", path, "verb_conjugation")
    assert found.facts[0].target == "beat it."
    assert found.cases[0].evaluation[0].other == " beats it."
    assert found.cases[0].hard == ("x y",)
    path = checkout("pronoun_gender_bias", train=[pair], eval=[pair])
    assert load("canonical_examples", path, "pronoun_gender_bias").facts == ()


@pytest.mark.parametrize(
    ("rule", "suffix", "other", "loss"),
    [
        ("likely", 0.2, 1.0, -math.log(0.2)),
        ("unlikely", 0.001, 1.0, math.log(0.001)),
        ("preferred", 0.16, 0.01, -math.log(16)),
        ("balanced", 0.1, 0.15, math.log(1.5)),
        ("balanced", 0.15, 0.1, math.log(1.5)),
    ],
)
def test_losses_by_hand_are_the_papers_bounds(rule, suffix, other, loss):
    one = Continuation("x", " y", " z" if rule in ("preferred", "balanced") else None)
    task = CanonicalTask("t", rule, loss, (), (one,))
    assert task.loss(math.log(suffix), math.log(other)) == pytest.approx(loss)
    assert any(files.bound == pytest.approx(loss) for files in TASKS.values() if files.rule == rule)


def test_refuses(checkout, tmp_path):
    with pytest.raises(BadInput, match="split is None"):
        load("canonical_examples", tmp_path)
    with pytest.raises(BadInput, match="has path None"):
        load("canonical_examples", None, "temporal")
    with pytest.raises(BadInput, match="does not exist"):
        load("canonical_examples", tmp_path, "temporal")
    path = checkout(
        "temporal", train=[{"prefix": "x", "suffix": " "}], eval_clear=[capital("a", "b")]
    )
    with pytest.raises(BadInput, match=r"temporal_train-val.jsonl', row 1: suffix is ' '"):
        load("canonical_examples", path, "temporal")
    with pytest.raises(BadInput, match="each with another suffix"):
        CanonicalTask("t", "balanced", 0.0, (), (Continuation("x", " y"),))
    with pytest.raises(BadInput, match="rule is 'odd'"):
        CanonicalTask("t", "odd", 0.0, (), (Continuation("x", " y"),))


@pytest.mark.parametrize(
    ("task", "facts", "asked", "hard"),
    [("country_capital", 93, 90, 116), ("company_ceo", 86, 90, 60), ("temporal", 70, 90, 60)],
)
def test_the_real_files(shared, task, facts, asked, hard):
    found = load("canonical_examples", shared / "data" / "canonical_examples", task)
    own = found.cases[0]
    assert (len(found.facts), len(own.evaluation), len(own.hard)) == (facts, asked, hard)
    assert all(fact.subject in fact.prompt for fact in found.facts)
    if task != "temporal":  # its dates are cut within a word
        assert all(one.suffix.startswith(" ") for one in own.evaluation)
