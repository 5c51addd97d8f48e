"""What every retriever and every index promises: subclass, override a fixture or two, run pytest.

class TestMine(IndexContract):
    @pytest.fixture
    def build(self):
        return MyIndex.build

    @pytest.fixture
    def open(self):
        return MyIndex.open
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memkit.errors import BadInput, IndexMismatch
from memkit.retrieval.base import Index, Retriever
from memkit.retrieval.passages import corpus_sha256
from memkit.types import Hit, Passage

__all__ = ["IndexContract", "RetrieverContract"]

TWINS = "a lighthouse keeper counts ships in the fog"
CORPUS = (
    Passage("twin/b", TWINS),
    Passage("paris", "Paris is the capital of France and lies on the Seine.", "Paris"),
    Passage("erewhon", "Erewhon is a novel by Samuel Butler, published in 1872."),
    Passage("tea", "Green tea is brewed from leaves that were not fermented.", "Green tea"),
    Passage("twin/a", TWINS),
    Passage("Émile 1", "Émile is a treatise on education written by Rousseau."),
    Passage("comet", "A comet is an icy body whose tail points away from the sun."),
    Passage("twin/c", TWINS),
    Passage("bridge", "The bridge over the river was built from steel and granite."),
    Passage("chess", "Chess is played by two people on a board of sixty-four squares."),
)


class RetrieverContract:
    """Search is search. Override `retriever`, and `passages` and `wanted` where it needs others."""

    @pytest.fixture
    def passages(self) -> list[Passage]:
        """What the retriever holds."""
        return list(CORPUS)

    @pytest.fixture
    def wanted(self) -> dict[str, str]:
        """Queries, each with the id of the passage that must come first."""
        return {
            "capital of France on the Seine": "paris",
            "novel by Samuel Butler": "erewhon",
            "icy body with a tail": "comet",
            TWINS: "twin/a",
        }

    @pytest.fixture
    def retriever(self) -> Retriever:
        """The retriever, holding `passages`."""
        raise NotImplementedError

    def test_finds_what_is_wanted_for_each_query_in_order(
        self, retriever: Retriever, wanted: dict[str, str]
    ) -> None:
        """The trivial case is false: other queries, other passages."""
        found = [hits[0].passage.id for hits in retriever.search(list(wanted), k=3)]
        assert len(set(found)) > 1
        assert found == list(wanted.values())

    def test_a_hit_holds_the_passage_itself(
        self, retriever: Retriever, passages: list[Passage], wanted: dict[str, str]
    ) -> None:
        """Id, title and text are those that went in."""
        by_id = {passage.id: passage for passage in passages}
        for hits in retriever.search(list(wanted), k=len(passages)):
            assert hits
            assert all(hit.passage == by_id[hit.passage.id] for hit in hits)

    def test_ranks_count_from_one_scores_fall_and_ties_are_in_order_of_id(
        self, retriever: Retriever, passages: list[Passage], wanted: dict[str, str]
    ) -> None:
        """Also where k cuts through a tie."""
        for k in (1, 2, 3, len(passages)):
            for hits in retriever.search(list(wanted), k=k):
                assert len(hits) <= k
                assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
                keys = [(-hit.score, hit.passage.id) for hit in hits]
                assert keys == sorted(set(keys))

    def test_more_hits_begin_with_the_fewer(
        self, retriever: Retriever, passages: list[Passage], wanted: dict[str, str]
    ) -> None:
        """And k beyond the matches gives the matches, each once."""
        everything = retriever.search(list(wanted), k=len(passages))
        assert retriever.search(list(wanted), k=10**9) == everything
        for k in (1, 2, 5):
            assert retriever.search(list(wanted), k=k) == [hits[:k] for hits in everything]

    def test_a_batch_equals_one_query_at_a_time(
        self, retriever: Retriever, wanted: dict[str, str]
    ) -> None:
        """The same passages; scores up to what a batch changes in floating point."""
        batch = retriever.search(list(wanted))
        single = [retriever.search([query])[0] for query in wanted]
        assert _ids(batch) == _ids(single)
        assert _scores(batch) == pytest.approx(_scores(single), rel=1e-5)

    def test_no_query_gives_no_list(self, retriever: Retriever) -> None:
        """An empty batch is no error."""
        assert retriever.search([]) == []

    @pytest.mark.parametrize("query", ["", " \n"])
    def test_refuses_an_empty_query(self, retriever: Retriever, query: str) -> None:
        """Naming it."""
        with pytest.raises(BadInput, match=r"query 1 is"):
            retriever.search(["tea", query])

    def test_refuses_a_query_that_is_not_in_a_list(self, retriever: Retriever) -> None:
        """A string is a sequence of strings, and never meant as one."""
        with pytest.raises(BadInput, match="queries is the string 'tea'"):
            retriever.search("tea")

    @pytest.mark.parametrize("k", [0, -1, True, 1.5])
    def test_refuses_a_k_that_is_no_count(self, retriever: Retriever, k: Any) -> None:
        """Naming it."""
        with pytest.raises(BadInput, match=f"k is {k!r}"):
            retriever.search(["tea"], k=k)


class IndexContract(RetrieverContract):
    """An index changes, and lives in a folder. Override `build` and `open`."""

    @pytest.fixture
    def build(self) -> Callable[..., Index]:
        """`build(passages, path)` makes the index in a folder and gives it, open."""
        raise NotImplementedError

    @pytest.fixture
    def open(self) -> Callable[..., Index]:
        """`open(path)` opens the folder; `open(path, corpus=passages)` checks what it holds."""
        raise NotImplementedError

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """Where `retriever` is."""
        return tmp_path / "index"

    @pytest.fixture
    def retriever(self, build: Callable[..., Index], passages: list[Passage], path: Path) -> Index:
        """The index of `passages`."""
        return build(passages, path)

    def test_counts_its_passages(self, retriever: Index, passages: list[Passage]) -> None:
        """`len` is the number of passages."""
        assert len(retriever) == len(passages)

    def test_opened_again_it_finds_the_same(
        self,
        retriever: Index,
        open: Callable[..., Index],
        path: Path,
        passages: list[Passage],
        wanted: dict[str, str],
    ) -> None:
        """Saving and opening change nothing, and the corpus given is recognised in any order."""
        again = open(path, corpus=passages[::-1])
        assert len(again) == len(retriever)
        assert _hits(again, wanted) == _hits(retriever, wanted)

    def test_the_order_of_the_corpus_does_not_count(
        self,
        retriever: Index,
        build: Callable[..., Index],
        tmp_path: Path,
        passages: list[Passage],
        wanted: dict[str, str],
    ) -> None:
        """A corpus is a set."""
        assert _same(build(passages[::-1], tmp_path / "reversed"), retriever, wanted)

    def test_what_is_added_is_found_at_once_as_if_it_had_always_been_there(
        self,
        build: Callable[..., Index],
        open: Callable[..., Index],
        retriever: Index,
        path: Path,
        tmp_path: Path,
        passages: list[Passage],
        wanted: dict[str, str],
    ) -> None:
        """Scores too: what they count of the corpus is counted anew."""
        index = build(passages[1::2], tmp_path / "half")
        before = _hits(index, wanted)
        index.add(iter(passages[::2]))
        assert _hits(index, wanted) != before
        assert len(index) == len(passages)
        assert _same(index, retriever, wanted)
        assert _hits(open(tmp_path / "half", corpus=passages), wanted) == _hits(index, wanted)

    def test_what_is_removed_is_gone_as_if_it_had_never_been_there(
        self,
        build: Callable[..., Index],
        open: Callable[..., Index],
        retriever: Index,
        path: Path,
        tmp_path: Path,
        passages: list[Passage],
        wanted: dict[str, str],
    ) -> None:
        """Scores too, and the id is free again."""
        before = _hits(retriever, wanted)
        gone, kept = passages[:3], passages[3:]
        retriever.remove(passage.id for passage in gone)
        assert _hits(retriever, wanted) != before
        assert len(retriever) == len(kept)
        assert _same(retriever, build(kept, tmp_path / "kept"), wanted)
        assert _hits(open(path, corpus=kept), wanted) == _hits(retriever, wanted)
        retriever.add(gone)
        assert _same(retriever, build(passages, tmp_path / "all"), wanted)

    def test_what_is_replaced_is_found_by_its_new_text_and_no_longer_by_the_old(
        self,
        build: Callable[..., Index],
        open: Callable[..., Index],
        retriever: Index,
        path: Path,
        tmp_path: Path,
        passages: list[Passage],
        wanted: dict[str, str],
    ) -> None:
        """As if it had always been there, scores too; two passages exchange their texts."""
        one, other = passages[1], passages[-1]
        swapped = [dataclasses.replace(other, id=one.id), dataclasses.replace(one, id=other.id)]
        after = [next((new for new in swapped if new.id == old.id), old) for old in passages]
        before = _hits(retriever, wanted)
        retriever.replace(iter(swapped))
        assert _hits(retriever, wanted) != before
        assert len(retriever) == len(passages)
        assert _same(retriever, build(after, tmp_path / "after"), wanted)
        assert _hits(open(path, corpus=after), wanted) == _hits(retriever, wanted)
        retriever.replace([one, other])
        assert _same(retriever, build(passages, tmp_path / "all"), wanted)

    def test_nothing_added_removed_or_replaced_changes_nothing(
        self, retriever: Index, wanted: dict[str, str]
    ) -> None:
        """Empty lists are no error."""
        before = _hits(retriever, wanted)
        retriever.add([])
        retriever.remove([])
        retriever.replace([])
        assert _hits(retriever, wanted) == before

    @pytest.mark.parametrize("fault", ["there already", "twice", "exception"])
    def test_an_addition_that_fails_adds_nothing(
        self, retriever: Index, path: Path, wanted: dict[str, str], fault: str
    ) -> None:
        """Neither here nor on disk."""
        new = Passage("new", "A new passage on ships and tea.")
        more, error = {
            "there already": (iter([new, CORPUS[0]]), BadInput),
            "twice": (iter([new, dataclasses.replace(new, text="other")]), BadInput),
            "exception": (_interrupted([new]), KeyboardInterrupt),
        }[fault]
        before, files = _hits(retriever, wanted), _files(path.parent)
        with pytest.raises(error):
            retriever.add(more)
        assert (_hits(retriever, wanted), _files(path.parent)) == (before, files)

    def test_a_removal_that_fails_removes_nothing(
        self, retriever: Index, path: Path, passages: list[Passage], wanted: dict[str, str]
    ) -> None:
        """An id that is not there is named; the last passage stays."""
        before, files = _hits(retriever, wanted), _files(path.parent)
        with pytest.raises(BadInput, match="'no such id'"):
            retriever.remove([passages[0].id, "no such id"])
        with pytest.raises(BadInput, match="empty"):
            retriever.remove([passage.id for passage in passages])
        assert (_hits(retriever, wanted), _files(path.parent)) == (before, files)

    @pytest.mark.parametrize("fault", ["not there", "twice", "exception"])
    def test_a_replacement_that_fails_replaces_nothing(
        self,
        retriever: Index,
        path: Path,
        passages: list[Passage],
        wanted: dict[str, str],
        fault: str,
    ) -> None:
        """Neither here nor on disk."""
        new = dataclasses.replace(passages[0], text="A new passage on ships and tea.")
        more, error = {
            "not there": (iter([new, Passage("no such id", "tea")]), BadInput),
            "twice": (iter([new, new]), BadInput),
            "exception": (_interrupted([new]), KeyboardInterrupt),
        }[fault]
        before, files = _hits(retriever, wanted), _files(path.parent)
        with pytest.raises(error):
            retriever.replace(more)
        assert (_hits(retriever, wanted), _files(path.parent)) == (before, files)

    @pytest.mark.parametrize("fault", ["empty", "twice", "exception"])
    def test_a_build_that_fails_leaves_nothing(
        self, build: Callable[..., Index], tmp_path: Path, fault: str
    ) -> None:
        """No folder, no temporary one either."""
        corpus, error = {
            "empty": (iter(()), BadInput),
            "twice": (iter([CORPUS[0], CORPUS[1], CORPUS[0]]), BadInput),
            "exception": (_interrupted(CORPUS[:3]), KeyboardInterrupt),
        }[fault]
        with pytest.raises(error):
            build(corpus, tmp_path / "failed")
        assert list(tmp_path.iterdir()) == []

    def test_a_build_does_not_overwrite(
        self, retriever: Index, build: Callable[..., Index], path: Path
    ) -> None:
        """What is there stays; the folder is named."""
        before = _files(path)
        with pytest.raises(BadInput, match=path.name):
            build(CORPUS[:2], path)
        assert _files(path) == before

    def test_refuses_a_folder_that_is_not_whole(
        self, retriever: Index, open: Callable[..., Index], path: Path, tmp_path: Path
    ) -> None:
        """Whichever file lost its last byte: both sizes are named; or is absent."""
        for name, content in _files(path).items():
            if not content or name == "manifest.json":
                continue
            broken = tmp_path / "broken"
            shutil.copytree(path, broken)
            (broken / name).write_bytes(content[:-1])
            with pytest.raises(IndexMismatch, match=rf"{len(content)}\b.*{len(content) - 1}\b"):
                open(broken)
            (broken / name).unlink()
            with pytest.raises(IndexMismatch, match=Path(name).name):
                open(broken)
            shutil.rmtree(broken)

    def test_refuses_a_folder_that_is_no_index_or_another_kind_of_one(
        self, retriever: Index, open: Callable[..., Index], path: Path, tmp_path: Path
    ) -> None:
        """Nowhere, an empty folder, and one whose card says something else."""
        (tmp_path / "empty").mkdir()
        for folder in ("nowhere", "empty"):
            with pytest.raises(IndexMismatch, match=folder):
                open(tmp_path / folder)
        card = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps({**card, "kind": "foreign"}))
        with pytest.raises(IndexMismatch, match=rf"'foreign'.*'{card['kind']}'"):
            open(path)

    def test_refuses_an_index_of_another_corpus(
        self,
        retriever: Index,
        open: Callable[..., Index],
        path: Path,
        passages: list[Passage],
    ) -> None:
        """One letter is enough; both hashes are named."""
        other = [dataclasses.replace(passages[0], text=passages[0].text + "!"), *passages[1:]]
        both = f"{corpus_sha256(passages)}.*{corpus_sha256(other)}"
        with pytest.raises(IndexMismatch, match=both):
            open(path, corpus=other)


def _interrupted(passages: Any) -> Iterator[Passage]:
    """Some passages, then Ctrl-C."""
    yield from passages
    raise KeyboardInterrupt


def _hits(retriever: Retriever, queries: dict[str, str]) -> list[list[Hit]]:
    return retriever.search(list(queries), k=100)


def _ids(results: list[list[Hit]]) -> list[list[str]]:
    return [[hit.passage.id for hit in hits] for hits in results]


def _scores(results: list[list[Hit]]) -> list[float]:
    return [hit.score for hits in results for hit in hits]


def _same(one: Retriever, other: Retriever, queries: dict[str, str]) -> bool:
    """The same hits; scores up to the order in which floating-point numbers were added."""
    a, b = _hits(one, queries), _hits(other, queries)
    return _ids(a) == _ids(b) and _scores(a) == pytest.approx(_scores(b), rel=1e-5)


def _files(folder: Path) -> dict[str, bytes]:
    """Every file below the folder, with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
