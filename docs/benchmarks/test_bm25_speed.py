"""Speed of BM25 beside its engines: `OMP_NUM_THREADS=1 pytest docs/benchmarks/test_bm25_speed.py`.

20,000 passages of 44 words with a Zipf vocabulary, 500 queries of six words, k = 10. Beside each
search of memkit's stands the engine's own for the same queries on the same index, whose results
stay as the engine gives them: `batch_search` of Anserini's `SimpleSearcher` (one thread, as in
pyserini), `retrieve` of bm25s. memkit's are lists of `Hit`, each with its passage.
`test_ratio` runs the two in turn, so that a busy machine slows both, and prints the ratio of the
medians after 30 rounds (15,000 searches), when Java has compiled what it runs: `-k ratio`.
"""

from __future__ import annotations

import random
import statistics
import time

import pytest

from memkit import Passage
from memkit.retrieval import java
from memkit.retrieval.analysis import terms
from memkit.retrieval.bm25 import BM25

PASSAGES, WORDS, QUERIES, K = 20_000, 44, 500, 10
MISSING = [finding for finding in java.diagnose() if not finding.ok]
ENGINES = [
    pytest.param("lucene", marks=pytest.mark.skipif(bool(MISSING), reason=str(MISSING))),
    "bm25s",
]


@pytest.fixture(scope="module")
def corpus():
    rng = random.Random(0)
    syllables = [a + b for a in "bcdfghklmnprst" for b in "aeiou"]
    vocabulary = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(20_000)]
    weights = [1 / (rank + 10) for rank in range(len(vocabulary))]
    words = rng.choices(vocabulary, weights, k=PASSAGES * WORDS)
    passages = [
        Passage(f"d{number}", " ".join(words[number * WORDS : (number + 1) * WORDS]))
        for number in range(PASSAGES)
    ]
    return passages, [" ".join(rng.choices(vocabulary, weights, k=6)) for _ in range(QUERIES)]


@pytest.fixture(scope="module", params=ENGINES)
def index(request, corpus, tmp_path_factory):
    path = tmp_path_factory.mktemp("bm25") / "index"
    with BM25.build(corpus[0], path, engine=request.param) as index:
        yield index


@pytest.fixture(scope="module")
def engines_own(index, corpus):
    """The engine's own search of all queries."""
    if index.engine == "bm25s":
        import bm25s

        scorer = bm25s.BM25.load(index.path / "bm25s", mmap=True, show_progress=False)
        return lambda: scorer.retrieve(list(map(terms, corpus[1])), k=K, show_progress=False)
    from jnius import autoclass

    searcher = autoclass("io.anserini.search.SimpleSearcher")(str(index.path / "lucene"))
    searcher.set_bm25(0.9, 0.4)
    queries, names = autoclass("java.util.ArrayList")(), autoclass("java.util.ArrayList")()
    for number, query in enumerate(corpus[1]):
        queries.add(query)
        names.add(str(number))
    return lambda: searcher.batch_search(queries, names, K, 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_build(benchmark, corpus, tmp_path, engine):
    """Indexing all passages into a new folder."""

    def build():
        BM25.build(corpus[0], tmp_path / str(len(list(tmp_path.iterdir()))), engine=engine).close()

    benchmark.pedantic(build, rounds=2, warmup_rounds=1)


def test_search(benchmark, index, corpus):
    """All queries in one call."""
    benchmark.extra_info["queries"] = QUERIES
    benchmark.pedantic(index.search, (corpus[1], K), rounds=10, warmup_rounds=5)


def test_engines_own_batch_search(benchmark, index, engines_own):
    """The same queries."""
    benchmark.extra_info["queries"] = QUERIES
    benchmark.pedantic(engines_own, rounds=10, warmup_rounds=5)


def test_search_one_by_one(benchmark, index, corpus):
    """One query in a call."""
    turn = iter(corpus[1] * 1_000)
    benchmark(lambda: index.search([next(turn)], K))


def test_add_and_remove(benchmark, index):
    """One passage more, and one less."""

    def change():
        index.add([Passage("new", "a passage that was not there")])
        index.remove(["new"])

    benchmark.pedantic(change, rounds=3)


def test_ratio(index, corpus, engines_own, capsys):
    """Median time of memkit's search over that of the engine's own, in turn, after warming up."""
    seconds = {"memkit": [], "own": []}
    for _ in range(50):
        for name, search in (("memkit", lambda: index.search(corpus[1], K)), ("own", engines_own)):
            start = time.perf_counter()
            search()
            seconds[name].append(time.perf_counter() - start)
    ours, own = (statistics.median(times[30:]) / QUERIES for times in seconds.values())
    with capsys.disabled():
        print(
            f"\n{index.engine}: memkit {ours * 1e6:.0f} us a query, own {own * 1e6:.0f} us, "
            f"ratio {ours / own:.2f}"
        )
