from __future__ import annotations

import pytest

from memkit import BadInput, Passage
from memkit.benchmarks.corpus import read_corpus


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.jsonl", '{"id": 1, "text": "a b", "title": "T"}\n\n{"id": "x", "contents": "c"}\n'),
        ("c.csv", "id,title,text\n1,T,a b\nx,,c\n"),
        ("c.tsv", "id\ttitle\tcontents\tmore\n1\tT\ta b\t-\nx\t\tc\t-\n"),
    ],
)
def test_reads_each_form(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert read_corpus(tmp_path / name) == [Passage("1", "a b", "T"), Passage("x", "c")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.jsonl", "", "the corpus .*c.jsonl' is empty; allowed: at least one"),
        ("c.csv", "id,text\n", "is empty"),
        ("c.jsonl", '{"text": "a"}', "row 1: the passage has no id; its columns are 'text'"),
        ("c.jsonl", '{"id": 1, "body": "a"}', "row 1: the passage has no text.*text or contents"),
        ("c.jsonl", "{}", "columns are none"),
        ("c.jsonl", '{"id": "", "text": "a"}', r"row 1: Passage.id is ''"),
        ("c.jsonl", '{"id": 1, "text": " "}', "row 1: Passage.text of '1' is ' '"),
        ("c.jsonl", '{"id": 1, "text": 5}', "row 1: Passage.text of '1' is 5"),
        (
            "c.jsonl",
            '{"id": 1, "text": "a"}\n{"id": "1", "text": "b"}',
            "row 2: the id '1' stands in row 1 already",
        ),
        ("c.jsonl", "\nid", "row 2 is no JSON"),
        ("c.jsonl", "[1]", r"row 1 is '\[1\]'; allowed: a JSON object"),
        ("c.txt", "a", r"ends in '.txt'; allowed: .csv, .tsv, .jsonl"),
    ],
)
def test_names_file_and_row_of_what_is_wrong(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=message):
        read_corpus(tmp_path / name)


def test_refuses_what_cannot_be_read(tmp_path):
    with pytest.raises(BadInput, match=r"cannot be read.*No such file"):
        read_corpus(tmp_path / "absent.csv")
    (tmp_path / "latin.csv").write_bytes(b"id,text\n1,\xff\n")
    with pytest.raises(BadInput, match="a file in UTF-8"):
        read_corpus(tmp_path / "latin.csv")
