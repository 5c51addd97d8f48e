"""Exact search by inner product, in bounded memory, with results that no batch changes.

BLAS gives other last bits to other shapes, so that a query's order could depend on its neighbours
in the batch. Therefore float32 only proposes: whatever could be among the k best, given the bound
on its rounding error, is scored again in float64, each row by itself.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = [
    "Floats",
    "Found",
    "Vectors",
    "best",
    "exact_search",
    "largest_norm",
    "near",
    "rounding",
    "score",
]

Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Found = tuple[npt.NDArray[np.int64], Floats]
"""Rows and their scores: best score first, equal scores by row."""

GROUP = 32  # rows of which only the best counts for a first bound
BLOCK_BYTES = 1 << 25  # of vectors at a time
QUERIES = 256  # at a time
FEW = 4  # queries below which one thread without BLAS is quicker: it is bound by memory


def exact_search(vectors: Vectors, queries: Vectors, k: int, norm: float) -> list[Found]:
    """The `k` rows of `vectors` [n, d] with the largest inner product for each query [q, d].

    `norm` is at least the largest Euclidean norm of a row.
    """
    found: list[Found] = []
    for start in range(0, len(queries), QUERIES):
        found += _search(vectors, queries[start : start + QUERIES], k, norm)
    return found


def score(vectors: Vectors, rows: npt.NDArray[np.int64], query: Vectors) -> Floats:
    """Inner products in float64; the products are exact, each row is summed by itself."""
    products = vectors[rows].astype(np.float64) * query.astype(np.float64)
    return np.asarray(products.sum(axis=1), dtype=np.float64)


def best(rows: npt.NDArray[np.int64], scores: Floats, k: int) -> Found:
    """The `k` best: by score, then by row."""
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


def largest_norm(vectors: Vectors) -> float:
    """An upper bound of the rows' Euclidean norms, block by block."""
    size = _block_rows(vectors)
    blocks = (vectors[start : start + size] for start in range(0, len(vectors), size))
    squares = max(float(np.vecdot(block, block).max()) for block in blocks)
    return float(np.sqrt(squares)) * (1 + rounding(vectors.shape[1]))


def _search(vectors: Vectors, queries: Vectors, k: int, norm: float) -> list[Found]:
    found: list[Found] = [(np.empty(0, np.int64), np.empty(0, np.float64)) for _ in queries]
    wide = queries.astype(np.float64)
    slack = (rounding(vectors.shape[1]) * norm * np.sqrt(np.vecdot(wide, wide))).tolist()
    size = _block_rows(vectors)
    for start in range(0, len(vectors), size):
        block = np.asarray(vectors[start : start + size])
        few = len(queries) < FEW
        approximate = [np.vecdot(block, q) for q in queries] if few else queries @ block.T
        for number, (rows, scores) in enumerate(found):
            floor = float(scores[-1]) if len(scores) == k else -math.inf
            close = near(approximate[number], k, floor, slack[number])
            exact = score(block, close, queries[number])
            if start:
                close = np.concatenate([rows, close + start])
                exact = np.concatenate([scores, exact])
            found[number] = best(close, exact, k)
    return found


def near(approximate: Vectors, k: int, floor: float, slack: float) -> npt.NDArray[np.int64]:
    """Rows that may be among the `k` best and reach `floor`, each being off by `slack` or less."""
    floor -= slack
    columns = len(approximate) // GROUP
    if columns >= k and math.isinf(floor):
        # k different columns of a table hold a value like this or larger: a bound on the k-th best
        tops = approximate[: columns * GROUP].reshape(GROUP, columns).max(axis=0)
        floor = _largest(tops, k) - 2 * slack
    rows = np.flatnonzero(approximate >= floor)
    if len(rows) > 2 * k:  # fewer are scored as quickly as they are sifted
        values = approximate[rows]
        rows = rows[values >= _largest(values, k) - 2 * slack]
    return rows


def _largest(values: Vectors, k: int) -> float:
    """The `k`-th largest of at least `k` values."""
    place = len(values) - k
    return float(np.partition(values, place)[place])


def rounding(dimensions: int) -> float:
    """Bound on the relative error of a float32 inner product, summed in any order."""
    return 2 * (dimensions + 1) * float(np.finfo(np.float32).eps) / 2


def _block_rows(vectors: Vectors) -> int:
    return max(1, BLOCK_BYTES // (4 * int(vectors.shape[1])))
