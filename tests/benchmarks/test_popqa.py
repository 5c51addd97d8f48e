from __future__ import annotations

import csv
import json

import pytest

from memkit import BadInput
from memkit.benchmarks import load, popqa
from memkit.metrics import contains

COLUMNS = (
    "id subj prop obj subj_id prop_id obj_id s_aliases o_aliases s_uri o_uri s_wiki_title "
    "o_wiki_title s_pop o_pop question possible_answers"
).split()


def row(number: int, **fields) -> dict:
    subject = fields.pop("subj", "Erewhon")
    return {
        **dict.fromkeys(COLUMNS, ""),
        "id": number,
        "subj": subject,
        "prop": "author",
        "obj": "Samuel Butler",
        "s_pop": 1234,
        "question": f"Who is the author of {subject}?",
        "possible_answers": '["Samuel Butler", "S. Butler"]',
        **fields,
    }


@pytest.fixture
def tsv(tmp_path):
    def write(rows, name="popQA.tsv"):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, delimiter="\t")
            writer.writeheader()
            writer.writerows(rows)
        return tmp_path / name

    return write


@pytest.fixture
def as_json(tmp_path):
    def write(data, name="popqa.json", lines=False):
        text = "\n".join(map(json.dumps, data)) if lines else json.dumps(data)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def test_reads_upstreams_table(tsv):
    odd = row(8, subj='The "Who"\u2028\nLive', s_pop="", prop="anthem")
    bench = load("popqa", tsv([row(7), odd]))
    assert (bench.name, bench.passages, bench.definitions) == ("popqa", (), {})
    first, second = bench.questions
    assert first.text == "Who is the author of Erewhon?"
    assert first.answers == ("Samuel Butler", "S. Butler")
    assert (first.subject, first.relation, first.popularity) == ("Erewhon", "author", 1234)
    assert (first.gold, first.id) == ((), "7")
    assert second.subject == 'The "Who"\u2028\nLive'
    assert second.popularity is None
    facts = bench.facts
    assert facts[0].text == "The author of Erewhon is"
    assert (facts[0].target, facts[0].relation, facts[0].id) == ("Samuel Butler", "author", "7")
    assert facts[1].prompt == "The anthem of {} is"  # a relation that PopQA does not have


def test_the_same_rows_as_json_and_json_lines(tsv, as_json):
    rows = [row(1), row(2, subj="Emma", s_pop=9)]
    expected = load("popqa", tsv(rows))
    assert load("popqa", as_json(rows)) == expected
    assert load("popqa", as_json(rows, "popqa.jsonl", lines=True)) == expected
    one = as_json(rows[:1], "one.jsonl", lines=True)
    assert load("popqa", one).questions == expected.questions[:1]


def test_passages_are_shared_and_gold_ones_hold_an_answer(as_json):
    butler = {"title": "Samuel Butler", "text": "A novelist.", "is_supporting": True}
    novel = {"title": "Erewhon", "text": "A novel by Samuel Butlers.", "is_supporting": True}
    other = {"title": "", "text": "By S. Butler, again."}
    bench = load("popqa", as_json([
        row(1, paragraphs=[novel, butler]),
        row(2, subj="Hudibras", paragraphs=[butler, other, butler]),
        row(3, paragraphs=[novel]),
    ]))  # fmt: skip
    assert [(p.title, p.text) for p in bench.passages] == [
        ("Erewhon", "A novel by Samuel Butlers."),
        ("Samuel Butler", "A novelist."),
        (None, "By S. Butler, again."),
    ]
    novel_id, butler_id, other_id = (p.id for p in bench.passages)
    assert len({novel_id, butler_id, other_id}) == 3
    assert [q.gold for q in bench.questions] == [(butler_id,), (butler_id, other_id), ()]
    limited = load("popqa", as_json([row(2, paragraphs=[other])]))
    assert limited.passages[0].id == other_id  # an id depends on the passage alone


