from __future__ import annotations

import json

import pytest

from memkit import BadInput, Fact, Question
from memkit.benchmarks import knowedit, load


def probe(prompt, answer) -> dict:
    return {"prompt": prompt, "ground_truth": answer}


def cloze(**fields) -> dict:
    return {
        "subject": "Erewhon",
        "prompt": "The author of Erewhon is",
        "target_new": "Jane Austen",
        "ground_truth": "Samuel Butler",
        **fields,
    }


@pytest.mark.parametrize("answer", ["Emma", ["Emma"], [["Emma", "Emma: A Novel"], ["Persuasion"]]])
def test_takes_all_three_kinds_of_ground_truth(as_file, answer):
    row = cloze(
        ground_truth=answer,
        portability={"Reasoning": [probe("Another book by its author is", answer)]},
        locality={"Relation_Specificity": [probe("Its year is", answer)]},
    )
    (fact,) = load("knowedit", as_file([row])).facts
    assert fact.previous == "Emma"
    assert fact.portability == (("Another book by its author is", "Emma"),)
    assert fact.locality == (("Its year is", "Emma"),)


def test_probes_of_all_kinds_in_turn(as_file):
    row = cloze(
        rephrase="Erewhon is by",
        portability={
            "Logical_Generalization": [probe("Is it by a novelist?", [["yes"], ["true"]])],
            "Subject_Aliasing": [probe("The author of Over the Range is", "Jane Austen")],
            "Reasoning": None,  # so the Hub gives a kind that the row lacks
        },
        locality={
            "Relation_Specificity": [probe("Its year is", [["1872"]]), probe("Its mood is", [])],
            "Forgetfulness": [probe("Its author, who is not Jane Austen, is", ["Samuel Butler"])],
        },
    )
    bench = load("knowedit", as_file([row]))
    assert (bench.name, bench.questions) == ("knowedit", ())
    assert bench.facts == (
        Fact(
            subject="Erewhon",
            prompt="The author of Erewhon is",
            target="Jane Austen",
            previous="Samuel Butler",
            paraphrases=("Erewhon is by",),
            locality=(
                ("Its year is", "1872"),  # the probe without an answer is left out
                ("Its author, who is not Jane Austen, is", "Samuel Butler"),
            ),
            portability=(
                ("Is it by a novelist?", "yes"),
                ("The author of Over the Range is", "Jane Austen"),
            ),
            id="1",
        ),
    )


def test_recent_facts_replace_none(as_file):
    row = cloze()
    del row["ground_truth"]
    (fact,) = load("knowedit", as_file([row])).facts
    assert (fact.previous, fact.paraphrases, fact.locality, fact.portability) == (None, (), (), ())


def test_questions_of_zsre(as_file):
    row = cloze(prompt="Who wrote Erewhon?", rephrase_prompt="By whom is Erewhon?")
    bench = load("knowedit", as_file([row, cloze()]))
    assert [fact.paraphrases for fact in bench.facts] == [("By whom is Erewhon?",), ()]
    assert bench.questions == (
        Question("Who wrote Erewhon?", answers=("Jane Austen",), subject="Erewhon", id="1"),
    )


def test_sentences_of_wikibio(as_file):
    row = {
        "text": "This is a passage about samuel butler. Samuel Butler was a novelist.",
        "labels": "He wrote Erewhon in 1872.",
        "concept": "samuel butler",
        "locality": {"Relation_Specificity": [probe("The given name of samuel butler is", ["S."])]},
    }
    bench = load("knowedit", as_file([row]))
    assert bench.facts == (
        Fact(
            subject="samuel butler",
            prompt=row["text"],
            target="He wrote Erewhon in 1872.",
            locality=(("The given name of samuel butler is", "S."),),
            id="1",
        ),
    )
    assert bench.questions == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target_new": " "}, "row 2: target_new is ' '; allowed: text that is not empty"),
        ({"target_new": 3}, "row 2: target_new holds '3'; allowed: text"),
        ({"locality": ["x"]}, r"row 2: locality holds \"\['x'\]\"; allowed: an object"),
        ({"locality": {"R": "x"}}, "row 2, locality: R is 'x'; allowed: a list"),
        ({"portability": {"R": ["x"]}}, "row 2, portability: R holds 'x'; allowed: an object"),
        (
            {"portability": {"R": [probe("x", 3)]}},
            "row 2, portability, R: ground_truth holds '3'; allowed: text",
        ),
    ],
)
def test_names_file_and_row_of_what_is_wrong(as_file, fields, message):
    with pytest.raises(BadInput, match=f"rows.json', {message}"):
        load("knowedit", as_file([cloze(), cloze(**fields)]))


def test_a_part_of_the_hub_has_to_be_named(monkeypatch):
    import datasets

    asked = []

    def load_dataset(source, split, data_files):
        asked.append((source, split, data_files))
        return datasets.Dataset.from_list([cloze()])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(BadInput, match="split is None for knowedit on the Hub; allowed: 'wiki_rec"):
        load("knowedit")
    with pytest.raises(BadInput, match="split is 'zsre' for knowedit"):
        load("knowedit", "someone/KnowEdit", split="zsre")
    assert asked == []
    assert len(load("knowedit", split="ZsRE").facts) == 1
    assert len(load("knowedit", "someone/KnowEdit", split="wiki_recent-train").facts) == 1
    assert asked == [
        ("zjunlp/KnowEdit", "train", "benchmark/ZsRE/ZsRE-test-all.json"),
        ("someone/KnowEdit", "train", "benchmark/wiki_recent/recent_train.json"),
    ]


@pytest.mark.parametrize(
    ("file", "facts", "questions"),
    [
        ("wiki_counterfact/train_cf.json", 500, 0),
        ("ZsRE/ZsRE-test-all.json", 100, 100),
        ("WikiBio/benchmark_WikiBio_wikibio-test-all_seq.json", 14, 0),
    ],
)
def test_reads_the_real_files(shared, file, facts, questions):
    path = shared / "data" / "knowedit" / file
    bench = load("knowedit", path)
    assert (len(bench.facts), len(bench.questions)) == (facts, questions)
    for fact, row in zip(bench.facts, json.loads(path.read_text(encoding="utf-8")), strict=True):
        for name in ("locality", "portability"):
            prompts = [item["prompt"] for kind in row.get(name, {}).values() for item in kind]
            assert [prompt for prompt, _ in getattr(fact, name)] == prompts


@pytest.mark.parametrize("file", ["wiki_counterfact/train_cf.json", "ZsRE/ZsRE-test-all.json"])
def test_datasets_gives_the_same_as_the_file(shared, tmp_path, monkeypatch, file):
    import datasets

    read = datasets.load_dataset
    path = shared / "data" / "knowedit" / file

    def load_dataset(source, split, data_files):
        return read("json", data_files=str(path), split=split, cache_dir=str(tmp_path))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load("knowedit", split=next(iter(knowedit.PARTS))) == load("knowedit", path)
