"""Independent implementations of BM25 must agree: Lucene, bm25s, and one written out here."""

from __future__ import annotations

import json
import math
import random
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from memkit.errors import IndexMismatch, MemkitError
from memkit.retrieval import java
from memkit.retrieval.analysis import terms
from memkit.retrieval.bm25 import BM25
from memkit.types import Hit, Passage

MISSING = [finding for finding in java.diagnose() if not finding.ok]
needs_lucene = pytest.mark.skipif(bool(MISSING), reason=f"Lucene cannot run here: {MISSING}")
ENGINES = [pytest.param("lucene", marks=needs_lucene), "bm25s"]
float32 = np.float32


class Reference:
    """Lucene's BM25Similarity to the last bit, in 32-bit floats, one posting at a time."""

    def __init__(self, passages: Iterable[Passage], k1: float = 0.9, b: float = 0.4) -> None:
        self.postings: dict[str, dict[str, int]] = defaultdict(dict)
        lengths = {}
        for passage in passages:
            counts = Counter(terms(passage.contents))
            for term, count in counts.items():
                self.postings[term][passage.id] = count
            if counts:
                lengths[passage.id] = counts.total()
        self.count = len(lengths)
        average = float32(sum(lengths.values()) / self.count)
        k1, b, one = float32(k1), float32(b), float32(1)
        with np.errstate(divide="ignore"):  # k1 of 0: the inverse is infinite, as in Java
            self.inverse = {
                id: one / (k1 * ((one - b) + b * float32(self.in_a_byte(length)) / average))
                for id, length in lengths.items()
            }

    @staticmethod
    def in_a_byte(length: int) -> int:
        """SmallFloat: up to 40 exactly, then three bits after the leading one."""
        if length < 40:
            return length
        bits = (length - 24).bit_length() - 4
        return ((length - 24) >> bits << bits) + 24 if bits > 0 else length

    def search(self, query: str, k: int) -> list[tuple[str, float]]:
        scores: dict[str, float] = defaultdict(float)
        for term, boost in Counter(terms(query)).items():
            found = self.postings.get(term, {})
            rarity = (self.count - len(found) + 0.5) / (len(found) + 0.5)
            weight = float32(boost) * float32(math.log(1 + rarity))
            for id, count in found.items():
                saturation = float32(1) + float32(count) * self.inverse[id]
                scores[id] += float(weight - weight / saturation)
        rounded = {id: float(float32(score)) for id, score in scores.items()}
        return sorted(rounded.items(), key=lambda pair: (-pair[1], pair[0]))[:k]


