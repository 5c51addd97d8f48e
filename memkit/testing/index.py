"""What every index promises that can change, and what it does besides if it lives in a folder.

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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from memkit.errors import BadInput, IndexMismatch
from memkit.retrieval.base import Index, Retriever
from memkit.retrieval.passages import corpus_sha256
from memkit.testing.retriever import CORPUS, RetrieverContract
from memkit.types import Hit, Passage

__all__ = ["IndexContract", "StoreContract"]


class StoreContract(RetrieverContract):
    """An index changes, wherever it lives. Override `build`, `open` and `place`."""

    @pytest.fixture
    def build(self) -> Callable[..., Index]:
        """`build(passages, place)` makes the index there and gives it, open."""
        raise NotImplementedError

    @pytest.fixture
    def open(self) -> Callable[..., Index]:
        """`open(place)` opens it again; `open(place, corpus=passages)` checks what it holds."""
        raise NotImplementedError

    @pytest.fixture
    def place(self) -> Callable[[str], Any]:
        """Where an index of this name is: what `build` and `open` are given."""
        raise NotImplementedError

    @pytest.fixture
    def traces(self) -> Callable[[], object]:
        """Gives all that is there by now: what fails must leave none."""
        raise NotImplementedError

    @pytest.fixture
    def path(self, place: Callable[[str], Any]) -> Any:
        """Where `retriever` is."""
        return place("index")

    @pytest.fixture
    def retriever(self, build: Callable[..., Index], passages: list[Passage], path: Any) -> Index:
        """The index of `passages`."""
        return build(passages, path)

    def test_counts_its_passages(self, retriever: Index, passages: list[Passage]) -> None:
        """`len` is the number of passages."""
        assert len(retriever) == len(passages)

    def test_opened_again_it_finds_the_same(
        self,
        retriever: Index,
        open: Callable[..., Index],
        path: Any,
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
        place: Callable[[str], Any],
        passages: list[Passage],
        wanted: dict[str, str],
    ) -> None:
        """A corpus is a set."""
        assert _same(build(passages[::-1], place("reversed")), retriever, wanted)

    def test_what_is_added_is_found_at_once_as_if_it_had_always_been_there(
        self,
        build: Callable[..., Index],
        open: Callable[..., Index],
        retriever: Index,
        path: Any,
        place: Callable[[str], Any],
        passages: list[Passage],
        wanted: dict[str, str],
    ) -> None:
        """Scores too: what they count of the corpus is counted anew."""
        index = build(passages[1::2], place("half"))
        before = _hits(index, wanted)
        index.add(iter(passages[::2]))
        assert _hits(index, wanted) != before
        assert len(index) == len(passages)
        assert _same(index, retriever, wanted)
        assert _hits(open(place("half"), corpus=passages), wanted) == _hits(index, wanted)

    def test_what_is_removed_is_gone_as_if_it_had_never_been_there(
        self,
        build: Callable[..., Index],
        open: Callable[..., Index],
        retriever: Index,
        path: Any,
        place: Callable[[str], Any],
        passages: list[Passage],
        wanted: dict[str, str],
    ) -> None:
        """Scores too, and the id is free again."""
        before = _hits(retriever, wanted)
        gone, kept = passages[:3], passages[3:]
        retriever.remove(passage.id for passage in gone)
        assert _hits(retriever, wanted) != before
        assert len(retriever) == len(kept)
        assert _same(retriever, build(kept, place("kept")), wanted)
        assert _hits(open(path, corpus=kept), wanted) == _hits(retriever, wanted)
        retriever.add(gone)
        assert _same(retriever, build(passages, place("all")), wanted)

    def test_what_is_replaced_is_found_by_its_new_text_and_no_longer_by_the_old(
        self,
        build: Callable[..., Index],
        open: Callable[..., Index],
        retriever: Index,
        path: Any,
        place: Callable[[str], Any],
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
        assert _same(retriever, build(after, place("after")), wanted)
        assert _hits(open(path, corpus=after), wanted) == _hits(retriever, wanted)
        retriever.replace([one, other])
        assert _same(retriever, build(passages, place("all")), wanted)

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
        self, retriever: Index, traces: Callable[[], object], wanted: dict[str, str], fault: str
    ) -> None:
        """Neither here nor on disk."""
        new = Passage("new", "A new passage on ships and tea.")
        more, error = {
            "there already": (iter([new, CORPUS[0]]), BadInput),
            "twice": (iter([new, dataclasses.replace(new, text="other")]), BadInput),
            "exception": (_interrupted([new]), KeyboardInterrupt),
        }[fault]
        before, there = _hits(retriever, wanted), traces()
        with pytest.raises(error):
            retriever.add(more)
        assert (_hits(retriever, wanted), traces()) == (before, there)

    def test_a_removal_that_fails_removes_nothing(
        self,
        retriever: Index,
        traces: Callable[[], object],
        passages: list[Passage],
        wanted: dict[str, str],
    ) -> None:
        """An id that is not there is named; the last passage stays."""
        before, there = _hits(retriever, wanted), traces()
        with pytest.raises(BadInput, match="'no such id'"):
            retriever.remove([passages[0].id, "no such id"])
        with pytest.raises(BadInput, match="empty"):
            retriever.remove([passage.id for passage in passages])
        assert (_hits(retriever, wanted), traces()) == (before, there)

    @pytest.mark.parametrize("fault", ["not there", "twice", "exception"])
    def test_a_replacement_that_fails_replaces_nothing(
        self,
        retriever: Index,
        traces: Callable[[], object],
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
        before, there = _hits(retriever, wanted), traces()
        with pytest.raises(error):
            retriever.replace(more)
        assert (_hits(retriever, wanted), traces()) == (before, there)

    @pytest.mark.parametrize("fault", ["empty", "twice", "exception"])
    def test_a_build_that_fails_leaves_nothing(
        self,
        build: Callable[..., Index],
        place: Callable[[str], Any],
        traces: Callable[[], object],
        fault: str,
    ) -> None:
        """No trace of it, no temporary one either."""
        corpus, error = {
            "empty": (iter(()), BadInput),
            "twice": (iter([CORPUS[0], CORPUS[1], CORPUS[0]]), BadInput),
            "exception": (_interrupted(CORPUS[:3]), KeyboardInterrupt),
        }[fault]
        before = traces()
        with pytest.raises(error):
            build(corpus, place("failed"))
        assert traces() == before

    def test_a_build_does_not_overwrite(
        self,
        retriever: Index,
        build: Callable[..., Index],
        path: Any,
        wanted: dict[str, str],
        traces: Callable[[], object],
    ) -> None:
        """What is there stays; the place is named."""
        before, there = _hits(retriever, wanted), traces()
        with pytest.raises(BadInput, match=Path(path).name):
            build(CORPUS[:2], path)
        assert (_hits(retriever, wanted), traces()) == (before, there)

    def test_refuses_an_index_of_another_corpus(
        self,
        retriever: Index,
        open: Callable[..., Index],
        path: Any,
        passages: list[Passage],
    ) -> None:
        """One letter is enough; both hashes are named."""
        other = [dataclasses.replace(passages[0], text=passages[0].text + "!"), *passages[1:]]
        both = f"{corpus_sha256(passages)}.*{corpus_sha256(other)}"
        with pytest.raises(IndexMismatch, match=both):
            open(path, corpus=other)


class IndexContract(StoreContract):
    """An index in a folder. Override `build` and `open`."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Callable[[str], Any]:
        """A folder."""
        return lambda name: tmp_path / name

    @pytest.fixture
    def traces(self, tmp_path: Path) -> Callable[[], object]:
        """Every file."""
        return lambda: _files(tmp_path)

    def test_threads_may_search_while_one_changes(
        self, retriever: Index, wanted: dict[str, str]
    ) -> None:
        """Each search sees one state, the old or the new: rows of one are others in the other."""
        queries, found = list(wanted), list[list[str]]()
        first = Passage("!", "Sorted before all others.")

        def change() -> None:
            for _ in range(3):
                retriever.add([first])
                retriever.remove([first.id])

        with ThreadPoolExecutor(1) as pool:
            changing = pool.submit(change)
            while not changing.done():
                found.append([hits[0].passage.id for hits in retriever.search(queries, 1)])
        changing.result()
        assert found
        assert all(ids == list(wanted.values()) for ids in found)

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
