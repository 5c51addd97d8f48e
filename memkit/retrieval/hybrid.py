"""Several retrievers' results in one list, fused here, so that every store is fused alike.

Reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009), over the retrievers r:

    score(d) = sum_r  w_r / (k + rank_r(d))            k = 60 there and here; w_r = 1 there

Weighted interpolation of scores, which were brought to one scale first:

    score(d) = sum_r  w_r * s_r(d)                     min-max: s = (score - min) / (max - min)

Min and max are those of the retriever's list for the query (Lee, SIGIR 1997). pyserini's hybrid
searcher interpolates raw scores; that is `normalise="none"`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from memkit.errors import BadInput, IndexMismatch
from memkit.retrieval.base import Retriever, check_search, ranked
from memkit.types import Hit, Passage

__all__ = ["DEPTH", "RRF_K", "Fusion", "Hybrid", "Normalise"]

Fusion = Literal["rrf", "interpolation"]
Normalise = Literal["min-max", "none"]

RRF_K = 60.0
"""k of Cormack et al.; Qdrant's default is 2, which makes the first ranks count far more."""
DEPTH = 100


class Hybrid:
    """A retriever that fuses what several retrievers find; they stay usable by themselves.

    retrievers: two or more over the same corpus: an id names one passage in all of them.
    fusion: "rrf" counts ranks alone, "interpolation" scores.
    rrf_k: of reciprocal rank fusion; the larger, the less the first ranks stand out. At least 0.
    weights: one for each retriever, none negative, not all 0. None: equal ones, of 1 under "rrf"
        and of 1 / n under "interpolation".
    normalise: under "interpolation": "min-max" for each retriever and query, or "none". Under
        "min-max" a list whose scores are all equal counts 1, and a passage that is not in a list
        counts 0; under "none" such a passage counts as the last of the list (0 in an empty one).
    depth: how many passages of each retriever take part, whatever `k` a search asks for: results
        for a smaller `k` begin those for a larger one. A search gives no more than these.

    A change of a retriever (`add`, `remove`, `replace`) shows at once.

    Raises `BadInput` for a parameter that is not allowed.
    """

    def __init__(
        self,
        retrievers: Sequence[Retriever],
        *,
        fusion: Fusion = "rrf",
        rrf_k: float = RRF_K,
        weights: Sequence[float] | None = None,
        normalise: Normalise = "min-max",
        depth: int = DEPTH,
    ) -> None:
        self.retrievers = tuple(retrievers)
        self.fusion = fusion
        self.rrf_k = rrf_k
        self.normalise = normalise
        self.depth = depth
        _check(len(self.retrievers), fusion, rrf_k, weights, normalise, depth)
        equal = 1.0 if fusion == "rrf" else 1 / len(self.retrievers)
        self.weights = tuple(weights) if weights is not None else (equal,) * len(self.retrievers)

    def __repr__(self) -> str:
        names = ", ".join(type(retriever).__name__ for retriever in self.retrievers)
        how = f"rrf_k={self.rrf_k!r}" if self.fusion == "rrf" else f"normalise={self.normalise!r}"
        return (
            f"Hybrid([{names}], fusion={self.fusion!r}, {how}, weights={self.weights!r}, "
            f"depth={self.depth!r})"
        )

    def search(self, queries: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """The `k` passages with the largest fused score for each query, ties by id.

        Raises `BadInput` for an empty query or k < 1, and `IndexMismatch` where one id stands for
        different texts in two retrievers.
        """
        check_search(queries, k)
        found = [retriever.search(queries, self.depth) for retriever in self.retrievers]
        return [self._fuse(lists, k) for lists in zip(*found, strict=True)]

    def _fuse(self, lists: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
        passages = _passages(lists)
        scales = [self._scale(hits) for hits in lists]
        scored = (
            (
                passage,
                # exactly rounded, so that passages with the same terms tie in whatever order
                math.fsum(
                    weight * scores.get(id, missing)
                    for weight, (scores, missing) in zip(self.weights, scales, strict=True)
                ),
            )
            for id, passage in passages.items()
        )
        return ranked(scored, k)

    def _scale(self, hits: Sequence[Hit]) -> tuple[Mapping[str, float], float]:
        """What each passage of a list counts, by id, and what one outside it does."""
        if self.fusion == "rrf":
            return {hit.passage.id: 1 / (self.rrf_k + hit.rank) for hit in hits}, 0.0
        if not hits:
            return {}, 0.0
        low, high = hits[-1].score, hits[0].score
        if self.normalise == "none":
            return {hit.passage.id: hit.score for hit in hits}, low
        if low == high:
            return {hit.passage.id: 1.0 for hit in hits}, 0.0
        return {hit.passage.id: (hit.score - low) / (high - low) for hit in hits}, 0.0


def _passages(lists: Sequence[Sequence[Hit]]) -> dict[str, Passage]:
    """The passages of all lists by id. Raises `IndexMismatch` where an id has two texts."""
    passages: dict[str, Passage] = {}
    for hits in lists:
        for hit in hits:
            known = passages.setdefault(hit.passage.id, hit.passage)
            if known is not hit.passage and known.contents != hit.passage.contents:
                raise IndexMismatch(
                    f"passage {known.id!r} is {known.contents[:60]!r} in one retriever and "
                    f"{hit.passage.contents[:60]!r} in another; allowed: retrievers over the same "
                    "corpus. Build them of the same passages."
                )
    return passages


def _check(
    count: int,
    fusion: str,
    rrf_k: float,
    weights: Sequence[float] | None,
    normalise: str,
    depth: int,
) -> None:
    """Raise `BadInput` for what `Hybrid` does not allow."""
    if count < 2:
        raise BadInput(f"Hybrid has {count} retrievers; allowed: at least 2. Give it another.")
    for name, value, allowed in (
        ("fusion", fusion, get_args(Fusion)),
        ("normalise", normalise, get_args(Normalise)),
    ):
        if value not in allowed:
            raise BadInput(
                f"Hybrid.{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}. "
                "Choose one of them."
            )
    if not (math.isfinite(rrf_k) and rrf_k >= 0):
        raise BadInput(
            f"Hybrid.rrf_k is {rrf_k!r}; allowed: a number of at least 0. The paper's is 60."
        )
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise BadInput(
            f"Hybrid.depth is {depth!r}; allowed: an integer of at least 1. {DEPTH} is usual."
        )
    if weights is None:
        return
    if len(weights) != count or not any(weights) or not all(_is_weight(w) for w in weights):
        raise BadInput(
            f"Hybrid.weights is {weights!r} for {count} retrievers; allowed: a number of at least "
            "0 for each, not all 0. Leave it out for equal weights."
        )


def _is_weight(weight: float) -> bool:
    return math.isfinite(weight) and weight >= 0
