"""BM25 on Lucene, through the classes in Anserini's jar.

The JVM is entered as rarely as can be: for a batch of queries two calls each (build the query,
search), then one that writes all their results as JSON (the jar has Jackson). Query and analyser
are Anserini's, the search is Lucene's own.

Departures from Anserini's `SimpleSearcher` and `SimpleIndexer`:

- Scores are Lucene's. `SimpleSearcher` rounds them to four decimals and lowers ties by 1e-6.
- The index holds ids and no text. A hit is a row of the passage file: `rows.npy`
  [documents, int64] has the row of each of Lucene's documents.
- Only neighbouring segments are merged, which keeps the order of documents, so that `rows.npy`
  can follow additions and deletions.
- An error while writing is raised; `SimpleIndexer` logs it and goes on.

An index made by pyserini or Anserini opens as it is; its text comes out of Lucene.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from memkit.errors import BadInput, IndexMismatch, MemkitError
from memkit.progress import track
from memkit.retrieval.java import HEAP, jvm
from memkit.retrieval.passages import PassageFile
from memkit.types import Passage

__all__ = ["Lucene", "StoredPassages", "is_lucene"]

ROWS = "rows.npy"
LONGEST_ID = 32_766  # bytes in UTF-8: the longest term that Lucene takes
HITS_AT_ONCE = 50_000  # in one JSON text from Java
BUFFER = 128.0  # MB of postings in Java's heap before they go to disk
CLAUSES = 1 << 20  # distinct terms that a query may have; Lucene's own limit is 1,024

# pyjnius guesses among overloads, slowly and sometimes wrongly: these name the one that is meant
CONTENTS = (
    "(Ljava/lang/String;Ljava/lang/CharSequence;Lorg/apache/lucene/index/IndexableFieldType;)V"
)
CHARACTERS = "(Ljava/lang/CharSequence;)V"
READER = "(Lorg/apache/lucene/index/IndexReader;)V"
QUERY = (
    "(Ljava/lang/String;Lorg/apache/lucene/analysis/Analyzer;Ljava/lang/String;)"
    "Lorg/apache/lucene/search/Query;"
)
SEARCH = "(Lorg/apache/lucene/search/Query;I)Lorg/apache/lucene/search/TopDocs;"
SORTED = (
    "(Lorg/apache/lucene/search/Query;ILorg/apache/lucene/search/Sort;Z)"
    "Lorg/apache/lucene/search/TopFieldDocs;"
)


class Lucene:
    """An open Lucene index. Its hits are (row, score): rows of the passage file.

    Scores are BM25 as Lucene computes it, with document lengths in one byte. Hits are the
    documents that hold a term of the query, by score, then by id.
    """

    name: Literal["lucene"] = "lucene"

    def __init__(self, folder: Path, k1: float, b: float) -> None:
        rows = folder / ROWS
        self._rows = np.load(rows, allow_pickle=False) if rows.is_file() else None
        with _calling(f"opening {str(folder)!r}", IndexMismatch):
            self._reader = _lucene("index.DirectoryReader").open(_directory(folder))
            self._count = int(self._reader.numDocs())
            searcher = _lucene("search.IndexSearcher")
            searcher.setMaxClauseCount(CLAUSES)
            self._searcher = searcher(self._reader, signature=READER)
            self._searcher.setSimilarity(_lucene("search.similarities.BM25Similarity")(k1, b))
            self._order = None if self._in_order() else _score_then_id()
            self._analyzer = _analyzer()
            self._queries = _class("io.anserini.search.query.BagOfWordsQueryGenerator")()
            self._json = _class("com.fasterxml.jackson.databind.ObjectMapper")()

    @classmethod
    def build(cls, folder: Path, passages: PassageFile) -> None:
        """Index the passages into the folder. Raises `BadInput` for an id that is too long."""
        with _writing(folder, append=False) as writer:
            _add(writer, passages)
            writer.forceMerge(1)
        np.save(folder / ROWS, np.arange(len(passages)))

    @classmethod
    def update(
        cls,
        source: Path,
        folder: Path,
        old: PassageFile,
        new: PassageFile,
        added: Sequence[str],
        removed: Sequence[str],
    ) -> None:
        """Write the index in `source`, of `old`, changed into one of `new`, to `folder`.

        Segments that do not change are linked, not copied: Lucene never writes to a file twice.
        Segments that lose a document are written anew, since Lucene would go on counting it.
        """
        for file in source.iterdir():
            if file.name not in (ROWS, "write.lock"):
                _link(file, folder / file.name)
        rows = [new.row(id) for id in added]
        with _writing(folder, append=True) as writer:
            term, query = _lucene("index.Term"), _lucene("search.TermQuery")
            for id in removed:
                writer.deleteDocuments(query(term("id", _unicode(id))))
            writer.forceMergeDeletes()
            _add(writer, (new[row] for row in rows))
        moved = np.full(len(old), -1)  # row in `old` -> row in `new`; -1: removed
        kept = np.delete(np.arange(len(old)), old.rows(removed))
        moved[kept] = np.delete(np.arange(len(new)), rows)
        documents = moved[np.load(source / ROWS, allow_pickle=False)]
        np.save(folder / ROWS, np.concatenate([documents[documents >= 0], rows]).astype(np.int64))

    def search(self, queries: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
        """The `k` best (row, score) pairs for each query."""
        k = min(k, max(self._count, 1))
        step = max(1, HITS_AT_ONCE // k)
        found: list[list[tuple[int, float]]] = []
        for start in range(0, len(queries), step):
            with _calling("searching", IndexMismatch):
                found.extend(self._batch(queries[start : start + step], k))
        return found

    def _batch(self, queries: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
        results = _class("java.util.ArrayList")()
        for text in queries:
            query = self._queries.buildQuery(
                "contents", self._analyzer, _unicode(text), signature=QUERY
            )
            if self._order is None:  # Lucene breaks ties by number
                results.add(self._searcher.search(query, k, signature=SEARCH))
            else:
                results.add(self._searcher.search(query, k, self._order, True, signature=SORTED))
        return [
            [(self._row(hit["doc"]), hit["score"]) for hit in result["scoreDocs"]]
            for result in json.loads(self._json.writeValueAsString(results))
        ]

    def _in_order(self) -> bool:
        """Whether the order of Lucene's documents is known to be that of ids."""
        return self._rows is not None and bool(np.all(np.diff(self._rows) > 0))

    def _row(self, document: int) -> int:
        return document if self._rows is None else int(self._rows[document])

    def stored(self) -> StoredPassages:
        """The passages inside the index, where it has any."""
        return StoredPassages(self._reader)

    def close(self) -> None:
        """Let go of the files."""
        with _calling("closing an index", MemkitError):
            self._reader.close()


