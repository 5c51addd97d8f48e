from __future__ import annotations

import http.server
import json
import threading

import pytest

from memkit import BM25, BadInput, IndexMismatch, MemkitError, RemoteLucene, Unreachable
from memkit.retrieval import java
from memkit.retrieval.remote import Patience
from memkit.testing.retriever import CORPUS, TWINS, RetrieverContract
from memkit.types import Passage

from .servers import free_port, serving

MISSING = [finding for finding in java.diagnose() if not finding.ok]
needs_lucene = pytest.mark.skipif(bool(MISSING), reason=f"Lucene cannot run here: {MISSING}")
QUICK = Patience(timeout=5, retries=1, backoff=0.01)
MERGED = [Passage(p.id, p.contents) for p in CORPUS]  # Anserini's JSON has no title


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real server of Anserini's."""
    folder, port = tmp_path_factory.mktemp("rest"), free_port()
    command = [str(java.find().home / "bin" / "java"), "-Xmx256m", "-cp", str(java._jar())]
    command += ["io.anserini.api.RestServer", "--host", "127.0.0.1", "--port", str(port)]
    with serving(command, port, folder / "log"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Builds an index as Anserini does; gives its path."""
    java.jvm()
    from jnius import autoclass

    def index(passages, option="-storeRaw"):
        folder = tmp_path_factory.mktemp("anserini")
        (folder / "corpus").mkdir()
        rows = [json.dumps({"id": p.id, "contents": p.contents}) for p in passages]
        (folder / "corpus" / "rows.jsonl").write_text("\n".join(rows))
        arguments = ["-collection", "JsonCollection", "-input", str(folder / "corpus")]
        arguments += ["-index", str(folder / "index"), "-threads", "1", option]
        autoclass("io.anserini.index.IndexCollection").main(arguments)
        return str(folder / "index")

    return index


@pytest.fixture(scope="module")
def whole(index):
    return index(CORPUS)


@pytest.fixture(scope="module")
def halves(index):
    return [index(CORPUS[::2]), index(CORPUS[1::2])]


@needs_lucene
class TestOneIndex(RetrieverContract):
    @pytest.fixture
    def passages(self):
        return MERGED

    @pytest.fixture
    def retriever(self, server, whole):
        return RemoteLucene([(server, whole)], patience=QUICK)


@needs_lucene
class TestShards(TestOneIndex):
    @pytest.fixture
    def wanted(self):
        """Twins have other scores where they stand in other shards."""
        return {
            "capital of France on the Seine": "paris",
            "novel by Samuel Butler": "erewhon",
            "icy body with a tail": "comet",
        }

    @pytest.fixture
    def retriever(self, server, halves):
        return RemoteLucene([(server, half) for half in halves], patience=QUICK)


@needs_lucene
def test_one_index_gives_what_lucene_gives_here(server, whole):
    remote = RemoteLucene([(server, whole)], patience=QUICK)
    queries = ["novel by Samuel Butler", "tea", "the capital of a board", TWINS, "the"]
    with BM25.open(whole) as local:
        for there, here in zip(remote.search(queries), local.search(queries), strict=True):
            assert [hit.passage for hit in there] == [hit.passage for hit in here]
            assert [h.score for h in there] == pytest.approx([h.score for h in here], abs=1e-4)


@needs_lucene
def test_shards_are_merged_by_their_own_scores(server, halves):
    shards = [RemoteLucene([(server, half)], patience=QUICK) for half in halves]
    lists = [shard.search(["a novel on tea in the fog"], 100)[0] for shard in shards]
    assert all(lists)
    expected = sorted((-h.score, h.passage.id) for hits in lists for h in hits)
    both = RemoteLucene([(server, half) for half in halves], patience=QUICK)
    (hits,) = both.search(["a novel on tea in the fog"], 4)
    assert [(-hit.score, hit.passage.id) for hit in hits] == expected[:4]


@needs_lucene
def test_refuses_shards_that_overlap_and_an_index_without_text(server, whole, index):
    twice = RemoteLucene([(server, whole), (server, index(CORPUS[:3]))], patience=QUICK)
    with pytest.raises(IndexMismatch, match=r"'paris' is in .* and in"):
        twice.search(["Paris"])
    silent = RemoteLucene([(server, index(CORPUS, "-storeDocvectors"))], patience=QUICK)
    with pytest.raises(IndexMismatch, match=r"gave no text for 'paris'.*-storeRaw"):
        silent.search(["Paris"])


@needs_lucene
def test_an_index_that_is_not_there_is_refused_at_once(server):
    with pytest.raises(MemkitError, match=r"refused \(400: .*Unable to open index"):
        RemoteLucene([(server, "/nowhere")], patience=QUICK).search(["tea"])


@needs_lucene
def test_a_shard_that_is_gone_is_named_and_no_part_is_given(server, whole):
    gone = f"http://127.0.0.1:{free_port()}"
    shards = RemoteLucene([(server, whole), (gone, whole)], patience=QUICK)
    with pytest.raises(Unreachable, match=rf"Lucene server at {gone} did not answer.*2 times"):
        shards.search(["tea"])


@pytest.fixture
def scripted():
    """A server that gives these answers in turn; the last one again and again."""

    def start(*answers):
        left, asked = list(answers), []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                code, body = left.pop(0) if len(left) > 1 else left[0]
                self.send_response(code)
                self.send_header("Content-Length", str(len(body) + 5 * (code == 299)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}", asked

    servers = []
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


GOOD = json.dumps(
    {"candidates": [{"docid": "1", "score": 2.5, "doc": {"title": "T", "contents": "tea"}}]}
).encode()


@pytest.mark.parametrize("bad", [(503, b"{}"), (200, GOOD[:-9]), (299, GOOD)])
def test_a_bad_moment_is_waited_out(scripted, bad):
    """An error of the server, an answer cut off in its JSON or in its length."""
    address, asked = scripted(bad, (200, GOOD))
    ((hit,),) = RemoteLucene([(address, "/my index")], patience=QUICK).search(["tea & more"], 3)
    assert (hit.passage, hit.score) == (Passage("1", "tea", "T"), 2.5)
    assert asked == ["/v1/%2Fmy%20index/search?query=tea+%26+more&hits=3"] * 2


def test_bad_moments_that_last_are_an_error(scripted):
    address, asked = scripted((503, b"{}"))
    with pytest.raises(Unreachable, match="503"):
        RemoteLucene([(address, "x")], patience=QUICK).search(["tea"])
    assert len(asked) == 2


@pytest.mark.parametrize("shards", [[], [("127.0.0.1:80", "x")], [("http://a", "")]])
def test_refuses_shards_that_are_none(shards):
    with pytest.raises(BadInput, match="shard"):
        RemoteLucene(shards)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"retries": -1}, {"backoff": float("inf")}])
def test_refuses_a_patience_that_is_none(options):
    with pytest.raises(BadInput, match=next(iter(options))):
        Patience(**options)