def invented(count: int) -> tuple[list[Passage], list[str]]:
    """Passages of 3 to 300 words with a Zipf vocabulary, some of them equal, and queries."""
    rng = random.Random(11)
    syllables = [a + b for a in "bdfglmnprstv" for b in "aeiou"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(4_000)]
    ends = ["", "", "", "s", "ing", "ed", "ation", "ness", "'s"]
    words = [word + rng.choice(ends) for word in words]
    weights = [1 / (rank + 5) for rank in range(len(words))]
    texts = [
        " ".join(rng.choices(words, weights, k=int(3 * 100 ** rng.random()))) for _ in range(count)
    ]
    texts += texts[: count // 10]
    rng.shuffle(texts)
    queries = [" ".join(rng.choices(words, weights, k=rng.randint(1, 8))) for _ in range(200)]
    return [Passage(f"{rng.random()}", text) for text in texts], queries


@pytest.fixture(scope="module")
def synthetic() -> tuple[list[Passage], list[str]]:
    return invented(1_000)


@pytest.fixture(scope="module")
def cacm(shared: Path) -> tuple[list[Passage], dict[str, str], dict[str, set[str]]]:
    """Passages, topics, and the relevant ids of the 52 judged topics."""
    folder = shared / "data" / "cacm"
    if not folder.is_dir():
        pytest.skip("needs the CACM collection in the developers' folder of real data")
    rows = map(json.loads, (folder / "cacm.json").read_text().splitlines())
    passages = [Passage(row["id"], row["contents"]) for row in rows]
    found = re.findall(
        r"<DOCNO>\s*(\d+)\s*</DOCNO>(.*?)</DOC>", (folder / "topics.cacm.txt").read_text(), re.S
    )
    relevant: dict[str, set[str]] = defaultdict(set)
    for line in (folder / "qrels.cacm.txt").read_text().splitlines():
        topic, _, id, grade = line.split()
        if int(grade) > 0:
            relevant[topic].add(id)
    return passages, {number: text.strip() for number, text in found}, relevant


def pairs(results: Iterable[list[Hit]]) -> list[list[tuple[str, float]]]:
    return [[(hit.passage.id, hit.score) for hit in hits] for hits in results]


def overlap(one: list[list[Hit]], other: list[list[Hit]]) -> float:
    """Mean share of passages that two rankings have in common."""
    shares = []
    for a, b in zip(one, other, strict=True):
        ids = {hit.passage.id for hit in a}, {hit.passage.id for hit in b}
        if longest := max(map(len, ids)):
            shares.append(len(ids[0] & ids[1]) / longest)
    return statistics.fmean(shares)


def test_lengths_in_a_byte_are_coarse_only_above_forty() -> None:
    lengths = [Reference.in_a_byte(length) for length in range(400)]
    assert lengths[:40] == list(range(40))
    assert lengths != list(range(400))
    assert sorted(lengths) == lengths


@needs_lucene
def test_lengths_in_a_byte_are_lucenes() -> None:
    java.jvm()
    from jnius import autoclass

    small = autoclass("org.apache.lucene.util.SmallFloat")
    for length in [*range(1_000), 2**20 - 1, 2**20, 2**31 - 1]:
        assert Reference.in_a_byte(length) == small.byte4ToInt(small.intToByte4(length))


@needs_lucene
def test_lucene_equals_the_reference_to_the_last_bit(
    synthetic: tuple[list[Passage], list[str]],
) -> None:
    passages, queries = synthetic
    for k1, b in ((0.9, 0.4), (1.5, 1.0), (0.0, 0.0)):
        reference = Reference(passages, k1, b)
        with BM25.build(passages, engine="lucene", k1=k1, b=b) as index:
            found = pairs(index.search(queries, k=50))
        assert sum(map(len, found)) > 1_000
        for query, hits in zip(queries, found, strict=True):
            expected = reference.search(query, 50)
            assert [id for id, _ in hits] == [id for id, _ in expected]
            assert [float32(score) for _, score in hits] == [float32(s) for _, s in expected]


@needs_lucene
def test_the_engines_agree_on_invented_passages(
    synthetic: tuple[list[Passage], list[str]],
) -> None:
    passages, queries = synthetic
    with BM25.build(passages, engine="lucene") as a, BM25.build(passages, engine="bm25s") as b:
        assert overlap(a.search(queries), a.search(queries[::-1])) < 0.5  # it tells them apart
        assert overlap(a.search(queries), b.search(queries)) >= 0.98


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.5, 1.0), (0.0, 0.0), (1e-9, 0.4)])
def test_bm25s_equals_the_reference_but_for_the_last_bits(
    synthetic: tuple[list[Passage], list[str]], k1: float, b: float
) -> None:
    passages, queries = synthetic
    reference = Reference(passages, k1, b)
    with BM25.build(passages, engine="bm25s", k1=k1, b=b) as index:
        for query, hits in zip(queries, pairs(index.search(queries, k=50)), strict=True):
            expected = reference.search(query, 50)
            assert [s for _, s in hits] == pytest.approx([s for _, s in expected], rel=1e-5)
            top = dict(hits[:10])
            assert all(
                top.get(id, score) == pytest.approx(score, rel=1e-5) for id, score in expected
            )


@pytest.mark.parametrize("engine", ENGINES)
def test_cacm_has_the_official_figures(
    engine: str, cacm: tuple[list[Passage], dict[str, str], dict[str, set[str]]]
) -> None:
    """Anserini's page gives MAP 0.3123 and P@30 0.1942 at depth 1000 for Lucene."""
    passages, topics, relevant = cacm
    with BM25.build(passages, engine=engine) as index:
        results = index.search([topics[topic] for topic in relevant], k=1_000)
    average, at_30 = [], []
    for ids, hits in zip(relevant.values(), results, strict=True):
        ranks = [hit.rank for hit in hits if hit.passage.id in ids]
        average.append(sum(n / rank for n, rank in enumerate(ranks, 1)) / len(ids))
        at_30.append(sum(rank <= 30 for rank in ranks) / 30)
    assert len(relevant) == 52
    assert statistics.fmean(average) == pytest.approx(0.3123, abs=0.002)
    assert statistics.fmean(at_30) == pytest.approx(0.194, abs=0.004)


