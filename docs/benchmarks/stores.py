"""Latency and memory of each store beside its engine's own client.

    OMP_NUM_THREADS=1 python docs/benchmarks/stores.py --passages 10000

Passages of 44 words with a Zipf vocabulary, queries of six, k = 10, one query in a call, one
thread. For dense stores the encoder looks vectors of 384 numbers up in a table, so that it costs
nothing. Each engine runs in a process of its own; memkit's search and the client's own take turns,
so that a busy machine slows both. What the client's own gives is what it gives: ids, or rows with
text from Milvus; memkit's are lists of `Hit`, each with its passage, ties by id.

Prints a row an engine: build in seconds, median latency of both and their ratio, queries a second,
and resident memory of the process at the end less that before the index was opened.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from memkit import BM25, Dense, Milvus, Passage

WORDS, K, DIMENSIONS, SECONDS, WARM = 44, 10, 384, 8.0, 60


class Table:
    """An encoder that costs nothing: a text's vector is a row of random numbers."""

    name, sha256, similarity, max_tokens = "table", "0" * 64, "cosine", None

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.rows = rng.standard_normal((1 << 17, DIMENSIONS), dtype=np.float32)
        self.rows /= np.linalg.norm(self.rows, axis=1, keepdims=True)

    def _one(self, text):
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        one, other = int.from_bytes(digest[:4]) % (1 << 17), int.from_bytes(digest[4:]) % (1 << 17)
        return (self.rows[one] + self.rows[other]) / 2

    def encode_queries(self, texts):
        """Vectors [n, 384]."""
        return np.stack([self._one(text) for text in texts])

    encode_passages = encode_queries


def corpus(count):
    rng = random.Random(0)
    syllables = [a + b for a in "bcdfghklmnprst" for b in "aeiou"]
    vocabulary = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(20_000)]
    weights = [1 / (rank + 10) for rank in range(len(vocabulary))]
    words = rng.choices(vocabulary, weights, k=count * WORDS)
    passages = [
        Passage(f"d{n:07}", " ".join(words[n * WORDS : (n + 1) * WORDS])) for n in range(count)
    ]
    return passages, [" ".join(rng.choices(vocabulary, weights, k=6)) for _ in range(500)]


