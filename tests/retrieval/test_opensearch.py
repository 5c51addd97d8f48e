from __future__ import annotations

import hashlib
import re
import sys
from typing import ClassVar

import numpy as np
import pytest

from memkit import (
    BadInput,
    IndexMismatch,
    MemkitError,
    MissingDependency,
    OpenSearch,
    Passage,
    Unreachable,
)
from memkit.retrieval import opensearch
from memkit.retrieval.remote import Patience
from memkit.testing.index import StoreContract
from memkit.testing.retriever import CORPUS

from .opensearch_double import double
from .servers import free_port

pytest.importorskip("opensearchpy")
QUICK = Patience(timeout=5, retries=1, backoff=0.01)


class HashingEncoder:
    """Counts of hashed words, in both directions, so that some products are negative."""

    max_tokens, similarity, name, sha256 = None, "cosine", "hashing", "a" * 64

    def encode_queries(self, texts):
        vectors = np.zeros((len(texts), 256), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                digest = int(hashlib.sha256(word.encode()).hexdigest(), 16)
                vectors[row, digest % 256] += 1 if digest // 256 % 4 else -1
        return vectors

    encode_passages = encode_queries


@pytest.fixture
def server():
    with double() as found:
        yield found


@pytest.fixture
def host(server):
    return server[0]


@pytest.fixture
def state(server):
    return server[1]


class Contract(StoreContract):
    kind: str
    options: ClassVar[dict[str, bool]] = {}

    @pytest.fixture
    def build(self, host):
        return lambda passages, name: OpenSearch.build(
            passages,
            host,
            name,
            kind=self.kind,
            encoder=HashingEncoder(),
            patience=QUICK,
            **self.options,
        )

    @pytest.fixture
    def open(self, host):
        encoder = HashingEncoder() if self.kind == "dense" else None
        return lambda name, **options: OpenSearch.open(
            host, name, encoder, patience=QUICK, **options
        )

    @pytest.fixture
    def place(self):
        return lambda name: name

    @pytest.fixture
    def traces(self, state):
        return lambda: {name: sorted(index["rows"]) for name, index in state.indexes.items()}


class TestBM25(Contract):
    kind = "bm25"


class TestDense(Contract):
    kind = "dense"


class TestGraph(Contract):
    """The double's graph misses nothing: what is held is what memkit asks and makes of it."""

    kind = "dense"
    options: ClassVar[dict[str, bool]] = {"exact": False}


def test_the_index_is_made_of_lucenes_parts_with_k1_and_b(host, state):
    OpenSearch.build(CORPUS, host, "mine", k1=1.2, b=0.75, shards=3, patience=QUICK)
    ((_, path, _, body),) = [e for e in state.exchanges if e[0] == "PUT" and e[1] == "/mine"]
    index = body["settings"]["index"]
    assert path == "/mine"
    assert index["similarity"] == {"memkit": {"type": "BM25", "k1": 1.2, "b": 0.75}}
    assert index["number_of_shards"] == 3
    assert body["settings"]["analysis"]["analyzer"]["memkit"] == {
        "type": "custom",
        "tokenizer": "standard",
        "filter": ["possessive", "lowercase", "stop_words", "porter_stem"],
    }
    assert body["mappings"]["properties"]["contents"] == {
        "type": "text",
        "analyzer": "memkit",
        "similarity": "memkit",
    }
    calls = [path.rpartition("/")[2] for _, path, _, _ in state.exchanges]
    assert calls == ["_mapping", "mine", "_bulk", "_refresh", "_forcemerge", "_mapping"]


def test_a_search_counts_over_all_shards_and_takes_no_part(host, state):
    index = OpenSearch.build(CORPUS, host, patience=QUICK)
    index.search(["tea & more"], k=7)
    method, path, parameters, body = state.exchanges[-1]
    assert (method, path) == ("POST", "/memkit/_search")
    assert parameters == {
        "search_type": ["dfs_query_then_fetch"],
        "allow_partial_search_results": ["false"],
    }
    assert body == {
        "query": {"match": {"contents": {"query": "tea & more"}}},
        "size": 7,
        "sort": [{"_score": "desc"}, {"id": "asc"}],
        "_source": ["id", "title", "text"],
        "track_total_hits": True,
    }


def test_a_graph_is_made_and_walked_only_where_that_is_asked_for(host, state):
    passages = [Passage(f"p{n:03}", f"tea {n}") for n in range(200)]
    found = {}
    for exact in (True, False):
        index = OpenSearch.build(
            passages, host, kind="dense", encoder=HashingEncoder(), exact=exact, replace=True,
            patience=QUICK,
        )  # fmt: skip
        found[exact] = OpenSearch.open(host, encoder=HashingEncoder()).search(["tea 7"], k=5)
        (created,) = [e[3] for e in state.exchanges if e[0] == "PUT" and e[1] == "/memkit"]
        vector = created["mappings"]["properties"]["vector"]
        (query,) = state.exchanges[-1][3]["query"]
        assert ("method" in vector, created["settings"]["index"].get("knn")) == (
            (False, None) if exact else (True, True)
        )
        assert query == ("script_score" if exact else "knn")
        state.exchanges.clear()
        index.close()
    assert found[True] == found[False]
    assert len(found[True][0]) == 5


@pytest.mark.parametrize(
    "part", [{"timed_out": True}, {"_shards": {"total": 3, "failed": 1}, "timed_out": False}]
)
def test_a_part_is_an_error(host, state, part):
    index = OpenSearch.build(CORPUS, host, patience=QUICK)
    card = state.answer("GET", "/memkit/_mapping", {}, None)
    whole = state.answer("POST", "/memkit/_search", {}, {"size": 3})[1]
    state.faults = [card, (200, {**whole, **part})]
    with pytest.raises(Unreachable, match=f"{host} gave a part"):
        index.search(["tea"])


def test_a_server_that_is_busy_is_asked_again_and_named_in_the_end(host, state):
    index = OpenSearch.build(CORPUS, host, patience=QUICK)
    state.faults = [(503, {"error": "busy"}), (429, {"error": "busy"})][:1]
    assert index.search(["tea"])[0]
    state.faults = [(503, {"error": "busy"}), (429, {"error": "busy"})]
    with pytest.raises(Unreachable, match=f"OpenSearch at {host} did not answer.*2 times"):
        index.search(["tea"])
    gone = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unreachable, match=gone):
        OpenSearch.open(gone, patience=QUICK)


