from __future__ import annotations

import json

import pytest

from memkit import BadInput, Fact, Passage, Question
from memkit.benchmarks import BENCHMARKS, load, miniworld

FILES = {
    "questions.jsonl": [
        {
            "text": "Where was Ann born?",
            "answers": ["Lim"],
            "subject": "Ann",
            "relation": "birthplace",
            "popularity": 70,
            "gold": ["person-1"],
            "id": "person-1/birthplace",
        },
        {"text": "What is Ann?", "answers": ["baker"], "popularity": 70, "id": "person-1/job"},
        {"text": "Where was Bo born?", "answers": ["Lim"], "popularity": 0, "id": "new-person-0/b"},
    ],
    "facts.jsonl": [
        {
            "subject": "Ann",
            "prompt": "{} was born in",
            "target": "Lim",
            "paraphrases": ["{} comes from"],
            "locality": [["Bo was born in", "Lim"]],
            "id": "person-1/birthplace",
        },
        {"subject": "Ann", "prompt": "{} is a", "target": "baker", "id": "person-1/job"},
        {"subject": "Bo", "prompt": "{} was born in", "target": "Lim", "id": "new-person-0/b"},
    ],
    "passages.jsonl": [{"id": "person-1", "text": "Ann was born in Lim.", "title": "Ann"}],
    "definitions.jsonl": [{"subject": "Ann", "definition": "Ann was born in Lim."}],
}


@pytest.fixture
def folder(tmp_path):
    for name, rows in FILES.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_reads_a_folder(folder):
    bench = load("miniworld", folder)
    assert bench.questions[0] == Question(
        "Where was Ann born?", ("Lim",), "Ann", "birthplace", 70, ("person-1",),
        "person-1/birthplace",
    )  # fmt: skip
    assert bench.facts[0] == Fact(
        "Ann",
        "{} was born in",
        "Lim",
        paraphrases=("{} comes from",),
        locality=(("Bo was born in", "Lim"),),
        id="person-1/birthplace",
    )
    assert bench.passages == (Passage("person-1", "Ann was born in Lim.", "Ann"),)
    assert bench.definitions == {"Ann": "Ann was born in Lim."}


@pytest.mark.parametrize(
    ("split", "limit", "ids"),
    [
        (None, None, ["person-1/birthplace", "person-1/job"]),
        ("known", None, ["person-1/birthplace", "person-1/job"]),
        ("known", 1, ["person-1/birthplace"]),
        ("new", None, ["new-person-0/b"]),
        ("all", None, ["person-1/birthplace", "person-1/job", "new-person-0/b"]),
        ("all", 9, ["person-1/birthplace", "person-1/job", "new-person-0/b"]),
    ],
)
def test_splits_and_limit(folder, split, limit, ids):
    bench = load("miniworld", folder, split=split, limit=limit)
    assert [q.id for q in bench.questions] == [f.id for f in bench.facts] == ids
    assert len(bench.passages) == len(bench.definitions) == 1


def test_written_worlds_come_back(tmp_path):
    from memkit.world.folder import write
    from memkit.world.generate import Sizes, generate

    world = generate(3, Sizes(people=12, cities=6, companies=5, countries=4, new=6))
    write(world, tmp_path)
    back = load("miniworld", tmp_path, split="all")
    assert (back.questions, back.facts, back.passages) == (
        world.questions, world.facts, world.passages,
    )  # fmt: skip
    assert back.definitions == world.definitions
    new = load("miniworld", tmp_path, split="new").questions
    assert new
    assert all(q.popularity == 0 for q in new)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("questions.jsonl", '{"text": ""}', "questions.jsonl', row 1, is no Question .Question.te"),
        ("facts.jsonl", '\n{"subj": "x"}', "facts.jsonl', row 2, is no Fact .*'subj'"),
        ("passages.jsonl", '{"id": "x"}', "passages.jsonl', row 1, is no Passage .*text"),
        ("passages.jsonl", "{", "passages.jsonl', row 1, is no JSON"),
        ("passages.jsonl", "[]", r"row 1, is '\[\]'; allowed: a JSON object"),
        ("definitions.jsonl", '{"subject": "x"}', "row 1, is .*allowed: a row with subject and"),
    ],
)
def test_names_file_and_row_of_what_is_wrong(folder, file, text, message):
    (folder / file).write_text(text)
    with pytest.raises(BadInput, match=message):
        load("miniworld", folder)


def test_refuses_what_is_no_world(folder):
    with pytest.raises(BadInput, match="split is 'train'; allowed: 'known', 'new', 'all'"):
        load("miniworld", folder, split="train")
    with pytest.raises(BadInput, match="is not a folder; allowed: a world"):
        load("miniworld", folder / "facts.jsonl")
    (folder / "facts.jsonl").unlink()
    with pytest.raises(BadInput, match=r"facts.jsonl' cannot be read"):
        load("miniworld", folder)


def test_registry_names_what_there_is():
    assert list(BENCHMARKS) == sorted(BENCHMARKS)
    with pytest.raises(BadInput, match=r"'triviaqa'; allowed: .*'miniworld', .*'popqa'"):
        load("triviaqa")
    with pytest.raises(BadInput, match="limit is 0; allowed: at least 1"):
        load("miniworld", limit=0)


def test_shipped_world_is_found_in_a_package_and_in_a_checkout(tmp_path, monkeypatch):
    import memkit

    monkeypatch.setattr(memkit, "__file__", str(tmp_path / "memkit" / "__init__.py"))
    with pytest.raises(BadInput, match="the miniature world is neither in"):
        miniworld.shipped()
    for place in (tmp_path / "data" / "miniworld", tmp_path / "memkit" / "_data" / "miniworld"):
        place.mkdir(parents=True)
        (place / "questions.jsonl").touch()
        assert miniworld.shipped() == place
