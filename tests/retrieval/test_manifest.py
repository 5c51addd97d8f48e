from __future__ import annotations

import json
import os

import pytest

import memkit
from memkit import IndexMismatch, Passage
from memkit.files import building
from memkit.retrieval.manifest import FORMAT, Manifest
from memkit.retrieval.passages import corpus_sha256

PASSAGES = [Passage("a", "One."), Passage("b", "Two.")]


@pytest.fixture
def folder(tmp_path):
    with building(tmp_path / "index") as folder:
        (folder / "vectors.bin").write_bytes(b"12345")
        (folder / "deep").mkdir()
        (folder / "deep" / "segment").write_bytes(b"")
        Manifest("dense", "exact", 2, corpus_sha256(PASSAGES), {"k1": 0.9}, "e", "f" * 64).write(
            folder
        )
    return tmp_path / "index"


def change(folder, **fields):
    card = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(card | fields))


def test_reads_what_was_written(folder):
    manifest = Manifest.read(folder, kind="dense")
    assert manifest == Manifest(
        kind="dense",
        engine="exact",
        count=2,
        corpus_sha256=corpus_sha256(PASSAGES),
        parameters={"k1": 0.9},
        encoder="e",
        encoder_sha256="f" * 64,
        files={"vectors.bin": 5, "deep/segment": 0},
        memkit=memkit.__version__,
        format=FORMAT,
    )


def test_writing_again_gives_the_same_bytes(folder):
    before = (folder / "manifest.json").read_bytes()
    Manifest.read(folder, kind="dense").write(folder)
    assert (folder / "manifest.json").read_bytes() == before


def test_refuses_another_kind_and_names_both(folder):
    with pytest.raises(IndexMismatch, match=r"kind 'dense', and 'bm25' was asked for.*Open it"):
        Manifest.read(folder, kind="bm25")


def test_refuses_another_format_and_names_both(folder):
    change(folder, format=99, memkit="9.9", unheard="of")
    with pytest.raises(IndexMismatch, match=rf"format 99, .* reads format {FORMAT}.*memkit 9\.9"):
        Manifest.read(folder, kind="dense")


def test_refuses_a_truncated_file_and_names_both_sizes(folder):
    (folder / "vectors.bin").write_bytes(b"123")
    with pytest.raises(IndexMismatch, match=r"5 bytes for 'vectors\.bin'.*3 bytes.*anew"):
        Manifest.read(folder, kind="dense")


def test_refuses_an_absent_file(folder):
    (folder / "deep" / "segment").unlink()
    with pytest.raises(IndexMismatch, match=r"0 bytes for 'deep/segment'.*no such file"):
        Manifest.read(folder, kind="dense")


def test_refuses_a_folder_without_a_card(folder):
    (folder / "manifest.json").unlink()
    with pytest.raises(IndexMismatch, match=r"has no manifest\.json.*memkit index build"):
        Manifest.read(folder, kind="dense")
    with pytest.raises(IndexMismatch, match="is not a folder"):
        Manifest.read(folder / "absent", kind="dense")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "{}", '{"format": 1}', '{"format": 1, "x": 2}']
)
def test_refuses_what_is_no_card(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(IndexMismatch, match=r"is not a manifest.*corpus_sha256"):
        Manifest.read(folder, kind="dense")


def test_tells_another_corpus_by_both_hashes(folder):
    manifest = Manifest.read(folder, kind="dense")
    manifest.check_corpus(reversed(PASSAGES))
    other = [*PASSAGES, Passage("c", "Three.")]
    match = f"2 passages.*{corpus_sha256(PASSAGES)}.*the 3 given have {corpus_sha256(other)}"
    with pytest.raises(IndexMismatch, match=match):
        manifest.check_corpus(other)


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def fail():
        with building(tmp_path / "index") as folder:
            Manifest("dense", "exact", 2, "0").write(folder)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_moved_into_place_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "old").touch()
    rename, moves = os.rename, []

    def second_fails(source, target):
        moves.append(source)
        if len(moves) == 2:
            raise OSError("no room")
        rename(source, target)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(OSError, match="no room"), building(tmp_path / "index", replace=True) as new:
        (new / "new").touch()
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [
        "index",
        "index/old",
    ]