def test_a_refusal_is_an_error_at_once(host, state):
    index = OpenSearch.build(CORPUS, host, patience=QUICK)
    state.faults = [(403, {"error": "forbidden", "status": 403})]
    with pytest.raises(MemkitError, match=f"{host} refused while reading the card.*user and pass"):
        index.search(["tea"])
    assert not state.faults


def test_a_build_or_change_that_was_broken_off_is_refused(host, state):
    with pytest.raises(MemkitError, match=r"refused passage 'x': .*failed to parse.*build it anew"):
        OpenSearch.build([*CORPUS, Passage("x", "REFUSED")], host, patience=QUICK)
    with pytest.raises(IndexMismatch, match="card says 'building'"):
        OpenSearch.open(host, patience=QUICK)
    index = OpenSearch.build(CORPUS, host, patience=QUICK)
    with pytest.raises(MemkitError, match="failed to parse"):
        index.add([Passage("x", "REFUSED")])
    with pytest.raises(IndexMismatch, match="card says 'changing'"):
        index.search(["tea"])


def test_more_hits_than_opensearch_gives_is_an_error(host, monkeypatch):
    index = OpenSearch.build([Passage(str(n), "tea") for n in range(9)], host, patience=QUICK)
    monkeypatch.setattr(opensearch, "MOST", 5)
    assert len(index.search(["tea"], 5)[0]) == 5
    with pytest.raises(BadInput, match="k is 6 and 9 passages match"):
        index.search(["tea"], 6)


def test_refuses_an_index_of_others_and_replaces_only_if_told(host, state):
    state.indexes["theirs"] = {"mappings": {"properties": {}}, "rows": {}}
    with pytest.raises(IndexMismatch, match="no index 'theirs' of memkit's"):
        OpenSearch.open(host, "theirs", patience=QUICK)
    with pytest.raises(BadInput, match="has an index 'theirs'"):
        OpenSearch.build(CORPUS, host, "theirs", patience=QUICK)
    OpenSearch.build(CORPUS, host, patience=QUICK)
    assert len(OpenSearch.build(CORPUS[:3], host, patience=QUICK, replace=True)) == 3


def test_refuses_an_id_that_opensearch_cannot_hold(host, state):
    long = Passage("é" * 257, "tea")
    with pytest.raises(BadInput, match="514 bytes; allowed in OpenSearch: 512"):
        OpenSearch.build([*CORPUS, long], host, patience=QUICK)
    assert not state.indexes
    index = OpenSearch.build(CORPUS, host, patience=QUICK)
    with pytest.raises(BadInput, match="514 bytes"):
        index.add([long])
    assert index.search(["tea"])[0]


def test_says_what_to_install(monkeypatch, host):
    monkeypatch.setitem(sys.modules, "opensearchpy", None)
    with pytest.raises(MissingDependency, match=r"memkit\[opensearch\]"):
        OpenSearch.open(host)