def test_recovers_subject_and_relation_from_every_template():
    for relation, (template, prompt) in popqa.RELATIONS.items():
        for subject in ("Erewhon", "What is the capital?", "the author of it"):
            question = template.replace("{}", subject)
            assert popqa._recover(question, None) == (subject, relation)
        assert "{}" in prompt
    assert popqa._recover("Who was the screenwriter for ?", None) == (None, None)
    assert popqa._recover("Who wrote Erewhon?", "author") == (None, "author")
    assert len(popqa.RELATIONS) == 16


def test_rows_without_subject(as_json):
    entry = {"output": '["Samuel Butler"]', "s_pop": 5, "o_pop": 6}
    data = {
        "name": "popqa",
        "dev": [{**entry, "id": 1, "input": "Who is the author of Erewhon?"}],
        "test": [
            {**entry, "id": 2, "input": "Who wrote it?"},
            {**entry, "id": 2, "input": "Who is the author of Erewhon?"},
        ],
    }
    path = as_json(data)
    both = load("popqa", path)
    assert [q.id for q in both.questions] == ["1", "2", "2#2"]
    assert [q.subject for q in both.questions] == ["Erewhon", None, "Erewhon"]
    assert [(f.id, f.relation) for f in both.facts] == [("1", "author"), ("2#2", "author")]
    assert load("popqa", path, split="dev").questions == both.questions[:1]
    assert load("popqa", path, split="test").questions == both.questions[1:]
    with pytest.raises(BadInput, match="has no split 'train'; allowed: 'dev', 'test', or None"):
        load("popqa", path, split="train")


def test_questions_by_id(as_json):
    entry = {
        "question": "Who is the author of Erewhon?",
        "possible_answers": ["Samuel Butler"],
        "gold_passage": "",
        "contriever_passage": "Erewhon is by Samuel Butler.",
        "s_pop": 12.0,
    }
    bench = load("popqa", as_json({"77": entry, "78": {**entry, "contriever_passage": ""}}))
    assert [q.id for q in bench.questions] == ["77", "78"]
    assert bench.questions[0].gold == (bench.passages[0].id,)
    assert [p.title for p in bench.passages] == [None]
    assert bench.questions[1].gold == ()


def test_golden_answers_with_metadata(as_json):
    entry = {
        "id": "test_3",
        "question": "Who is the author of Erewhon?",
        "golden_answers": ["Samuel Butler"],
        "metadata": {"subj": "Erewhon", "prop": "author", "obj": "S. Butler", "s_pop": 3},
    }
    bench = load("popqa", as_json([entry], "test.jsonl", lines=True))
    assert bench.questions[0].id == "test_3"
    assert bench.questions[0].popularity == 3
    assert bench.facts[0].target == "S. Butler"


def test_the_object_is_the_first_answer(tsv):
    """It stands behind the names of another object in 6 of 100 rows."""
    several = '["essayist", "writer", "novelist", "author"]'
    bench = load("popqa", tsv([row(1, obj="novelist", possible_answers=several)]))
    assert bench.questions[0].answers == ("novelist", "essayist", "writer", "author")


def test_limit_takes_the_first(tsv):
    path = tsv([row(n, subj=f"Book {n}") for n in range(1, 6)])
    bench = load("popqa", path, limit=2)
    assert [q.id for q in bench.questions] == [f.id for f in bench.facts] == ["1", "2"]
    assert bench == load("popqa", path, limit=2)
    assert len(load("popqa", path, limit=99).questions) == 5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"s_pop": "many"}, r"row 2: s_pop is 'many'; allowed: a count"),
        ({"s_pop": "-3"}, r"row 2: Question.popularity is -3.0"),
        ({"s_pop": "nan"}, r"row 2: Question.popularity is nan"),
        ({"question": " "}, r"row 2: Question.text is ' '"),
        ({"possible_answers": "Butler"}, r"row 2: the answers are 'Butler'; allowed: a list"),
        ({"possible_answers": "[3]"}, r"row 2: the answers are '\[3\]'"),
    ],
)
def test_names_file_and_row_of_what_is_wrong(tsv, fields, message):
    with pytest.raises(BadInput, match=f"popQA.tsv', {message}"):
        load("popqa", tsv([row(1), row(2, **fields)]))


