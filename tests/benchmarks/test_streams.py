"""The streams of the GRACE paper, from files in the upstream forms, and of a world."""

from __future__ import annotations

import json
from collections import Counter

import datasets
import numpy as np
import pytest

from memkit import BadInput, Question
from memkit.benchmarks import opinions, streams
from memkit.benchmarks.streams.hallucination import sentences
from memkit.benchmarks.streams.sources import shuffled


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def nq(tmp_path):
    path = tmp_path / "nq_train.json"
    questions = [f"who wrote book {i}" for i in range(5)]
    path.write_text(json.dumps({"questions": questions, "answers": [[f"a{i}"] for i in range(5)]}))
    return path


def mends(number, rephrases):
    return {
        "input": f"Who wrote book {number}?",
        "output": [{"answer": f"Butler {number}"}, {"answer": "another"}],
        "prediction": "x",
        "alternatives": ["y"],
        "filtered_rephrases": [f"Book {number}, form {i}?" for i in range(rephrases)],
    }


def test_zsre_takes_ten_rephrases_or_none(tmp_path, nq):
    path = lines(tmp_path / "zsre.jsonl", [mends(0, 12), mends(1, 9), mends(2, 10)])
    stream = streams.load("zsre", path, nq)
    texts = [f.text for f in stream.edits] + [q.text for q in stream.holdout]
    expected = ["Who wrote book 0?", *(f"Book 0, form {i}?" for i in range(10))]
    expected += ["Who wrote book 1?"]
    expected += ["Who wrote book 2?", *(f"Book 2, form {i}?" for i in range(10))]
    order = np.random.RandomState(42).permutation(len(expected))
    assert texts == [expected[i] for i in order]
    assert len(stream.edits) == 12
    assert (stream.name, stream.metric) == ("zsre", "f1")
    for fact in stream.edits:
        number = fact.text.split("book ")[-1][0] if "book" in fact.text else fact.text[5]
        assert fact.target == f"Butler {number}"
        assert fact.id == str(int(number) + 1)
    assert {q.id for q in stream.holdout} <= {"1", "2", "3"}
    assert stream.upstream[0] == Question("who wrote book 0?", answers=("a0",), id="nq-1")
    assert len(streams.load("zsre", path, nq, limit=3, upstream_limit=2).edits) == 3
    assert len(streams.load("zsre", path, nq, upstream_limit=2).upstream) == 2
    assert streams.load("zsre", path, nq, seed=1).edits != stream.edits


def test_zsre_of_the_hub(monkeypatch):
    asked = []
    rows = {
        "facebook/kilt_tasks": [
            {
                "input": "Erewhon [SEP] author",
                "output": [{"answer": "Butler"}],
                "meta": {"template_questions": ["Who wrote Erewhon?", "Whose is Erewhon?"]},
            }
        ]
        * 2,
        "google-research-datasets/nq_open": [{"question": "who sang", "answer": ["A", "B"]}],
    }

    def load_dataset(source, split, **options):
        asked.append((source, split, options))
        return rows[source]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    stream = streams.load("zsre")
    assert asked == [
        ("facebook/kilt_tasks", "validation", {"name": "structured_zeroshot"}),
        ("google-research-datasets/nq_open", "train", {}),
    ]
    assert [fact.text for fact in stream.edits] == ["Who wrote Erewhon?"]
    assert stream.upstream == (Question("who sang?", answers=("A", "B"), id="nq-1"),)


def test_zsre_of_real_records_brings_its_own_questions(shared):
    path = shared / "data" / "zsre" / "zsre_mend_eval_portability_gpt4.json"
    stream = streams.load("zsre", path)
    assert len(stream.edits) == len(stream.holdout) == 500  # each question and one rephrase
    assert len(stream.upstream) == 500
    assert not any(q.text.startswith("nq question") for q in stream.upstream)
    assert any(fact.subject != fact.text for fact in stream.edits)
    twins = {fact.id for fact in stream.edits} & {q.id for q in stream.holdout}
    assert len(twins) > 100


def test_scotus(tmp_path):
    documents = [{"text": f"CASE {i} v. {{}}\nThe court held.", "label": i % 3} for i in range(6)]
    test, train = lines(tmp_path / "test.jsonl", documents), tmp_path / "train.jsonl"
    lines(train, [{"text": "Old.", "label": "taxes"}, {"text": "Older.", "label": 0}])
    stream = streams.load("scotus", test, train)
    assert (len(stream.edits), len(stream.holdout)) == (3, 3)
    assert stream.metric == "accuracy"
    assert [q.answers for q in stream.upstream] == [("taxes",), ("LABEL_0",)]
    texts = {fact.text for fact in stream.edits} | {
        q.text.replace("{}", "{ }") for q in stream.holdout
    }
    assert texts == {row["text"].replace("{}", "{ }") for row in documents}
    assert all(fact.text.startswith(fact.subject) for fact in stream.edits)
    with pytest.raises(BadInput, match="a file for each"):
        streams.load("scotus", test)


def test_scotus_of_the_hub(monkeypatch):
    def load_dataset(source, split):
        assert source == "tomh/grace-scotus"
        return [{"text": f"{split} {i}", "label": i} for i in range(4)]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    stream = streams.load("scotus", upstream_limit=3)
    assert {fact.text.split()[0] for fact in stream.edits} == {"test"}
    assert [q.text for q in stream.upstream] == ["train 0", "train 1", "train 2"]