class StoredPassages:
    """The passages that pyserini or Anserini stored in an index, by Lucene's document number.

    The text is the field `contents` of what was stored raw if that is JSON, all of it otherwise.
    Raises `IndexMismatch` if the index holds documents without text.
    """

    def __init__(self, reader: Any) -> None:
        with _calling("reading an index", IndexMismatch):
            self._fields = reader.storedFields()
            self._live = _lucene("index.MultiBits").getLiveDocs(reader)  # None: all
            self._count, self._end = int(reader.numDocs()), int(reader.maxDoc())
        next(iter(self), None)  # raises here and now, not at the first hit

    def __len__(self) -> int:
        """Number of passages."""
        return self._count

    def __iter__(self) -> Iterator[Passage]:
        """All passages, in Lucene's order."""
        for document in range(self._end):
            with _calling("reading an index", IndexMismatch):
                live = self._live is None or self._live.get(document)
            if live:
                yield self[document]

    def __getitem__(self, document: int) -> Passage:
        """The passage of a document."""
        with _calling("reading an index", IndexMismatch):
            fields = self._fields.document(document)
            id, text = fields.get("id"), fields.get("raw") or fields.get("contents")
        if text is None:
            raise IndexMismatch(
                f"the Lucene index stores no text (document {document}, id {id!r}); allowed: one "
                "built with --storeRaw or --storeContents. Build it again with one of them, or "
                "build a memkit index of the passages."
            )
        with contextlib.suppress(ValueError):
            if isinstance(row := json.loads(text), dict) and isinstance(row.get("contents"), str):
                text = row["contents"]
        return Passage(id, text)