def test_names_a_row_that_is_cut_off(tsv):
    path = tsv([row(1), row(2)])
    text = path.read_text()
    path.write_text(text[: text.rindex("\t")])
    with pytest.raises(BadInput, match="row 2 has 16 columns; allowed: 17"):
        load("popqa", path)
    path.write_text(text.rstrip("\r\n") + "\tmore\n")
    with pytest.raises(BadInput, match="row 2 has 18 columns; allowed: 17"):
        load("popqa", path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("[]", "has no rows"),
        ("{}", "has no rows"),
        ("a,b\n1,2\n", "row 1 is no JSON.*'a,b'.*Allowed: upstream's TSV"),
        ('[{"text": 1}]', "row 1 is an object with 'text'; allowed: upstream's TSV"),
        ('{"name": "x"}', "is an object with 'name'; allowed: upstream's TSV"),
        ("3", "is int '3'; allowed"),
        ("[3]", "row 1 is int '3'; allowed"),
        ('[{"question": 3, "possible_answers": []}]', "row 1 is an object with 'question'"),
        (
            '[{"question": "Who?", "possible_answers": [], "paragraphs": ["text"]}]',
            "row 1: a paragraph is 'text'; allowed: an object with title and text",
        ),
    ],
)
def test_refuses_what_is_not_popqa(tmp_path, text, message):
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        load("popqa", path)


def test_refuses_what_is_no_file(tmp_path):
    with pytest.raises(BadInput, match=r"is a folder; allowed: a file with PopQA.*Name the file"):
        load("popqa", tmp_path)
    with pytest.raises(BadInput, match="does not exist"):
        load("popqa", "data/popqa.tsv")
    (tmp_path / "latin.tsv").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="cannot be read"):
        load("popqa", tmp_path / "latin.tsv")


def test_reads_the_hub_through_datasets(monkeypatch):
    import datasets

    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        return datasets.Dataset.from_list([row(1), row(2, subj="Emma")])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert [q.subject for q in load("popqa").questions] == ["Erewhon", "Emma"]
    assert len(load("popqa", "someone/PopQA", split="train", limit=1).questions) == 1
    assert asked == [("akariasai/PopQA", "test"), ("someone/PopQA", "train")]


@pytest.mark.parametrize("error", [ConnectionError, ValueError, FileNotFoundError])
def test_says_what_to_do_without_the_hub(monkeypatch, error):
    import datasets

    def load_dataset(name, split):
        raise error("no network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(BadInput, match=r"akariasai/PopQA.*no network.*load\('popqa', path="):
        load("popqa")


@pytest.mark.parametrize(
    ("file", "rows", "passages"),
    [
        ("neuropath/popqa.json", 300, 473),
        ("reason_over_search/test.jsonl", 600, 0),
        ("model_collaboration/popqa.json", 450, 0),
        ("adapt_llm/popqa_test_test.json", 1500, 1448),
    ],
)
def test_reads_the_real_files(shared, file, rows, passages):
    bench = load("popqa", shared / "data" / "popqa" / file)
    assert (len(bench.questions), len(bench.passages)) == (rows, passages)
    assert len({q.id for q in bench.questions}) == rows
    assert all(q.answers and q.popularity is not None for q in bench.questions)
    missing = [q.text for q in bench.questions if q.subject is None]
    assert missing == (["Who was the screenwriter for ?"] if "adapt" in file else [])
    assert {q.relation for q in bench.questions} - {None} <= popqa.RELATIONS.keys()
    assert [f.id for f in bench.facts] == [q.id for q in bench.questions if q.subject]
    texts = {p.id: p.contents for p in bench.passages}
    for question in bench.questions:
        assert all(contains(texts[gold], question.answers) for gold in question.gold)


def test_recovered_names_are_the_given_ones(shared):
    bench = load("popqa", shared / "data" / "popqa" / "reason_over_search" / "test.jsonl")
    for question in bench.questions:
        assert popqa._recover(question.text, None) == (question.subject, question.relation)
