from __future__ import annotations

import hashlib
import json
import random

import numpy as np
import pytest

from memkit import BadInput, IndexMismatch, Passage
from memkit.retrieval.passages import PassageFile, corpus_sha256, write_passages

PASSAGES = [
    Passage("p10", "Ten.", title="X"),
    Passage("p2", "Two lines\nand a \u2028 separator."),
    Passage("élan", "Größe, 名前, 🙂", title=""),
    Passage("p1", "A lone surrogate \ud83d, as broken sources have it."),
]


@pytest.fixture
def file(tmp_path):
    write_passages(tmp_path, PASSAGES)
    return PassageFile(tmp_path)


def test_reads_what_was_written_in_order_of_id(file):
    assert [p.id for p in PASSAGES] != ["p1", "p10", "p2", "élan"]
    assert [p.id for p in file] == ["p1", "p10", "p2", "élan"]
    assert {p.id: p for p in file} == {p.id: p for p in PASSAGES}
    assert len(file) == 4


def test_finds_every_row_by_id_and_no_other(file):
    for row, passage in enumerate(file):
        assert file[file.row(passage.id)] == passage
        assert file.row(passage.id) == row
        assert passage.id in file
    for absent in ("p", "p3", "a", "z", "ê", 3):
        assert absent not in file
    assert file.rows(["p2", "p1", "p2"]) == [0, 2]


def test_names_an_unknown_id(file):
    with pytest.raises(BadInput, match=r"'p3'.*ids of passages.*Check the id"):
        file.row("p3")
    with pytest.raises(BadInput, match="'p3'"):
        file.rows(["p1", "p3"])


@pytest.mark.parametrize("row", [-1, 4])
def test_has_no_rows_outside(file, row):
    with pytest.raises(IndexError, match=str(row)):
        file[row]


def test_new_passages_must_be_new(file):
    assert file.check_new([]) == []
    assert file.check_new([Passage("p3", "New.")]) == [Passage("p3", "New.")]
    with pytest.raises(BadInput, match=r"'p2' is in the index already.*Replace"):
        file.check_new([Passage("p3", "New."), Passage("p2", "Old.")])
    with pytest.raises(BadInput, match=r"'p3' stands twice"):
        file.check_new([Passage("p3", "New."), Passage("p3", "New.")])


def test_hash_is_of_the_set_and_of_the_file(tmp_path):
    plain = [p for p in PASSAGES if p.id != "p1"]
    written = write_passages(tmp_path, plain)
    shuffled = random.Random(0).sample(plain, len(plain))
    assert shuffled != plain
    assert written == corpus_sha256(plain) == corpus_sha256(shuffled)
    assert written == hashlib.sha256((tmp_path / "passages.jsonl").read_bytes()).hexdigest()
    rows = [
        {"id": p.id, "title": p.title, "text": p.text} for p in sorted(plain, key=lambda p: p.id)
    ]
    by_hand = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert written == hashlib.sha256(by_hand.encode()).hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        PASSAGES[1:],
        [*PASSAGES[1:], Passage("p10", "Ten.")],
        [*PASSAGES[1:], Passage("p11", "Ten.", title="X")],
        [*PASSAGES[1:], Passage("p10", "Ten!", title="X")],
    ],
)
def test_hash_sees_every_field(other):
    assert corpus_sha256(other) != corpus_sha256(PASSAGES)


@pytest.mark.parametrize(("corpus", "message"), [([], "empty"), ([PASSAGES[0]] * 2, "twice")])
def test_writes_nothing_of_a_bad_corpus(tmp_path, corpus, message):
    with pytest.raises(BadInput, match=message):
        write_passages(tmp_path, corpus)
    assert list(tmp_path.iterdir()) == []


def test_refuses_files_that_do_not_belong_together(tmp_path):
    write_passages(tmp_path, PASSAGES)
    with (tmp_path / "passages.jsonl").open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(IndexMismatch, match=r"offsets end at \d+.*build it anew"):
        PassageFile(tmp_path)


@pytest.mark.parametrize("name", ["passages.jsonl", "passages.offsets.npy"])
def test_refuses_a_file_that_is_absent_or_empty(tmp_path, name):
    write_passages(tmp_path, PASSAGES)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(IndexMismatch, match="cannot be read"):
        PassageFile(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(IndexMismatch, match="cannot be read"):
        PassageFile(tmp_path)


@pytest.mark.parametrize(
    "row",
    [
        b'{"id": "a"}\n',
        b'{"id": "a", "text": " ", "title": null}\n',
        b'["a", "b", null]\n',
        b'{"id": "a", "text": "b", "title": null}{}\n',
        b'{"id": "a", "text": "b", "title": null}',
    ],
)
def test_refuses_a_row_that_is_no_passage(tmp_path, row):
    (tmp_path / "passages.jsonl").write_bytes(row)
    np.save(tmp_path / "passages.offsets.npy", np.array([0, len(row)]))
    with pytest.raises(IndexMismatch, match=r"row 0 of .* is not a passage"):
        PassageFile(tmp_path)[0]
