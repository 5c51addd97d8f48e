from __future__ import annotations

import hashlib
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memkit import (
    BM25,
    BadInput,
    IndexMismatch,
    MemkitError,
    Milvus,
    MissingDependency,
    Passage,
    Unreachable,
)
from memkit.retrieval import milvus, milvus_arms, milvus_client
from memkit.retrieval.remote import Patience
from memkit.testing.index import StoreContract
from memkit.testing.retriever import CORPUS

from .servers import free_port, serving

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")
QUICK = Patience(timeout=5, retries=1, backoff=0.01)


class HashingEncoder:
    """Counts of hashed words."""

    max_tokens, similarity, name = None, "cosine", "hashing"

    def __init__(self, d=256):
        self.d, self.sha256 = d, hashlib.sha256(str(d).encode()).hexdigest()

    def encode_queries(self, texts):
        vectors = np.zeros((len(texts), self.d), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                vectors[row, int(hashlib.sha256(word.encode()).hexdigest(), 16) % self.d] += 1
        return vectors

    encode_passages = encode_queries


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real server of milvus-lite, over gRPC."""
    folder, port = tmp_path_factory.mktemp("milvus"), free_port()
    command = [str(Path(sys.executable).with_name("milvus-lite")), "server"]
    command += ["--data-dir", str(folder / "data"), "--host", "127.0.0.1", "--port", str(port)]
    with serving(command, port, folder / "log"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def uri(tmp_path):
    return str(tmp_path / "milvus.db")


class Contract(StoreContract):
    kind: str

    @pytest.fixture
    def uri(self, tmp_path):
        return str(tmp_path / "milvus.db")

    @pytest.fixture
    def build(self, uri):
        return lambda passages, name: Milvus.build(
            passages, uri, name, kind=self.kind, encoder=HashingEncoder()
        )

    @pytest.fixture
    def open(self, uri):
        encoder = HashingEncoder() if self.kind == "dense" else None
        return lambda name, **options: Milvus.open(uri, name, encoder, **options)

    @pytest.fixture
    def place(self, request):
        prefix = f"c{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:10]}"
        return lambda name: f"{prefix}_{name}"

    @pytest.fixture
    def traces(self, uri):
        from pymilvus import MilvusClient

        def traces():
            client = MilvusClient(uri)
            names = client.list_collections()
            return {n: client.query(n, filter="", output_fields=["count(*)"])[0] for n in names}

        return traces


class TestBM25InAFile(Contract):
    kind = "bm25"


class TestDenseInAFile(Contract):
    kind = "dense"


class TestBM25OnAServer(Contract):
    kind = "bm25"

    @pytest.fixture
    def uri(self, server):
        return server


class TestDenseOnAServer(TestBM25OnAServer):
    kind = "dense"


def corpus(rng, count, longest=60):
    words = [f"w{n}" for n in range(50)]
    return [
        Passage(f"p{n:03}", " ".join(rng.choices(words, k=rng.randint(1, longest))))
        for n in range(count)
    ]


def ids(results):
    return [[hit.passage.id for hit in hits] for hits in results]


def scores(results):
    return [hit.score for hits in results for hit in hits]


QUERIES = ["w1 w2", "w3 w3 w4 w5", "w49", "w7 unknown", "unknown"]


def test_ranks_are_those_of_bm25_on_this_machine_also_after_the_average_has_moved(uri):
    rng = random.Random(1)
    passages = corpus(rng, 150)
    remote = Milvus.build(passages, uri)
    with remote, BM25.build(passages, engine="bm25s") as local:
        for more in ([], [Passage(f"x{n}", "w1 w2 w3 " * 90) for n in range(60)]):
            remote.add(more)
            local.add(more)
            for k in (1, 5, 30, 10**6):
                found, expected = remote.search(QUERIES, k), local.search(QUERIES, k)
                assert scores(found) == pytest.approx(scores(expected), rel=1e-5)
                assert [sorted(row) for row in ids(found)] == [sorted(r) for r in ids(expected)]


def test_ties_through_the_cut_are_in_order_of_id_however_many(uri):
    twins = [Passage(f"t{n:03}", "the same few words") for n in range(60)]
    index = Milvus.build([*twins, *CORPUS], uri)
    assert ids(index.search(["same words"], k=5)) == [[f"t{n:03}" for n in range(5)]]
    index.add([Passage("long", "other " * 500)])
    assert ids(index.search(["same words"], k=5)) == [[f"t{n:03}" for n in range(5)]]
    dense = Milvus.build([*twins, *CORPUS], uri, "dense", kind="dense", encoder=HashingEncoder())
    assert ids(dense.search(["same words"], k=5)) == [[f"t{n:03}" for n in range(5)]]


def test_a_few_ties_through_the_cut_cost_no_second_search(uri, monkeypatch):
    asked = []
    search = milvus_client.Collections.search

    def counted(self, vectors, limit, parameters):
        asked.append(limit)
        return search(self, vectors, limit, parameters)

    monkeypatch.setattr(milvus_client.Collections, "search", counted)
    index = Milvus.build([*(Passage(f"t{n}", "same words") for n in range(5)), *CORPUS], uri)
    assert ids(index.search(["same words"], k=2)) == [["t0", "t1"]]
    assert len(asked) == 1


def test_more_hits_than_milvus_gives_is_an_error_and_not_a_part(uri, monkeypatch):
    index = Milvus.build([Passage(str(n), "tea") for n in range(30)], uri)
    monkeypatch.setattr(milvus_arms, "MOST", 20)
    assert len(index.search(["tea"], k=20)[0]) == 20
    with pytest.raises(BadInput, match="k is 21 and more than 20 passages match"):
        index.search(["tea"], k=21)
    with pytest.raises(BadInput, match="more than 20"):
        index.search(["tea"], k=25)


def test_a_change_by_somebody_else_shows_at_once(uri):
    """The counts of terms are kept between searches, for the version that they are of."""
    passages = corpus(random.Random(6), 40)
    one = Milvus.build(passages[:30], uri)
    other = Milvus.open(uri)
    before = other.search(QUERIES, 50)
    one.add(passages[30:])
    fresh = Milvus.build(passages, uri, "fresh")
    assert ids(other.search(QUERIES, 50)) == ids(fresh.search(QUERIES, 50)) != ids(before)
    assert scores(other.search(QUERIES, 50)) == pytest.approx(
        scores(fresh.search(QUERIES, 50)), rel=1e-5
    )


def test_what_was_written_to_a_file_is_searched_in_segments_and_not_in_the_log(uri, monkeypatch):
    """milvus-lite takes 100 times as long to search its log."""

    def logged():
        return [file for file in Path(uri).rglob("wal/*") if file.stat().st_size]

    with monkeypatch.context() as patch:
        patch.setattr(milvus_client.Collections, "settle", lambda self: None)
        Milvus.build(CORPUS, uri).close()
    assert logged()
    index = Milvus.build(CORPUS, uri, replace=True)
    assert list(Path(uri).rglob("memkit/**/*.parquet"))
    assert not logged()
    index.add([Passage("new", "A comet of steel.")])
    index.remove(["new"])
    assert not logged()
    Milvus.repair(uri)
    assert not logged()


def test_titles_and_stop_words_and_passages_without_terms(uri):
    passages = [Passage("1", "It was brewed.", "Assam"), Passage("2", "The")]
    index = Milvus.build(passages, uri)
    assert ids(index.search(["assam", "the", "brewing the"])) == [["1"], [], ["1"]]
    assert sorted(index.passages(), key=lambda p: p.id) == passages


@pytest.fixture
def broken(monkeypatch):
    """Breaks a call of the store from its n-th time on."""

    def broken(method, after):
        real, calls = getattr(milvus_client.Collections, method), []

        def call(self, *arguments, **named):
            calls.append(method)
            if len(calls) > after:
                raise KeyboardInterrupt
            return real(self, *arguments, **named)

        monkeypatch.setattr(milvus_client.Collections, method, call)

    return broken


def test_a_build_that_was_broken_off_opens_not_and_goes_on(uri, broken, monkeypatch):
    passages = corpus(random.Random(2), 25)
    for module in (milvus, milvus_client):
        monkeypatch.setattr(module, "ROWS", 10)
    with monkeypatch.context():
        broken("write", 1)
        with pytest.raises(KeyboardInterrupt):
            Milvus.build(passages, uri)
    monkeypatch.undo()
    with pytest.raises(IndexMismatch, match="card says 'building'"):
        Milvus.open(uri)
    with pytest.raises(IndexMismatch, match="card says 'building'"):
        Milvus.repair(uri)
    written = []
    real = milvus_client.Collections.write
    monkeypatch.setattr(milvus, "ROWS", 10)
    monkeypatch.setattr(
        milvus_client.Collections,
        "write",
        lambda self, part, vectors: (written.extend(part), real(self, part, vectors)),
    )
    index = Milvus.build(passages, uri)
    assert [p.id for p in written] == [p.id for p in passages[10:]]
    other = Milvus.build(passages, uri, "other")
    assert index.search(QUERIES, 20) == other.search(QUERIES, 20)
    assert len(index) == 25


@pytest.mark.parametrize("method", ["write", "write_terms"])
def test_a_change_that_was_broken_off_is_refused_until_it_is_repaired(uri, monkeypatch, method):
    index = Milvus.build(corpus(random.Random(4), 20), uri)
    real = getattr(milvus_client.Collections, method)

    def fail(self, *arguments):
        if milvus_client.CARD in arguments[0]:  # the card itself is written
            return real(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(milvus_client.Collections, method, fail)
        with pytest.raises(KeyboardInterrupt):
            index.replace([Passage("p001", "w1 zeppelin"), Passage("p002", "zeppelin")])
    for act in (lambda: Milvus.open(uri), lambda: index.remove(["p003"])):
        with pytest.raises(IndexMismatch, match="'changing'"):
            act()
    with pytest.raises(IndexMismatch, match=r"card says 'changing'.*Milvus\.repair"):
        index.search(["w1"])
    assert Milvus.repair(uri) == 20
    fresh = Milvus.build(list(index.passages()), uri, "fresh")
    queries = [*QUERIES, "zeppelin"]
    found, expected = index.search(queries, 20), fresh.search(queries, 20)
    assert ids(found) == ids(expected)
    assert scores(found) == pytest.approx(scores(expected), rel=1e-5)
    assert bool(found[-1]) == (method == "write_terms")


def test_a_build_that_was_killed_between_its_collections_is_nothing(uri, broken, monkeypatch):
    with monkeypatch.context():
        broken("_create", 1)
        with pytest.raises(KeyboardInterrupt):
            Milvus.build(CORPUS, uri)
    monkeypatch.undo()
    with pytest.raises(IndexMismatch, match="has no index"):
        Milvus.open(uri)
    assert len(Milvus.build(CORPUS, uri)) == len(CORPUS)


def test_refuses_what_milvus_cannot_hold_before_anything_is_made(uri):
    for passage, message in (
        (Passage("1", "x" * 65_536), "65536 bytes; allowed in Milvus: 65535"),
        (Passage("1", "half a \ud83d pair"), "not valid Unicode"),
    ):
        with pytest.raises(BadInput, match=message):
            Milvus.build([passage], uri)
    assert not Path(uri).exists()


def test_refuses_another_encoder_and_an_unknown_kind(uri):
    Milvus.build(CORPUS, uri, kind="dense", encoder=HashingEncoder())
    with pytest.raises(BadInput, match="made with the object 'hashing'"):
        Milvus.open(uri)
    with pytest.raises(
        IndexMismatch, match=f"{HashingEncoder().sha256}.*{HashingEncoder(8).sha256}"
    ):
        Milvus.open(uri, "memkit", HashingEncoder(8))
    with pytest.raises(BadInput, match=r"kind is 'colbert'; allowed: 'bm25', 'dense'"):
        Milvus.build(CORPUS, uri, "other", kind="colbert")
    with pytest.raises(IndexMismatch, match="has no index 'nowhere'"):
        Milvus.open(uri, "nowhere")


def test_replaces_an_index_only_if_told(uri):
    Milvus.build(CORPUS, uri)
    index = Milvus.build(CORPUS[:3], uri, replace=True)
    assert len(index) == 3


def test_a_server_that_is_not_there_is_named(monkeypatch):
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unreachable, match=rf"Milvus at {uri}.*3 times.*Check that the server runs"):
        Milvus.open(uri, patience=Patience(timeout=1, retries=2, backoff=0.5))
    assert waited == [0.5, 1.0]


def test_a_server_that_goes_away_is_named_and_nothing_is_half_answered(tmp_path):
    port = free_port()
    command = [str(Path(sys.executable).with_name("milvus-lite")), "server"]
    command += ["--data-dir", str(tmp_path / "data"), "--host", "127.0.0.1", "--port", str(port)]
    with serving(command, port, tmp_path / "log"):
        index = Milvus.build(CORPUS, f"http://127.0.0.1:{port}", patience=QUICK)
        assert index.search(["tea"])[0]
    with pytest.raises(
        Unreachable, match=rf"127\.0\.0\.1:{port} did not answer while reading the card, 2 times"
    ):
        index.search(["tea"])


def test_a_file_that_another_process_has_open_is_an_error(uri, tmp_path):
    script = tmp_path / "opens.py"
    script.write_text(
        "import sys, memkit\n"
        f"index = memkit.Milvus.build([memkit.Passage('1', 'tea')], {uri!r})\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(MemkitError, match="belongs to one process at a time"):
            Milvus.open(uri)
        other.stdin.close()
    assert len(Milvus.open(uri)) == 1


def test_what_the_store_refuses_is_an_error_of_memkit(uri):
    index = Milvus.build(CORPUS, uri)
    index._store.client.drop_collection("memkit")
    with pytest.raises(MemkitError, match="refused while"):
        index.search(["tea"])


def test_says_what_to_install(monkeypatch, uri):
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(MissingDependency, match=r"memkit\[milvus\]"):
        Milvus.build(CORPUS, uri)