@needs_lucene
def test_the_engines_agree_on_cacm(
    cacm: tuple[list[Passage], dict[str, str], dict[str, set[str]]],
) -> None:
    passages, topics, _ = cacm
    queries = list(topics.values())
    reference = Reference(passages)
    with BM25.build(passages, engine="lucene") as a, BM25.build(passages, engine="bm25s") as b:
        found = a.search(queries)
        assert overlap(found, b.search(queries)) >= 0.98
        top = {q: a.search([q])[0][0] for q in ("information retrieval", "search")}
    for query, hits in zip(queries, pairs(found), strict=True):
        assert [id for id, _ in hits] == [id for id, _ in reference.search(query, 10)]
    # Anserini's figures are of the HTML files, whose average length differs a little
    assert [(hit.passage.id, hit.score) for hit in top.values()] == [
        ("CACM-3134", pytest.approx(4.7655, abs=0.001)),
        ("CACM-3058", pytest.approx(2.8576, abs=0.001)),
    ]


SAMPLE = [
    Passage("doc1", "contents of doc one."),
    Passage("doc2", "contents of document two."),
    Passage("doc3", "here is some text in document three."),
]


@pytest.mark.parametrize("engine", ENGINES)
def test_pyserinis_sample_has_its_known_scores(engine: str) -> None:
    expected = {
        "document": {"doc2": 0.2562, "doc3": 0.2314},
        "one": {"doc1": 0.5346},
        "contents": {"doc1": 0.2562, "doc2": 0.256199},
        "text": {"doc3": 0.4830},
    }
    with BM25.build(SAMPLE, engine=engine) as index:
        for query, scores in expected.items():
            found = {hit.passage.id: hit.score for hit in index.search([query])[0]}
            assert list(found) == list(scores)
            assert found == pytest.approx(scores, abs=1e-4)


def pyserini_index(folder: Path, corpus: Iterable[Passage], *options: str) -> Path:
    """What `python -m pyserini.index.lucene` does: Anserini's IndexCollection."""
    java.jvm()
    from jnius import autoclass

    source, target = folder / "corpus", folder / "pyserini"
    source.mkdir()
    rows = [json.dumps({"id": passage.id, "contents": passage.contents}) for passage in corpus]
    (source / "part.jsonl").write_text("\n".join(rows))
    arguments = ["-collection", "JsonCollection", "-generator", "DefaultLuceneDocumentGenerator"]
    arguments += ["-threads", "1", "-input", str(source), "-index", str(target), *options]
    autoclass("io.anserini.index.IndexCollection").main(arguments)
    return target


@needs_lucene
@pytest.mark.parametrize("option", ["-storeRaw", "-storeContents"])
def test_an_index_that_pyserini_made_opens_as_it_is(tmp_path: Path, option: str) -> None:
    path = pyserini_index(tmp_path, SAMPLE, option)
    files = {file.name: file.stat().st_mtime_ns for file in path.iterdir()}
    with BM25.open(path, corpus=SAMPLE) as theirs, BM25.build(SAMPLE, engine="lucene") as ours:
        queries = ["document", "contents text", "the"]
        assert theirs.search(queries) == ours.search(queries)
        assert list(theirs.passages()) == SAMPLE
        assert (len(theirs), theirs.engine, theirs.manifest) == (3, "lucene", None)
        for change in (lambda: theirs.add(SAMPLE), lambda: theirs.remove(["doc1"])):
            with pytest.raises(MemkitError, match=r"not made by memkit.*BM25\.build"):
                change()
    with pytest.raises(IndexMismatch, match="another corpus"):
        BM25.open(path, corpus=SAMPLE[1:])
    assert {file.name: file.stat().st_mtime_ns for file in path.iterdir()} == files


@needs_lucene
def test_an_index_that_pyserini_made_without_text_is_refused(tmp_path: Path) -> None:
    path = pyserini_index(tmp_path, SAMPLE)
    with pytest.raises(IndexMismatch, match=r"stores no text.*'doc1'.*--storeRaw"):
        BM25.open(path)


@needs_lucene
def test_anserini_searches_an_index_of_ours(tmp_path: Path) -> None:
    BM25.build(SAMPLE, tmp_path / "index", engine="lucene")
    from jnius import autoclass

    searcher = autoclass("io.anserini.search.SimpleSearcher")(str(tmp_path / "index" / "lucene"))
    assert [hit.docid for hit in searcher.search("contents", 10)] == ["doc1", "doc2"]
    searcher.close()
