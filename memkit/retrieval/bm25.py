"""BM25 (Robertson & Zaragoza 2009) as Lucene computes it, on Lucene itself or without Java.

    score(q, d) = sum over the terms t of q of  idf(t) * tf / (tf + k1 * (1 - b + b * |d| / avgdl))
    idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5))

N, df and avgdl count the passages that have any term; a term that stands twice in q counts twice.
k1 0.9 and b 0.4 are Anserini's defaults. The analyser is Lucene's for English in both engines
(`memkit.retrieval.analysis` says what it does).

On disk an index is a folder with `manifest.json`, the passage file, and a folder of the engine.
Additions and removals write a new folder and move it into place, so that the one on disk is always
whole; Lucene changes a linked copy of its files, bm25s computes its table again.
"""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from memkit.errors import BadInput, IndexMismatch, MemkitError
from memkit.files import building
from memkit.retrieval import java
from memkit.retrieval.base import Closing, check_search
from memkit.retrieval.bm25s_engine import Bm25s
from memkit.retrieval.lucene import Lucene, StoredPassages, is_lucene
from memkit.retrieval.manifest import Manifest
from memkit.retrieval.passages import PassageFile, corpus_sha256, write_passages
from memkit.types import Hit, Passage

__all__ = ["ANALYSER", "B", "BM25", "K1", "check_parameters"]

KIND = "bm25"
ENGINES = ("lucene", "bm25s")
ANALYSER = "lucene-english-porter"
K1, B = 0.9, 0.4