BIOGRAPHY = {
    "gpt3_text": "x",
    "wiki_bio_text": "John Doe (1800 - 1850) was a judge. He lived in St. Louis. He had a dog.",
    "gpt3_sentences": ["John Doe was a poet.", "He lived.", "He was rich.", "He wrote {}."],
    "annotation": ["major_inaccurate", "accurate", "minor_inaccurate", "major_inaccurate"],
}


def test_wrong_sentences_are_put_right(tmp_path):
    texts = lines(tmp_path / "web.jsonl", [{"text": "One two three."}, {"text": "single"}])
    stream = streams.load("hallucination", lines(tmp_path / "bio.jsonl", [BIOGRAPHY]), texts)
    header = "This is a Wikipedia passage about John Doe."
    assert [(fact.text, fact.target) for fact in stream.edits] == [
        (header, "John Doe (1800 - 1850) was a judge."),
        (f"{header} John Doe was a poet. He lived.", "He had a dog."),
    ]  # the fourth sentence has no counterpart
    assert [(q.text, q.answers) for q in stream.accurate] == [
        (f"{header} John Doe was a poet.", ("He lived.",))
    ]
    assert stream.upstream == (Question("One", answers=("two three.",), id="1"),)
    broken = {**BIOGRAPHY, "annotation": ["accurate"]}
    with pytest.raises(
        BadInput, match=r"row 1 has 4 sentences and the annotations \('accurate',\)"
    ):
        streams.load("hallucination", lines(tmp_path / "broken.jsonl", [broken]), texts)


def test_hallucinations_of_real_records(shared, tmp_path):
    path = shared / "data" / "selfcheck_wikibio" / "dataset-generated.json"
    web = lines(tmp_path / "web.jsonl", [{"text": "One two three."}])
    stream = streams.load("hallucination", path, web)
    rows = json.loads(path.read_text(encoding="utf-8"))
    notes = Counter(note == "accurate" for row in rows for note in row["annotation"])
    assert len(stream.accurate) == notes[True]
    assert 0.5 * notes[False] < len(stream.edits) <= notes[False]
    names = {fact.subject for fact in stream.edits}
    assert all(len(name) < 70 and name[0].isupper() for name in names)


def test_sentences_end_where_a_capital_follows():
    text = (
        'Dr. J. Doe lived in the U.S. for 2.5 years.  Then he left! "Why?" (Nobody knows.) The end'
    )
    assert sentences(text) == [
        "Dr. J. Doe lived in the U.S. for 2.5 years.",
        "Then he left!",
        '"Why?"',
        "(Nobody knows.)",
        "The end",
    ]


def test_a_world_is_asked_in_five_forms(small_world):
    stream = streams.load("miniworld-zsre", small_world)
    world = streams.miniworld.miniworld.load(small_world)
    facts = {fact.id: fact for fact in world.facts}
    forms = Counter(fact.id for fact in stream.edits) + Counter(q.id for q in stream.holdout)
    assert set(forms.values()) == {5}
    views = {q.id: q.popularity for q in world.questions}
    least = sorted(views.values())[len(views) // 2]
    assert all(views[id] <= least for id in forms)
    assert all(fact.target == facts[fact.id].target for fact in stream.edits)
    popular = [q.popularity for q in stream.upstream]
    assert popular == sorted(popular, reverse=True)
    assert stream == streams.load("miniworld-zsre", small_world)


def test_a_world_is_told_sentence_by_sentence(small_world):
    stream = streams.load("miniworld-hallucination", small_world)
    world = streams.miniworld.miniworld.load(small_world)
    passages = {passage.id: passage for passage in world.passages}
    for fact in stream.edits:
        passage = passages[fact.id.split("/")[0]]
        assert fact.text.split("\n")[0] == passage.title == fact.subject
        assert f"{fact.text.split(chr(10))[1]} {fact.target}".strip() in passage.text
    own = [
        {row.id.split("/")[0] for row in rows}
        for rows in (stream.edits, stream.upstream, stream.accurate)
    ]
    assert all(own)
    assert sum(map(len, own)) == len(set.union(*own))


def test_a_world_tells_its_opinions_in_the_order_of_time():
    stream = streams.load("miniworld-scotus")
    found = {o.text: o for o in opinions.load()}
    years = [found[fact.text].year for fact in stream.edits]
    assert years == sorted(years)
    assert min(years) > max(found[q.text].year for q in stream.upstream)
    assert {found[fact.text].split for fact in stream.edits} == {"shifted"}
    assert {found[q.text].split for q in stream.upstream} == {"test"}
    assert {found[q.text].split for q in stream.holdout} == {"shifted_holdout"}
    assert all(fact.target == found[fact.text].label for fact in stream.edits)


def test_bad_names_and_numbers(small_world, tmp_path):
    with pytest.raises(BadInput, match="no stream is named 'nq'; allowed: 'hallucination'"):
        streams.load("nq")
    for how in ({"limit": 0}, {"upstream_limit": 0}):
        with pytest.raises(BadInput, match="is 0; allowed: at least 1"):
            streams.load("miniworld-zsre", small_world, **how)
    with pytest.raises(BadInput, match="which has its own"):
        streams.load("miniworld-zsre", small_world, tmp_path)
    with pytest.raises(BadInput, match="does not exist"):
        streams.load("zsre", tmp_path / "absent.json")
    single = lines(tmp_path / "web.jsonl", [{"text": "single"}])
    with pytest.raises(BadInput, match="'hallucination' has no upstream"):
        streams.load("hallucination", lines(tmp_path / "bio.jsonl", [BIOGRAPHY]), single)


def test_the_order_is_that_of_numpy():
    assert shuffled("abcde", 42) == list("becad")
