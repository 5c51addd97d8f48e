"""Approximate search on a graph: HNSW (Malkov and Yashunin, TPAMI 2020) as FAISS has it.

The graph proposes, and the proposals are scored exactly, so that scores and their order are those
of the exact search; what the graph misses is missing. Threads insert side by side, so two builds
may miss different rows.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from memkit.errors import MissingDependency
from memkit.progress import track
from memkit.retrieval.exact import Found, Vectors, best, exact_search, rounding, score

__all__ = ["EF_BUILD", "EF_SEARCH", "HNSW", "NEIGHBOURS", "require_faiss"]

NEIGHBOURS = 32
"""Edges of a node, M in the paper."""
EF_BUILD = 200
"""Candidates kept when a node is inserted."""
EF_SEARCH = 128
"""Candidates that a search keeps and scores exactly, at least."""
ROWS = 4096  # inserted between two steps of the progress bar


class HNSW:
    """A graph over `vectors` [n, d] for inner products, read from a file that `build` wrote.

    Raises `MissingDependency` without faiss.
    """

    def __init__(self, path: Path, vectors: Vectors, norm: float) -> None:
        self._faiss = require_faiss()
        self._graph = self._faiss.read_index(str(path))
        self._parameters = self._faiss.SearchParametersHNSW(efSearch=EF_SEARCH)
        self._vectors = vectors
        self._norm = norm

    @staticmethod
    def build(path: Path, vectors: Vectors) -> None:
        """Build the graph and write it to `path`; the file holds the vectors once more."""
        faiss = require_faiss()
        graph = faiss.IndexHNSWFlat(vectors.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = EF_BUILD
        for start in track(range(0, len(vectors), ROWS), "linking"):
            graph.add(np.ascontiguousarray(vectors[start : start + ROWS]))
        faiss.write_index(graph, str(path))

    def search(self, queries: Vectors, k: int) -> list[Found]:
        """The `k` best rows that the graph finds.

        The graph is asked for 2 `k` and at least `EF_SEARCH`: ties by row are among them. The
        search is exact where that is all there is, and where the graph finds fewer than `k`.
        """
        wanted = max(2 * k, EF_SEARCH)
        if wanted >= len(self._vectors):
            return exact_search(self._vectors, queries, k, self._norm)
        parameters = self._parameters
        if wanted != EF_SEARCH:
            parameters = self._faiss.SearchParametersHNSW(efSearch=wanted)
        scores, proposed = self._graph.search(queries, wanted, params=parameters)
        return [
            self._rescore(rows, approximate, query, k)
            for rows, approximate, query in zip(proposed, scores, queries, strict=True)
        ]

    def _rescore(self, rows: Any, approximate: Vectors, query: Vectors, k: int) -> Found:
        if rows[-1] < 0:  # where it found fewer, -1 fills the end
            rows, approximate = rows[rows >= 0], approximate[rows >= 0]
        if len(rows) < k:
            return exact_search(self._vectors, query[None], k, self._norm)[0]
        slack = rounding(len(query)) * self._norm * math.sqrt(np.vecdot(query, query))
        # best first
        rows = rows[: int(np.count_nonzero(approximate >= approximate[k - 1] - 2 * slack))]
        return best(rows, score(self._vectors, rows, query), k)


def require_faiss() -> Any:
    """The module faiss. Raises `MissingDependency` where it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise MissingDependency(
            "the engine 'faiss' needs faiss, which is not installed. "
            "pip install \"memkit[dense]\", or pass engine='exact'."
        ) from error
    return faiss