class BM25(Closing):
    """A BM25 index of passages; make one with `build` or `open`.

    A search finds passages that hold a term of the query: `k` beyond the matches returns the
    matches, and a query of stop words alone finds nothing. Ties are in order of id. What is
    indexed is `Passage.contents`, so the title counts.

    `path` is the folder, `manifest` the index's card. An index that pyserini or Anserini made has
    none; it opens as it is, and cannot be changed.
    """

    def __init__(
        self,
        path: Path,
        engine: Lucene | Bm25s,
        passages: PassageFile | StoredPassages,
        manifest: Manifest | None,
    ) -> None:
        self.path = path
        self.manifest = manifest
        self._opened = engine, passages  # together: a search in another thread sees both change
        self._closed = False
        self._remove: weakref.finalize[..., BM25] | None = None

    @classmethod
    def build(
        cls,
        passages: Iterable[Passage],
        path: str | os.PathLike[str] | None = None,
        engine: Literal["auto", "lucene", "bm25s"] = "auto",
        k1: float = K1,
        b: float = B,
        replace: bool = False,
    ) -> BM25:
        """Index the passages into the folder `path` and open it.

        Without a path the index lives in a temporary folder until it is closed. `engine` "auto" is
        Lucene where Java, pyjnius and Anserini's jar are found, bm25s otherwise. `k1` says how far
        repetition of a term counts (0: not at all), `b` how far length does (0 to 1).

        Raises `BadInput` for an empty corpus, an id that stands twice, an unknown engine, k1 or b
        out of range, and a path that exists (unless `replace`); `MissingDependency` where Lucene
        is asked for and something that it needs is absent. Nothing is written then.
        """
        check_parameters(engine, k1, b)
        name = _best_engine() if engine == "auto" else engine
        if path is None:
            return cls._build_temporary(passages, name, k1, b)
        with building(path, replace=replace) as folder:
            sha256 = write_passages(folder, passages)
            rows = PassageFile(folder)
            (folder / name).mkdir()
            if name == "lucene":
                Lucene.build(folder / name, rows)
            else:
                Bm25s.build(folder / name, rows, k1, b)
            parameters = {"analyser": ANALYSER, "b": b, "k1": k1}
            Manifest(KIND, name, len(rows), sha256, parameters).write(folder)
        return cls.open(path)

    @classmethod
    def _build_temporary(
        cls, passages: Iterable[Passage], name: Literal["lucene", "bm25s"], k1: float, b: float
    ) -> BM25:
        folder = tempfile.mkdtemp(prefix="memkit-bm25-")
        try:
            index = cls.build(passages, Path(folder) / "index", name, k1, b)
        except BaseException:
            shutil.rmtree(folder)
            raise
        index._remove = weakref.finalize(index, shutil.rmtree, folder, ignore_errors=True)
        return index

    @classmethod
    def open(cls, path: str | os.PathLike[str], corpus: Iterable[Passage] | None = None) -> BM25:
        """Open an index of memkit's, or a Lucene index that pyserini or Anserini made.

        Raises `IndexMismatch` if it is not whole, of another kind or analyser, holds no text, or
        is not an index of `corpus` where that is given.
        """
        path = Path(path)
        if is_lucene(path) and not (path / "manifest.json").exists():
            return cls._open_foreign(path, corpus)
        manifest = Manifest.read(path, kind=KIND)
        if manifest.engine not in ENGINES or manifest.parameters.get("analyser") != ANALYSER:
            raise IndexMismatch(
                f"{str(path)!r} has engine {manifest.engine!r} and analyser "
                f"{manifest.parameters.get('analyser')!r}; allowed: engine {' or '.join(ENGINES)}, "
                f"analyser {ANALYSER!r}. Build the index anew."
            )
        if corpus is not None:
            manifest.check_corpus(corpus)
        return cls(path, _open_engine(path, manifest), PassageFile(path), manifest)

    @classmethod
    def prebuilt(cls, name: str) -> BM25:
        """Open an index that pyserini's authors built, as "msmarco-v1-passage" or "wikipedia-dpr".

        It is downloaded at the first call (gigabytes, for most), into pyserini's cache.

        Raises `BadInput` for an unknown name, `MemkitError` if the download fails, and as `open`.
        """
        from memkit.retrieval.prebuilt import fetch_prebuilt

        return cls.open(fetch_prebuilt(name))

    @classmethod
    def _open_foreign(cls, path: Path, corpus: Iterable[Passage] | None) -> BM25:
        engine = Lucene(path, K1, B)
        passages = engine.stored()
        if corpus is not None:
            Manifest(KIND, "lucene", len(passages), corpus_sha256(passages)).check_corpus(corpus)
        return cls(path, engine, passages, None)

    @property
    def engine(self) -> Literal["lucene", "bm25s"]:
        """What searches."""
        return self._opened[0].name

    def __repr__(self) -> str:
        return f"BM25({str(self.path)!r}, {len(self)} passages, engine={self.engine!r})"

    def __len__(self) -> int:
        """Number of passages."""
        return len(self._opened[1])

    def passages(self) -> Iterator[Passage]:
        """All passages, read one at a time."""
        return iter(self._opened[1])

    def search(self, queries: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """The `k` best passages for each query, of those that hold a term of it.

        Raises `BadInput` for an empty query or k < 1, `MemkitError` for a closed index and, on
        Lucene, in a process that was forked after Java had started.
        """
        check_search(queries, k)
        self._check_open()
        opened = engine, passages = self._opened
        try:
            found = engine.search(queries, k)
        except IndexMismatch:
            if self._opened is opened:
                raise
            return self.search(queries, k)  # another thread has changed the index meanwhile
        return [
            [Hit(passages[row], score, rank) for rank, (row, score) in enumerate(hits, 1)]
            for hits in found
        ]

    def add(self, passages: Iterable[Passage]) -> None:
        """Make the passages searchable at once, here and on disk.

        Raises `BadInput` for an id that stands twice or is in the index; nothing is changed then.
        """
        rows, manifest = self._own()
        if added := rows.check_new(passages):
            self._change(rows, manifest, added, [])

    def remove(self, ids: Iterable[str]) -> None:
        """Forget the passages, here and on disk.

        Raises `BadInput` for an id that is not there, and where none would be left; nothing is
        changed then.
        """
        if isinstance(ids, str):
            raise BadInput(f"ids is the string {ids!r}; allowed: a list. Pass [{ids!r}].")
        rows, manifest = self._own()
        if removed := list(dict.fromkeys(ids)):
            rows.rows(removed)
            self._change(rows, manifest, [], removed)

    def replace(self, passages: Iterable[Passage]) -> None:
        """Give passages that are in the index another title and text, here and on disk.

        Raises `BadInput` for an id that stands twice or is not there; nothing is changed then.
        """
        rows, manifest = self._own()
        if changed := rows.check_old(passages):
            self._change(rows, manifest, changed, [passage.id for passage in changed])

    def _own(self) -> tuple[PassageFile, Manifest]:
        """The passage file and the card of an index that can be changed."""
        self._check_open()
        passages = self._opened[1]
        if self.manifest is None or not isinstance(passages, PassageFile):
            raise MemkitError(
                f"{str(self.path)!r} was not made by memkit; allowed: changes of memkit's own "
                "indexes. Build one of its passages: BM25.build(index.passages(), path)."
            )
        return passages, self.manifest

    def _change(
        self, old: PassageFile, manifest: Manifest, added: list[Passage], removed: list[str]
    ) -> None:
        gone = frozenset(removed)
        with building(self.path, replace=True) as folder:
            kept = [passage for passage in old if passage.id not in gone]
            sha256 = write_passages(folder, [*kept, *added])
            new = PassageFile(folder)
            source, target = self.path / self.engine, folder / self.engine
            target.mkdir()
            if self.engine == "lucene":
                ids = [passage.id for passage in added]
                Lucene.update(source, target, old, new, ids, removed)
            else:
                Bm25s.build(target, new, manifest.parameters["k1"], manifest.parameters["b"])
            card = dataclasses.replace(manifest, count=len(new), corpus_sha256=sha256)
            manifest = card.write(folder)
        before, _ = self._opened
        self._opened, self.manifest = (_open_engine(self.path, manifest), new), manifest
        before.close()

    def close(self) -> None:
        """Let go of the files; a temporary index is gone then. Closing twice does nothing."""
        if not self._closed:
            self._closed = True
            self._opened[0].close()
            if self._remove is not None:
                self._remove()

    def _check_open(self) -> None:
        if self._closed:
            raise MemkitError(
                f"the index {str(self.path)!r} is closed; allowed: an open one. Open it again with "
                "BM25.open, or use it inside its `with` block."
            )


def _open_engine(path: Path, manifest: Manifest) -> Lucene | Bm25s:
    folder = path / manifest.engine
    if manifest.engine == "lucene":
        return Lucene(folder, manifest.parameters["k1"], manifest.parameters["b"])
    return Bm25s(folder)


def _best_engine() -> Literal["lucene", "bm25s"]:
    return "lucene" if all(finding.ok for finding in java.diagnose()) else "bm25s"


def check_parameters(engine: str, k1: float, b: float) -> None:
    """Raise `BadInput` for an unknown engine, k1 or b."""
    if engine not in ("auto", *ENGINES):
        raise BadInput(
            f"engine is {engine!r}; allowed: 'auto', {', '.join(map(repr, ENGINES))}. "
            "'auto' takes Lucene where it can run; `memkit doctor` says what is missing."
        )
    if not (math.isfinite(k1) and k1 >= 0):
        raise BadInput(f"k1 is {k1!r}; allowed: a number of at least 0. Lucene's usual one is 0.9.")
    if not 0 <= b <= 1:
        raise BadInput(f"b is {b!r}; allowed: 0 to 1. Lucene's usual one is 0.4.")
