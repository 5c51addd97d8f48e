from __future__ import annotations

import hashlib
import json
import tarfile

import pytest

from memkit import BM25, BadInput, IndexMismatch, MemkitError
from memkit.retrieval import java
from memkit.testing.retriever import CORPUS

MISSING = [finding for finding in java.diagnose() if not finding.ok]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"Lucene cannot run here: {MISSING}")


@pytest.fixture
def tarball(tmp_path, request):
    """An index as Anserini builds it, packed as pyserini's authors pack theirs."""
    java.jvm()
    from jnius import autoclass

    (tmp_path / "corpus").mkdir()
    rows = [json.dumps({"id": p.id, "contents": p.contents}) for p in CORPUS]
    (tmp_path / "corpus" / "rows.jsonl").write_text("\n".join(rows))
    arguments = ["-collection", "JsonCollection", "-input", str(tmp_path / "corpus")]
    arguments += ["-index", str(tmp_path / "lucene-tiny"), "-threads", "1"]
    autoclass("io.anserini.index.IndexCollection").main(
        [*arguments, *getattr(request, "param", ["-storeRaw"])]
    )
    path = tmp_path / "lucene-tiny.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        file.add(tmp_path / "lucene-tiny", "lucene-tiny")
    return path


@pytest.fixture
def publish(tmp_path, tarball, monkeypatch):
    """Makes the file one of pyserini's indexes; the download is real, from the local disk."""
    java.jvm()
    from pyserini import util

    def publish(name, *, url=None, md5=None):
        content = tarball.read_bytes()
        entry = {
            "filename": tarball.name,
            "urls": [url or tarball.as_uri()],
            "md5": md5 or hashlib.md5(content).hexdigest(),
            "size compressed (bytes)": len(content),
        }
        monkeypatch.setitem(util.TF_INDEX_INFO, name, entry)

    monkeypatch.setenv("PYSERINI_CACHE", str(tmp_path / "cache"))
    return publish


def test_an_index_is_fetched_once_and_opens(publish, tarball, capfd):
    publish("tiny")
    with BM25.prebuilt("tiny") as index:
        assert index.engine == "lucene"
        assert len(index) == len(CORPUS)
        assert [hit.passage.id for hit in index.search(["novel by Butler"])[0]] == ["erewhon"]
        with pytest.raises(MemkitError, match="was not made by memkit"):
            index.replace(CORPUS[:1])
    tarball.unlink()
    with BM25.prebuilt("tiny") as index:
        assert len(index) == len(CORPUS)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("tarball", [[]], indirect=True)
def test_an_index_without_text_is_refused(publish):
    publish("tiny-slim")
    with pytest.raises(IndexMismatch, match="stores no text"):
        BM25.prebuilt("tiny-slim")


def test_an_unknown_name_gets_the_nearest_known_ones():
    with pytest.raises(BadInput, match=r"'msmarco-v1-pasage'; allowed: .*'msmarco-v1-passage'"):
        BM25.prebuilt("msmarco-v1-pasage")


def test_a_download_that_fails_is_named_and_can_be_tried_again(publish, tmp_path):
    publish("tiny", url=(tmp_path / "nowhere.tar.gz").as_uri())
    with pytest.raises(MemkitError, match=r"'tiny'.*nowhere\.tar\.gz.*Try again"):
        BM25.prebuilt("tiny")
    publish("tiny", md5="0" * 32)
    with pytest.raises(MemkitError, match=r"checksum"):
        BM25.prebuilt("tiny")
    publish("tiny")
    with BM25.prebuilt("tiny") as index:
        assert len(index) == len(CORPUS)
