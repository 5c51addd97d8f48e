from __future__ import annotations

import pytest

from memkit import BadInput, Fact
from memkit.benchmarks import load


def nested(**rewrite) -> dict:
    return {
        "case_id": 11,
        "pararel_idx": 2796,
        "requested_rewrite": {
            "prompt": "{} was written by",
            "relation_id": "P50",
            "target_new": {"str": "Jane Austen", "id": "Q1"},
            "target_true": {"str": "Samuel Butler", "id": "Q2"},
            "subject": "Erewhon",
            **rewrite,
        },
        "paraphrase_prompts": ["It rained. Erewhon is by", "The author of Erewhon is"],
        "neighborhood_prompts": ["The Way of All Flesh is by", "Life and Habit was written by"],
        "attribute_prompts": ["Emma was written by"],
        "generation_prompts": ["Erewhon is best read"],
    }


def flat(**fields) -> dict:
    return {
        "case_id": 12,
        "prompt": "Erewhon was written by",
        "target_new": "Jane Austen",
        "subject": "Erewhon",
        "ground_truth": "Samuel Butler",
        "rephrase_prompt": "The author of Erewhon is",
        "locality_prompt": "The Way of All Flesh is by",
        "locality_ground_truth": "Samuel Butler",
        **fields,
    }


def test_reads_both_forms(as_file):
    bench = load("counterfact", as_file([nested(), flat()]))
    assert (bench.name, bench.questions, bench.passages) == ("counterfact", (), ())
    assert bench.facts == (
        Fact(
            subject="Erewhon",
            prompt="{} was written by",
            target="Jane Austen",
            relation="P50",
            previous="Samuel Butler",
            paraphrases=("It rained. Erewhon is by", "The author of Erewhon is"),
            locality=(
                ("The Way of All Flesh is by", "Samuel Butler"),
                ("Life and Habit was written by", "Samuel Butler"),
            ),
            id="11",
        ),
        Fact(
            subject="Erewhon",
            prompt="Erewhon was written by",
            target="Jane Austen",
            previous="Samuel Butler",
            paraphrases=("The author of Erewhon is",),
            locality=(("The Way of All Flesh is by", "Samuel Butler"),),
            id="12",
        ),
    )
    assert bench.facts[0].text == bench.facts[1].text


def test_limit_takes_the_first_rows(as_file):
    path = as_file([flat(case_id=n) for n in range(5)])
    assert [fact.id for fact in load("counterfact", path, limit=2).facts] == ["0", "1"]
    assert len(load("counterfact", path, limit=9).facts) == 5


def test_strips_targets_and_refuses_empty_ones(as_file):
    assert load("counterfact", as_file([flat(target_new=" Emma ")])).facts[0].target == "Emma"
    with pytest.raises(BadInput, match=r"rows.json', row 2: target_new is ' '; allowed: text"):
        load("counterfact", as_file([flat(), flat(target_new=" ")]))
    message = "row 2, requested_rewrite, target_new: str is ''; allowed: text"
    with pytest.raises(BadInput, match=message):
        load("counterfact", as_file([nested(), nested(target_new={"str": ""})]))


def test_refuses_another_benchmark(as_file):
    with pytest.raises(BadInput, match=r"row 1 has no 'subject'; its fields are 'question'\."):
        load("counterfact", as_file([{"question": "Who wrote Erewhon?"}]))


def test_asks_the_hub_for_all_splits(monkeypatch):
    import datasets

    asked = []

    def load_dataset(source, split):
        asked.append((source, split))
        return datasets.DatasetDict({"train": datasets.Dataset.from_list([nested()])})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load("counterfact").facts[0].id == "11"
    assert asked == [("azhx/counterfact", None)]


def test_reads_the_real_file(shared):
    facts = load("counterfact", shared / "data" / "counterfact" / "counterfact-train.json").facts
    assert len(facts) == len({fact.id for fact in facts}) == 1500
    for fact in facts:
        assert fact.target != fact.previous
        assert fact.subject in fact.prompt
        assert fact.locality[0][1] == fact.previous  # a neighbour shares the true object
        assert len(fact.paraphrases) == len(fact.locality) == 1