def resident():
    """Megabytes of this process in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def bm25(engine, folder, passages):
    BM25.build(passages, folder / "index", engine=engine).close()


def open_bm25s(folder):
    import bm25s

    from memkit.retrieval.analysis import terms

    index = BM25.open(folder / "index")
    scorer = bm25s.BM25.load(folder / "index" / "bm25s", mmap=True, show_progress=False)
    return index, lambda query: scorer.retrieve([terms(query)], k=K, show_progress=False)


def open_lucene(folder):
    index = BM25.open(folder / "index")
    from jnius import autoclass

    searcher = autoclass("io.anserini.search.SimpleSearcher")(str(folder / "index" / "lucene"))
    searcher.set_bm25(0.9, 0.4)
    return index, lambda query: [(h.docid, h.score) for h in searcher.search(query, K)]


def dense(engine, folder, passages):
    Dense.build(passages, folder / "index", encoder=Table(), engine=engine, batch_size=4096)


def open_dense(folder):
    import faiss

    faiss.omp_set_num_threads(1)
    encoder = Table()
    index = Dense.open(folder / "index", encoder)
    if index.manifest.engine == "exact":
        own = faiss.IndexFlatIP(DIMENSIONS)
        own.add(np.load(folder / "index" / "vectors.npy"))
        return index, lambda query: own.search(encoder.encode_queries([query]), K)
    own = faiss.read_index(str(folder / "index" / "graph.faiss"))
    own.hnsw.efSearch = 128
    return index, lambda query: own.search(encoder.encode_queries([query]), K)


def milvus(kind, folder, passages):
    options = {"encoder": Table(), "batch_size": 4096} if kind == "dense" else {}
    Milvus.build(passages, folder / "milvus.db", kind=kind, **options).close()


def open_milvus(folder, kind):
    encoder = Table() if kind == "dense" else None
    index = Milvus.open(folder / "milvus.db", "memkit", encoder)
    client = index._store.client
    if kind == "dense":
        vector = lambda query: encoder.encode_queries([query])[0].tolist()  # noqa: E731
    else:
        from memkit.retrieval.sparse import Corpus, counted, query_vector

        rows, card = index._store.read_terms(sorted({t for q in QUERIES for t in counted(q)}))
        numbers = Corpus(card["documents"], card["length"])
        places = {term: place for term, (place, _) in rows.items()}
        df = {term: n for term, (_, n) in rows.items()}
        vector = lambda query: query_vector(counted(query), places, df, numbers)  # noqa: E731
    return index, lambda query: client.search(
        "memkit",
        [vector(query)],
        anns_field="vector",
        limit=K,
        output_fields=["title", "text"],
        search_params={"metric_type": "IP"},
    )


ENGINES = {
    "bm25s": (lambda *a: bm25("bm25s", *a), open_bm25s),
    "lucene": (lambda *a: bm25("lucene", *a), open_lucene),
    "dense, exact (beside FAISS IndexFlatIP)": (lambda *a: dense("exact", *a), open_dense),
    "dense, HNSW (beside FAISS IndexHNSWFlat)": (lambda *a: dense("faiss", *a), open_dense),
    "Milvus in a file, BM25": (lambda *a: milvus("bm25", *a), lambda f: open_milvus(f, "bm25")),
    "Milvus in a file, dense": (lambda *a: milvus("dense", *a), lambda f: open_milvus(f, "dense")),
}
QUERIES: list[str] = []


def search(name, folder):
    """Seconds of each search of memkit's and of the client's own, in turn; megabytes."""
    start = resident()
    index, own = ENGINES[name][1](folder)
    index.search(QUERIES, K)  # whatever is kept between searches is there
    seconds = {"memkit": [], "own": []}
    end, number = None, 0
    while end is None or time.monotonic() < end:
        query = QUERIES[number % len(QUERIES)]
        for side, call in (("memkit", lambda q: index.search([q], K)), ("own", own)):
            before = time.perf_counter()
            call(query)
            seconds[side].append(time.perf_counter() - before)
        number += 1
        if end is None and (number == WARM or sum(seconds["own"]) > SECONDS):
            end, seconds = time.monotonic() + SECONDS, {"memkit": [], "own": []}
    ours, theirs = (statistics.median(seconds[side]) * 1e3 for side in ("memkit", "own"))
    return {
        "memkit": ours,
        "own": theirs,
        "qps": len(seconds["memkit"]) / sum(seconds["memkit"]),
        "mb": resident() - start,
    }


def step(name, *arguments):
    """What this script prints at last, in a process of its own."""
    command = [sys.executable, __file__, "--engine", name, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=int, default=10_000)
    parser.add_argument("--engine", action="append", choices=list(ENGINES))
    parser.add_argument("--build", help=argparse.SUPPRESS)
    parser.add_argument("--search", help=argparse.SUPPRESS)
    return parser


def main():
    options = arguments().parse_args()
    if options.search:
        QUERIES.extend(json.loads(Path(options.search, "queries.json").read_text()))
        print(json.dumps(search(options.engine[0], Path(options.search))))
        return
    if options.build:
        passages, queries = corpus(options.passages)
        Path(options.build, "queries.json").write_text(json.dumps(queries))
        start = time.perf_counter()
        ENGINES[options.engine[0]][0](Path(options.build), passages)
        print(json.dumps(time.perf_counter() - start))
        return
    print("| engine | build s | memkit ms | own ms | ratio | memkit QPS | MB |")
    print("|---|---|---|---|---|---|---|")
    for name in options.engine or ENGINES:
        with tempfile.TemporaryDirectory() as folder:
            built, found = (
                step(name, f"--{what}", folder, "--passages", str(options.passages))
                for what in ("build", "search")
            )
        ratio = found["memkit"] / found["own"]
        print(
            f"| {name} | {built:.1f} | {found['memkit']:.2f} | {found['own']:.2f} | {ratio:.2f} | "
            f"{found['qps']:.0f} | {found['mb']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
