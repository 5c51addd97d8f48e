"""BM25 without Java: the package `bm25s` with Lucene's formula, on Lucene's terms.

bm25s computes the score of every (term, passage) pair when the index is built; a search adds up
rows of that table. The results are Lucene's but for one thing: Lucene keeps a document's length
in one byte, bm25s the whole number.

Files: those of bm25s, and `rows.npy` [documents, int64], the row in the passage file of each of
its documents, in increasing order. Passages without any term are no documents, as in Lucene.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from memkit.errors import IndexMismatch
from memkit.progress import track
from memkit.retrieval.analysis import terms
from memkit.retrieval.passages import PassageFile

__all__ = ["Bm25s"]

ROWS = "rows.npy"


class Bm25s:
    """An open bm25s index. Its hits are (row, score): rows of the passage file.

    Hits are the documents that hold a term of the query, by score, then by row, which is the
    order of ids. Raises `IndexMismatch` if a file is damaged.
    """

    name: Literal["bm25s"] = "bm25s"

    def __init__(self, folder: Path) -> None:
        try:
            self._rows = np.load(folder / ROWS, mmap_mode="r", allow_pickle=False)
            self._scorer = (
                _bm25s().load(folder, mmap=True, show_progress=False) if len(self._rows) else None
            )
        except (EOFError, OSError, TypeError, ValueError) as error:
            raise IndexMismatch(
                f"bm25s cannot open {str(folder)!r} ({type(error).__name__}: {error}). "
                "Copy the index again, or build it anew."
            ) from error

    @classmethod
    def build(cls, folder: Path, passages: PassageFile, k1: float, b: float) -> None:
        """Index the passages into the folder."""
        rows, documents = [], []
        for row, passage in enumerate(track(passages, "Indexing (bm25s)", len(passages))):
            if document := terms(passage.contents):
                rows.append(row)
                documents.append(document)
        if documents:
            scorer = _bm25s()(k1=k1, b=b, method="lucene")
            scorer.index(documents, show_progress=False)
            scorer.save(folder, show_progress=False)
        np.save(folder / ROWS, np.asarray(rows, dtype=np.int64))

    def search(self, queries: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
        """The `k` best (row, score) pairs for each query."""
        return [self._one(query, k) for query in queries]

    def _one(self, query: str, k: int) -> list[tuple[int, float]]:
        ids = self._scorer.get_tokens_ids(terms(query)) if self._scorer is not None else []
        if not ids:
            return []
        scores = self._scorer.get_scores_from_ids(ids)
        best = _best(scores, k)
        return [(int(self._rows[document]), float(scores[document])) for document in best]

    def close(self) -> None:
        """Let go of the files."""
        self._scorer = None


def _best(scores: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.intp]:
    """Positions of the `k` largest positive scores, the lower position first where they tie."""
    if k < len(scores):
        least = np.partition(scores, -k)[-k]
        found = np.flatnonzero(scores >= max(least, np.finfo(scores.dtype).tiny))
    else:
        found = np.flatnonzero(scores)
    return found[np.argsort(-scores[found], kind="stable")[:k]]


def _bm25s() -> Any:
    import bm25s

    return bm25s.BM25