def is_lucene(folder: Path) -> bool:
    """Whether Lucene has committed an index in this folder."""
    return any(folder.glob("segments_*"))


def _class(name: str) -> Any:
    """A class of this process's JVM, which starts here at the first use."""
    jvm()
    from jnius import autoclass

    return autoclass(name)


def _lucene(name: str) -> Any:
    return _class(f"org.apache.lucene.{name}")


def _analyzer() -> Any:
    """Anserini's for English: standard tokens, possessive, lower case, stop words, Porter."""
    return _class("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance()


def _score_then_id() -> Any:
    by, kind = _lucene("search.SortField"), _lucene("search.SortField$Type")
    return _lucene("search.Sort")(by.FIELD_SCORE, by("id", kind.STRING_VAL))


def _directory(folder: Path) -> Any:
    path = _class("java.io.File")(os.path.abspath(folder)).toPath()
    return _lucene("store.FSDirectory").open(path)


def _unicode(text: str) -> str:
    """The text as Java can hold it: a lone surrogate becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _link(file: Path, target: Path) -> None:
    """A second name for the file, or a copy where the file system has no hard links."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


@contextlib.contextmanager
def _calling(doing: str, error: type[MemkitError]) -> Iterator[None]:
    """Have the JVM for oneself in the block, and raise what Java throws there as `error`."""
    machine = jvm()
    from jnius import JavaException

    try:
        with machine.lock:
            yield
    except JavaException as thrown:
        raise error(
            f"Lucene failed while {doing}: {thrown.classname}: {thrown.innermessage}. If memory "
            f"ran out, raise {HEAP} (as in '4g'); otherwise copy the index again or build it anew."
        ) from thrown


@contextlib.contextmanager
def _writing(folder: Path, *, append: bool) -> Iterator[Any]:
    """An IndexWriter that is committed when the block succeeds, and rolled back otherwise."""
    with _calling(f"writing {str(folder)!r}", MemkitError):
        mode = _lucene("index.IndexWriterConfig$OpenMode")
        config = _lucene("index.IndexWriterConfig")(_analyzer())
        config.setOpenMode(mode.APPEND if append else mode.CREATE)
        config.setRAMBufferSizeMB(BUFFER)
        config.setMergePolicy(_lucene("index.LogDocMergePolicy")())
        writer = _lucene("index.IndexWriter")(_directory(folder), config)
        try:
            yield writer
        except BaseException:
            writer.rollback()
            raise
        writer.close()


def _add(writer: Any, passages: Iterable[Passage]) -> None:
    """Add documents as Anserini makes them: `id` for terms, sorting and show, and `contents`."""
    no_positions = _lucene("document.FieldType")()
    no_positions.setIndexOptions(_lucene("index.IndexOptions").DOCS_AND_FREQS)
    store, bytes_ref = _lucene("document.Field$Store"), _lucene("util.BytesRef")
    id = _lucene("document.StringField")("id", "", store.YES)
    key = _lucene("document.BinaryDocValuesField")("id", bytes_ref("", signature=CHARACTERS))
    contents = _lucene("document.Field")("contents", "", no_positions, signature=CONTENTS)
    document = _lucene("document.Document")()  # one for all, as Lucene advises
    for field in (id, key, contents):
        document.add(field)
    for passage in track(passages, "Indexing (Lucene)"):
        if len(passage.id.encode("utf-8", "replace")) > LONGEST_ID:
            raise BadInput(
                f"passage id {passage.id[:40]!r}... has {len(passage.id)} characters; allowed in "
                f"Lucene: {LONGEST_ID} bytes of UTF-8. Shorten it."
            )
        id.setStringValue(_unicode(passage.id))
        key.setBytesValue(bytes_ref(_unicode(passage.id), signature=CHARACTERS))
        contents.setStringValue(_unicode(passage.contents))
        writer.addDocument(document)
