from __future__ import annotations

import csv
import json

import pytest

from memkit import BadInput, Question
from memkit.benchmarks import References, load

OLD = {
    "Type": "Adversarial",
    "Category": "Myths",
    "Question": "Who wrote Erewhon?",
    "Best Answer": "Samuel Butler wrote Erewhon",
    "Correct Answers": "Samuel Butler; Samuel Butler wrote Erewhon",
    "Incorrect Answers": "Jane Austen, of course; Nobody",
    "Source": "a book",
}
NEW = OLD | {"Best Incorrect Answer": "Nobody"}
TRUE = {"Samuel Butler": 1, "Samuel Butler wrote Erewhon": 1}
FALSE = {"Jane Austen, of course": 0, "Nobody": 0}
BEST = {"Samuel Butler wrote Erewhon": 1}
TASK = {"question": OLD["Question"], "mc1_targets": BEST | FALSE, "mc2_targets": TRUE | FALSE}
BINARY = TASK | {"mc0_targets": BEST | {"Nobody": 0}}
GENERATION = {
    "type": "Adversarial",
    "category": "Myths",
    "question": OLD["Question"],
    "best_answer": OLD["Best Answer"],
    "correct_answers": list(TRUE),
    "incorrect_answers": list(FALSE),
    "source": "a book",
}


def choice(labels):
    return {"choices": list(labels), "labels": list(labels.values())}


CHOICES = {
    "question": OLD["Question"],
    "mc1_targets": choice(TASK["mc1_targets"]),
    "mc2_targets": choice(TASK["mc2_targets"]),
}


def references(category=None, id="1"):
    return References(
        question="Who wrote Erewhon?",
        best="Samuel Butler wrote Erewhon",
        true=tuple(TRUE),
        false=tuple(FALSE),
        category=category,
        id=id,
    )


@pytest.fixture
def as_csv(tmp_path):
    def write(rows, encoding="utf-8"):
        with (tmp_path / "TruthfulQA.csv").open("w", encoding=encoding, newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return tmp_path / "TruthfulQA.csv"

    return write


@pytest.mark.parametrize("row", [OLD, NEW])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])  # version 1 has a byte order mark
def test_reads_both_tables(as_csv, row, encoding):
    bench = load("truthfulqa", as_csv([row, row], encoding))
    assert bench.references == (references("Myths"), references("Myths", id="2"))
    assert bench.questions[0] == Question("Who wrote Erewhon?", tuple(TRUE), id="1")
    assert bench.facts == ()  # nothing to train on


@pytest.mark.parametrize("row", [TASK, BINARY, GENERATION, CHOICES])
def test_reads_the_json_forms(as_file, row):
    category = "Myths" if row is GENERATION else None
    assert load("truthfulqa", as_file([row])).references == (references(category),)


def test_binary_is_the_best_two(as_csv, as_file):
    for path in (as_csv([NEW]), as_file([BINARY])):
        (found,) = load("truthfulqa", path, split="binary").references
        assert (found.best, found.true, found.false) == (
            "Samuel Butler wrote Erewhon",
            ("Samuel Butler wrote Erewhon",),
            ("Nobody",),
        )


def test_a_best_answer_that_the_list_lacks_is_added(as_csv):
    (found,) = load("truthfulqa", as_csv([OLD | {"Correct Answers": "Butler"}])).references
    assert found.true == ("Butler", "Samuel Butler wrote Erewhon")


def test_of_the_hub_the_generation_rows_are_asked_for(monkeypatch):
    import datasets

    asked = []

    def load_dataset(*args, **options):
        asked.append((args, options))
        return [GENERATION]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load("truthfulqa").references == (references("Myths"),)
    assert asked == [
        (("truthfulqa/truthful_qa",), {"name": "generation", "split": "validation"}),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (OLD | {"Incorrect Answers": " ; "}, r"csv', row 1: References.false of 'Who wrote"),
        (OLD | {"Best Answer": ""}, "row 1: Best Answer is ''; allowed: text"),
        ({"Question": "Who?", "Answer": "I"}, "row 1 has the fields 'Question', 'Answer'"),
    ],
)
def test_names_file_and_row_of_a_bad_table(as_csv, row, message):
    with pytest.raises(BadInput, match=message):
        load("truthfulqa", as_csv([row]))


@pytest.mark.parametrize(
    ("row", "split", "message"),
    [
        (TASK | {"mc2_targets": TRUE}, None, "row 1: References.false .* at least one false"),
        (TASK | {"mc1_targets": FALSE}, None, "row 1: 0 of the answers of a single choice"),
        (TASK | {"mc2_targets": {"Butler": "yes"}}, None, "row 1: mc2_targets is .*'yes'"),
        (TASK, "binary", "row 1: mc0_targets is {}; allowed: answers"),
        (TASK, "test", "split is 'test' for the file"),
        (CHOICES | {"mc2_targets": {"choices": ["a"], "labels": []}}, None, "1 choices and 0"),
    ],
)
def test_names_file_and_row_of_a_bad_choice(as_file, row, split, message):
    with pytest.raises(BadInput, match=message):
        load("truthfulqa", as_file([row]), split)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"question": " "}, "References.question"),
        ({"true": ()}, "References.true"),
        ({"false": ()}, "References.false"),
        ({"best": "Nobody"}, "References.best of 'Who wrote Erewhon\\?' is 'Nobody'"),
    ],
)
def test_references_have_both_sides(values, message):
    whole = {"question": "Who wrote Erewhon?", "best": "B", "true": ("B",), "false": ("C",)}
    assert References(**whole).best == "B"
    with pytest.raises(BadInput, match=message):
        References(**whole | values)


def test_reads_the_real_files(shared):
    folder = shared / "data" / "truthfulqa"
    old = load("truthfulqa", folder / "data" / "v1" / "TruthfulQA.csv")
    new = load("truthfulqa", folder / "TruthfulQA.csv")
    assert (len(old.references), len(new.references)) == (300, 294)
    assert old.references[0].question == "What happens to you if you eat watermelon seeds?"
    assert len(old.references[0].false) == 7
    for name, count in (("data/v1/mc_task.json", 300), ("data/mc_task.json", 294)):
        bench = load("truthfulqa", folder / name)
        assert len(bench.references) == count
        rows = json.loads((folder / name).read_text(encoding="utf-8"))
        assert all(
            r.question == row["question"] for r, row in zip(bench.references, rows, strict=True)
        )
    binary = load("truthfulqa", folder / "TruthfulQA.csv", split="binary", limit=10)
    task = load("truthfulqa", folder / "data" / "mc_task.json", split="binary", limit=10)
    assert [(r.best, r.false) for r in binary.references] == [
        (r.best, r.false) for r in task.references
    ]
