from __future__ import annotations

import functools
import json
import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from memkit.errors import BadInput, IndexMismatch, MemkitError, MissingDependency
from memkit.retrieval import java
from memkit.retrieval.base import Index
from memkit.retrieval.bm25 import BM25
from memkit.retrieval.manifest import Manifest
from memkit.testing.index import IndexContract
from memkit.testing.retriever import CORPUS
from memkit.types import Passage

MISSING = [finding for finding in java.diagnose() if not finding.ok]
needs_lucene = pytest.mark.skipif(bool(MISSING), reason=f"Lucene cannot run here: {MISSING}")
ENGINES = [pytest.param("lucene", marks=needs_lucene), "bm25s"]


class _Contract(IndexContract):
    engine: str

    @pytest.fixture
    def build(self) -> Callable[..., Index]:
        return functools.partial(BM25.build, engine=self.engine)

    @pytest.fixture
    def open(self) -> Callable[..., Index]:
        return BM25.open


@needs_lucene
class TestOnLucene(_Contract):
    engine = "lucene"


class TestWithoutJava(_Contract):
    engine = "bm25s"


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def index(engine: str) -> Iterator[BM25]:
    with BM25.build(CORPUS, engine=engine) as index:
        yield index


def ids(index: BM25, query: str, k: int = 10) -> list[str]:
    return [hit.passage.id for hit in index.search([query], k=k)[0]]


def test_only_passages_with_a_term_of_the_query_are_hits(index: BM25) -> None:
    assert ids(index, "tea") == ["tea"]
    assert ids(index, "zeppelin") == []


def test_a_query_of_stop_words_alone_finds_nothing(index: BM25) -> None:
    assert ids(index, "to be or not to be") == []
    assert ids(index, "?!") == []
    assert [len(hits) for hits in index.search(["the", "tea", "?"])] == [0, 1, 0]


def test_the_title_is_indexed_and_words_are_stemmed(engine: str) -> None:
    titled = Passage("1", "It was brewed.", "Assam")
    with BM25.build([titled, Passage("2", "Another passage.")], engine=engine) as index:
        assert ids(index, "assam") == ["1"]
        assert ids(index, "brewing brews") == ["1"]


def test_a_term_that_stands_twice_counts_twice(index: BM25) -> None:
    (once,), (twice,) = (index.search([query])[0] for query in ("novel", "novel novel"))
    assert twice.score == pytest.approx(2 * once.score)


def test_a_query_may_be_longer_than_lucene_allows(index: BM25) -> None:
    words = [f"word{number}" for number in range(3_000)]
    assert ids(index, " ".join([*words, "tea"])) == ["tea"]


def test_a_corpus_of_stop_words_can_be_built_and_gains_words_later(engine: str) -> None:
    with BM25.build([Passage("1", "The")], engine=engine) as index:
        assert (len(index), ids(index, "the tea")) == (1, [])
        index.add([Passage("2", "tea")])
        assert ids(index, "the tea") == ["2"]


@pytest.mark.parametrize(
    "id", ["with space/and:colon*", "日本 😀", "a\nb\x00", '"id"', "x" * 5_000]
)
def test_ids_can_be_any_text(engine: str, id: str) -> None:
    with BM25.build([*CORPUS, Passage(id, "zeppelin")], engine=engine) as index:
        assert ids(index, "zeppelin") == [id]
        index.remove([id])
        assert ids(index, "zeppelin") == []


def test_text_with_half_a_surrogate_pair_is_kept_as_it_was(engine: str) -> None:
    broken = Passage("1", "tea \ud83d and zeppelin")
    with BM25.build([broken], engine=engine) as index:
        assert index.search(["zeppelin \ud83d"])[0][0].passage == broken


def test_many_changes_equal_one_build(engine: str, tmp_path: Path) -> None:
    rng = random.Random(7)
    words = [f"w{number}" for number in range(30)]
    there: dict[str, Passage] = {}
    index = BM25.build([Passage("first", "w0")], engine=engine)
    there["first"] = Passage("first", "w0")
    for step in range(6):
        new = [
            Passage(f"{rng.random()}", " ".join(rng.choices(words, k=rng.randint(1, 9))))
            for _ in range(rng.randint(1, 15))
        ]
        index.add(new)
        there |= {passage.id: passage for passage in new}
        gone = rng.sample(sorted(there), len(there) // 3)
        index.remove(gone)
        there = {id: passage for id, passage in there.items() if id not in gone}
        other = [
            Passage(id, " ".join(rng.choices(words, k=rng.randint(1, 9))))
            for id in rng.sample(sorted(there), len(there) // 2)
        ]
        index.replace(other)
        there |= {passage.id: passage for passage in other}
        fresh = BM25.build(there.values(), tmp_path / str(step), engine=engine)
        assert list(index.passages()) == list(fresh.passages())
        assert index.search(words, k=50) == fresh.search(words, k=50)
        assert index.manifest is not None
        assert fresh.manifest is not None
        assert index.manifest.corpus_sha256 == fresh.manifest.corpus_sha256
    index.close()


def test_the_card_says_how_it_was_made(index: BM25, engine: str) -> None:
    assert index.engine == engine
    assert index.manifest is not None
    assert index.manifest.engine == engine
    assert index.manifest.parameters == {"k1": 0.9, "b": 0.4, "analyser": "lucene-english-porter"}


def test_k1_and_b_outlive_opening_and_changes(engine: str, tmp_path: Path) -> None:
    usual = BM25.build(CORPUS, engine=engine).search(["tea leaves"])
    other = BM25.build(CORPUS[1:], tmp_path / "index", engine=engine, k1=2.0, b=1.0)
    other.add(CORPUS[:1])
    found = BM25.open(tmp_path / "index").search(["tea leaves"])
    assert found == other.search(["tea leaves"])
    assert found[0][0].score != pytest.approx(usual[0][0].score, rel=0.05)


def test_a_temporary_index_is_gone_when_it_is_closed(engine: str) -> None:
    index = BM25.build(CORPUS, engine=engine)
    assert index.path.is_dir()
    index.close()
    index.close()
    assert not index.path.parent.exists()
    with pytest.raises(MemkitError, match=r"closed.*BM25\.open"):
        index.search(["tea"])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"engine": "elastic"}, r"engine is 'elastic'.*'auto', 'lucene', 'bm25s'"),
        ({"k1": -0.1}, r"k1 is -0\.1.*at least 0"),
        ({"k1": float("nan")}, "k1 is nan"),
        ({"b": 1.1}, r"b is 1\.1.*0 to 1"),
    ],
)
def test_refuses_parameters_that_make_no_sense(
    argument: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=message):
        BM25.build(CORPUS, tmp_path / "index", **{"engine": "bm25s", **argument})
    assert list(tmp_path.iterdir()) == []


