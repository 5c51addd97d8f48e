from __future__ import annotations

import json

import pytest

from memkit import BadInput, Question
from memkit.benchmarks import load
from memkit.benchmarks.entity_questions import TEMPLATES


@pytest.fixture
def folder(tmp_path):
    rows = {
        "dev/P19.dev.json": [{"question": "Where was Ada born?", "answers": ["Ovale", "O."]}],
        "test/P19.test.json": [
            {"question": "Where was Bea Tween born?", "answers": ["Ovale"]},
            {"question": "Where was born born?", "answers": ["Rast"]},
        ],
        "test/P106.test.json": [{"question": "What is her job?", "answers": ["judge"]}],
    }
    for name, content in rows.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "relation_query_templates.json").write_text("{}", encoding="utf-8")
    return tmp_path


def test_subjects_come_from_the_wording(folder):
    questions = load("entity_questions", folder).questions
    assert questions[0] == Question(
        "Where was Bea Tween born?",
        answers=("Ovale",),
        subject="Bea Tween",
        relation="P19",
        id="P19-test-1",
    )
    assert [q.subject for q in questions] == ["Bea Tween", "born", None]
    assert [q.relation for q in questions] == ["P19", "P19", "P106"]


def test_splits_and_files(folder):
    (ada,) = load("entity_questions", folder, "dev").questions
    assert (ada.subject, ada.answers) == ("Ada", ("Ovale", "O."))
    assert load("entity_questions", folder / "dev").questions == (ada,)  # the only split there
    assert load("entity_questions", folder / "dev" / "P19.dev.json").questions == (ada,)


def test_a_limit_takes_from_all_relations(folder):
    questions = load("entity_questions", folder, limit=2).questions
    assert [q.relation for q in questions] == ["P19", "P106"]
    assert len(load("entity_questions", folder, limit=3).questions) == 3


@pytest.mark.parametrize(
    ("path", "split", "message"),
    [
        (None, None, "Download https://nlp.cs.princeton.edu/projects/entity-questions"),
        (".", "train", "has no split 'train'; allowed: 'dev', 'test'"),
        ("nowhere", None, "holds no file such as P19.test.json"),
    ],
)
def test_refuses(folder, path, split, message):
    with pytest.raises(BadInput, match=message):
        load("entity_questions", None if path is None else folder / path, split)
    (folder / "test" / "P17.test.json").write_text('[{"question": "Q?", "answers": []}]')
    with pytest.raises(BadInput, match=r"P17.test.json', row 1 has no answers"):
        load("entity_questions", folder)


def test_reads_the_real_files(shared):
    folder = shared / "data" / "entity_questions"
    questions = load("entity_questions", folder).questions
    assert len(questions) == len({q.id for q in questions}) == 1000
    assert len({q.relation for q in questions}) == 10
    assert all(q.subject and q.answers for q in questions)
    upstream = json.loads((folder / "relation_query_templates.json").read_text())
    assert all(upstream[name] == text.replace("{}", "[X]") for name, text in TEMPLATES.items())
    some = load("entity_questions", folder, limit=30).questions
    assert [sum(q.relation == r for q in some) for r in {q.relation for q in some}] == [3] * 10
