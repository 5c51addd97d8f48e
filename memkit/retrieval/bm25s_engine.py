"""BM25 without Java: the package `bm25s` with Lucene's formula, on Lucene's terms.

bm25s computes the score of every (term, passage) pair when the index is built; a search adds up
rows of that table. Lucene keeps a document's length in one byte; the table is corrected for that,
since with whole lengths one hit in forty differs. What is left is rounding in the last bits.

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
        self._folder, self._closed = folder, False
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
            lengths = np.asarray([len(document) for document in documents], dtype=np.float64)
            _shorten_lengths(scorer.scores, lengths, k1, b)
            scorer.save(folder, show_progress=False)
        np.save(folder / ROWS, np.asarray(rows, dtype=np.int64))

    def search(self, queries: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
        """The `k` best (row, score) pairs for each query. Raises `IndexMismatch` once closed."""
        scorer = self._scorer
        if self._closed:
            raise IndexMismatch(f"{str(self._folder)!r} is closed. Open the index again.")
        return [self._one(scorer, query, k) for query in queries]

    def _one(self, scorer: Any, query: str, k: int) -> list[tuple[int, float]]:
        if scorer is None or not (ids := scorer.get_tokens_ids(terms(query))):
            return []
        scores = scorer.get_scores_from_ids(ids)
        best = _best(scores, k)
        return list(zip(self._rows[best].tolist(), scores[best].tolist(), strict=True))

    def close(self) -> None:
        """Let go of the files."""
        self._closed, self._scorer = True, None


def _shorten_lengths(
    scores: dict[str, Any], lengths: npt.NDArray[np.float64], k1: float, b: float
) -> None:
    """Replace the scores of whole lengths by those of lengths in one byte, in place.

    A score is idf * tf / (tf + K) with K = k1 * (1 - b + b * length / average), so that tf is
    K * score / (idf - score), a whole number. Where rounding hides that difference, tf is so large
    or k1 so small that it does not count. The average stays that of whole lengths, as in Lucene
    (BM25Similarity, Lucene 9). With k1 of 0 no length counts.
    """
    if k1 == 0:
        return
    found = np.diff(scores["indptr"])  # documents that hold each term
    idf = np.repeat(np.log(1 + (len(lengths) - found + 0.5) / (found + 0.5)), found)
    whole, short = (
        (k1 * (1 - b + b * length / lengths.mean()))[scores["indices"]]
        for length in (lengths, _in_a_byte(lengths))
    )
    data = scores["data"].astype(np.float64)
    tf = np.maximum(np.rint(whole * data / np.maximum(idf - data, 1e-9 * idf)), 1)
    scores["data"] = (idf * tf / (tf + short)).astype(scores["data"].dtype)


def _in_a_byte(lengths: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Lengths as Lucene's SmallFloat keeps them: exact below 40, then to four leading bits."""
    rest = np.maximum(lengths - 24, 1).astype(np.int64)
    bits = np.maximum(np.floor(np.log2(rest)).astype(np.int64) - 3, 0)
    return np.where(lengths < 40, lengths, (rest >> bits << bits) + 24).astype(np.float64)


def _best(scores: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.intp]:
    """Positions of the `k` largest positive scores, the lower position first where they tie."""
    found = np.flatnonzero(scores > 0)
    if k < len(found):
        matching = scores[found]
        found = found[matching >= np.partition(matching, -k)[-k]]
    return found[np.argsort(-scores[found], kind="stable")[:k]]


def _bm25s() -> Any:
    import bm25s

    return bm25s.BM25