def test_refuses_ids_that_are_not_in_a_list(index: BM25) -> None:
    with pytest.raises(BadInput, match=r"ids is the string 'tea'.*\['tea'\]"):
        index.remove("tea")
    assert len(index) == len(CORPUS)


def test_refuses_an_engine_or_an_analyser_that_it_does_not_know(tmp_path: Path) -> None:
    for number, changed in enumerate([{"engine": "elastic"}, {"parameters": {"analyser": "x"}}]):
        path = tmp_path / str(number)
        BM25.build(CORPUS, path, engine="bm25s")
        card = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps({**card, **changed}))
        with pytest.raises(IndexMismatch, match=r"'(elastic|x)'.*allowed.*lucene-english-porter"):
            BM25.open(path)


def test_damage_that_leaves_the_size_is_refused_too(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "index"
    BM25.build(CORPUS, path, engine=engine)
    victim = next((path / "lucene").glob("segments_*"), path / "bm25s" / "data.csc.index.npy")
    victim.write_bytes(bytes(victim.stat().st_size))
    with pytest.raises(IndexMismatch, match=f"{engine}.*build it anew"):
        BM25.open(path)


def test_auto_takes_bm25s_where_lucene_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = [java.Finding("Java", False, "none", "install it")]
    monkeypatch.setattr(java, "diagnose", lambda: absent)
    with BM25.build(CORPUS) as index:
        assert index.engine == "bm25s"


@needs_lucene
def test_auto_takes_lucene_where_it_can_run() -> None:
    with BM25.build(CORPUS) as index:
        assert index.engine == "lucene"


def test_an_error_while_the_card_is_written_leaves_nothing(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    index = BM25.build(CORPUS, tmp_path / "index", engine=engine)
    before = index.search(["tea"])
    monkeypatch.setattr(Manifest, "write", fail)
    with pytest.raises(KeyboardInterrupt):
        BM25.build(CORPUS, tmp_path / "other", engine=engine)
    with pytest.raises(KeyboardInterrupt):
        index.add([Passage("new", "tea")])
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    assert index.search(["tea"]) == BM25.open(tmp_path / "index").search(["tea"]) == before


def test_a_killed_build_leaves_nothing_that_opens(engine: str, tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import os, signal
        from memkit.retrieval.bm25 import BM25
        from memkit.retrieval.manifest import Manifest
        from memkit.types import Passage
        Manifest.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        BM25.build([Passage("1", "tea")], {str(tmp_path / "index")!r}, engine={engine!r})
    """)
    died = subprocess.run([sys.executable, "-c", script], timeout=120)
    assert died.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()  # the engine had done its work
    assert left.name.startswith(".index.")
    assert list((left / engine).iterdir())
    for path in (tmp_path / "index", left):
        with pytest.raises(IndexMismatch):
            BM25.open(path)
    assert len(BM25.build(CORPUS, tmp_path / "index", engine=engine)) == len(CORPUS)


def test_threads_may_share_an_index(index: BM25) -> None:
    queries = ["tea leaves", "novel", "fog"]
    expected, found = index.search(queries), []

    def work() -> None:
        for _ in range(5):
            found.append(index.search(queries))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 20


@needs_lucene
def test_lucene_refuses_an_id_longer_than_a_term(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"32767 characters.*32766 bytes"):
        BM25.build([Passage("x" * 32_767, "tea")], tmp_path / "index", engine="lucene")
    assert list(tmp_path.iterdir()) == []


@needs_lucene
def test_searching_and_building_print_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    index = BM25.build(CORPUS, tmp_path / "index", engine="lucene")
    index.search(["tea"])
    index.add([Passage("new", "more tea")])
    index.remove(["new"])
    assert capfd.readouterr() == ("", "")


def test_lucene_asked_for_and_absent_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise MissingDependency("Lucene needs Java 21 or later; found: none")

    monkeypatch.setattr("memkit.retrieval.lucene.jvm", absent)
    with pytest.raises(MissingDependency):
        BM25.build(CORPUS, tmp_path / "index", engine="lucene")
    assert list(tmp_path.iterdir()) == []


def test_rows_of_the_table_are_as_bm25s_scores_them() -> None:
    from memkit.retrieval.bm25s_engine import _best

    scores = np.array([1.0, 3.0, 0.0, 3.0, 2.0, 1.0], dtype=np.float32)
    assert [list(_best(scores, k)) for k in (1, 2, 4, 5, 9)] == [
        [1],
        [1, 3],
        [1, 3, 4, 0],
        [1, 3, 4, 0, 5],
        [1, 3, 4, 0, 5],
    ]
