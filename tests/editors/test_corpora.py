"""Where plain text comes from."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import datasets
import pytest

from memkit.editors.corpora import corpus_hash, sample, texts
from memkit.errors import BadInput
from memkit.files import sha256

ROWS = ["One, two.", 'A "quoted" text, of\ntwo lines.', "Ünïcödé."]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"text": text, "id": i} for i, text in enumerate([*ROWS, "  ", None])]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.json").write_text(json.dumps(rows))
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "a.parquet")
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text"])
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path


def test_the_sample_is_english_prose_in_one_order():
    first, second = list(sample()), list(sample())
    assert first == second == list(texts("sample"))
    assert len(first) == len(set(first)) > 1000
    assert sum(map(len, first)) > 200_000
    assert min(map(len, first)) >= 40
    whole = "\n".join(first)
    assert whole.count("\n") == len(first) - 1
    assert ">>>" not in whole
    assert "::=" not in whole
    words = whole.lower().split()
    assert words.count("the") / len(words) > 0.05


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
def test_files_with_a_column(folder: Path, ending: str):
    assert list(texts(str(folder / f"a.{ending}"))) == ROWS


def test_a_text_file_has_a_text_a_line(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("One\n\n  \nUmläut\nlast", encoding="utf-8")
    assert list(texts(str(path))) == ["One", "Umläut", "last"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"body": "One"}\n', "no column 'text'.*'body'"),
        ("a.jsonl", b"One\n", "cannot be read"),
        ("a.txt", b"\xff\xfe\xfa\n", "cannot be read"),
        ("a.parquet", b"PAR", "cannot be read"),
        ("a.md", b"One\n", "ends in something else.*jsonl"),
        ("a.txt", None, "is no file"),
        (".", None, "is no file"),
    ],
)
def test_says_what_is_wrong_with_a_file(tmp_path: Path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=said):
        list(texts(str(tmp_path / name)))


@pytest.mark.parametrize(
    ("name", "splits", "asked"),
    [
        ("some/set", ["test", "train"], ("some/set", None)),
        ("some/set:20231101.en", ["train"], ("some/set", "20231101.en")),
        ("set", ["all"], ("set", None)),
    ],
)
def test_a_data_set_of_the_hub_is_streamed(monkeypatch, name, splits, asked):
    calls = []

    def load(*args, **options):
        calls.append((args, options))
        return {split: iter([{"text": split}, {"text": "  "}]) for split in splits}

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert list(texts(name)) == ["train" if "train" in splits else splits[0]]
    assert calls == [(asked, {"streaming": True})]
    assert corpus_hash(name) == f"hub:{name}"


def test_a_data_set_out_of_reach_says_so(monkeypatch):
    def load(*_, **__):
        raise ConnectionError("no network\nand more")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(BadInput, match=r"'some/set' cannot be read \(no network\); allowed: 's"):
        list(texts("some/set"))


def test_a_file_is_known_by_its_bytes(tmp_path: Path):
    (tmp_path / "a.txt").write_text("One\n")
    (tmp_path / "b.txt").write_text("One\n")
    assert corpus_hash(str(tmp_path / "a.txt")) == corpus_hash(str(tmp_path / "b.txt"))
    assert corpus_hash(str(tmp_path / "a.txt")) == sha256(tmp_path / "a.txt")
    assert corpus_hash("sample") == corpus_hash("sample") != corpus_hash(str(tmp_path / "a.txt"))
