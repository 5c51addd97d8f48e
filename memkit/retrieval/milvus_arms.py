"""The two ways in which `memkit.retrieval.milvus` finds passages: by terms and by vectors.

Each says what vectors passages get, and searches. The store breaks ties as it likes; here enough is
asked for that the `k` best by score, then by id, are known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from memkit.errors import BadInput, IndexMismatch
from memkit.retrieval.base import ranked
from memkit.retrieval.encoders import Encoder
from memkit.retrieval.hnsw import EF_BUILD, EF_SEARCH, NEIGHBOURS
from memkit.retrieval.milvus_client import MOST, Collections, Found
from memkit.retrieval.shards import encode_queries, encode_texts
from memkit.retrieval.sparse import Corpus, counted, document_vector, query_vector, score, settled
from memkit.types import Hit, Passage

__all__ = ["Card", "Terms", "Vectors", "check_whole"]

Card = dict[str, Any]
SLACK = 5  # proposals beyond k at the first try: few ties through the cut need a second one
SEEN = 1 << 20  # terms whose counts are kept between searches
MOVED = 16  # where the store's scores are not the true ones


def check_whole(card: Card | None, store: Collections) -> Card:
    """The card of an index that is there and whole. Raises `IndexMismatch` for another."""
    if card is None:
        raise IndexMismatch(
            f"{store.host} has no index {store.name!r}; allowed: one that memkit built there. "
            "Check the name, or build it (Milvus.build)."
        )
    if (state := card["state"]) != "whole":
        raise IndexMismatch(
            f"the index {store.name!r} in {store.host} is not whole: its card says {state!r}. Wait "
            "until whoever is writing has finished; if that was broken off, call Milvus.build "
            "again with the same passages, or Milvus.repair after a change."
        )
    return card


class Terms:
    """BM25: documents and queries as sparse vectors (`memkit.retrieval.sparse`)."""

    dimensions: int | None = None

    def __init__(self, k1: float, b: float) -> None:
        self.k1, self.b = k1, b
        self._version = ""  # of the index, of which the rows below are
        self._seen: dict[str, tuple[int, int] | None] = {}

    def index(self, count: int) -> dict[str, Any]:
        """The index to make for so many passages."""
        return {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "IP"}

    def count(self, passages: Iterable[Passage]) -> tuple[dict[str, tuple[int, int]], Card]:
        """Places and document counts of all terms, and what the card says of them."""
        df: Counter[str] = Counter()
        corpus = Corpus()
        for passage in passages:
            counts = counted(passage.contents)
            df.update(counts.keys())
            corpus = corpus.with_(counts)
        table = {term: (place, n) for place, (term, n) in enumerate(df.items(), start=1)}
        card = _numbers(corpus) | {"reference": corpus.average, "places": len(table)}
        return table, card

    def vectors(
        self, passages: Sequence[Passage], table: Mapping[str, tuple[int, int]], card: Card
    ) -> list[Any]:
        """The documents' vectors."""
        places = {term: place for term, (place, _) in table.items()}
        return [
            document_vector(counted(p.contents), places, card["reference"], self.k1, self.b)
            for p in passages
        ]

    def change(
        self, store: Collections, card: Card, added: Sequence[Passage], removed: Sequence[Passage]
    ) -> tuple[dict[str, tuple[int, int]], Card]:
        """Terms and card as they will be with these passages more and those less."""
        new = [counted(passage.contents) for passage in added]
        old = [counted(passage.contents) for passage in removed]
        terms = {term for counts in (*new, *old) for term in counts}
        table, _ = store.read_terms(sorted(terms))
        places = card["places"]
        for term in sorted(terms - table.keys()):
            places += 1
            table[term] = (places, 0)
        corpus = Corpus(card["documents"], card["length"])
        for sign, documents in ((-1, old), (1, new)):
            for counts in documents:
                corpus = corpus.with_(counts, sign)
                for term in counts:
                    place, df = table[term]
                    table[term] = (place, df + sign)
        return table, card | _numbers(corpus) | {"places": places}

    def _read(self, store: Collections, terms: set[str]) -> tuple[dict[str, tuple[int, int]], Card]:
        """Places and counts of the terms, and the card; terms seen before only by the version."""
        unseen = terms - self._seen.keys()
        found, card = store.read_terms(sorted(unseen))
        card = check_whole(card, store)
        if card["version"] != self._version or len(self._seen) > SEEN:
            self._seen, unseen = {}, terms
            found, card = store.read_terms(sorted(terms))
            card = check_whole(card, store)
            self._version = card["version"]
        self._seen |= {term: found.get(term) for term in unseen}
        known = {term: self._seen[term] for term in terms}
        return {term: row for term, row in known.items() if row is not None}, card

    def search(self, store: Collections, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The `k` best of the passages that hold a term of each query."""
        counts = [counted(query) for query in queries]
        table, card = self._read(store, {term for found in counts for term in found})
        corpus = Corpus(card["documents"], card["length"])
        places = {term: place for term, (place, _) in table.items()}
        df = {term: n for term, (_, n) in table.items()}
        vectors = [query_vector(found, places, df, corpus) for found in counts]
        reference, average = card["reference"], corpus.average

        def true(row: int, found: Found) -> Found:
            if average == reference:
                return found
            query = counts[row]
            return [
                (p, score(query, counted(p.contents), df, corpus, self.k1, self.b))
                for p, _ in found
            ]

        def enough(scores: Sequence[float], proposed: Sequence[float], k: int) -> bool:
            return settled(scores, proposed, k, reference, average)

        slack = SLACK if average == reference else MOVED
        return _search(store, vectors, k + slack, k, true, enough, {})


class Vectors:
    """Dense vectors of an encoder, compared by inner product."""

    def __init__(self, encoder: Encoder, dimensions: int, batch_size: int) -> None:
        self.encoder = encoder
        self.dimensions: int | None = dimensions
        self.batch_size = batch_size

    def index(self, count: int) -> dict[str, Any]:
        """Every vector is compared below `FAISS_FROM` passages, a graph is searched from there."""
        from memkit.retrieval.dense import FAISS_FROM

        if count < FAISS_FROM:
            return {"index_type": "FLAT", "metric_type": "IP"}
        parameters = {"M": NEIGHBOURS, "efConstruction": EF_BUILD}
        return {"index_type": "HNSW", "metric_type": "IP", "params": parameters}

    def count(self, passages: Iterable[Passage]) -> tuple[dict[str, tuple[int, int]], Card]:
        """Vectors depend on nothing but their passage."""
        return {}, {}

    def vectors(
        self, passages: Sequence[Passage], table: Mapping[str, tuple[int, int]], card: Card
    ) -> list[Any]:
        """The passages' vectors."""
        texts = [passage.contents for passage in passages]
        return list(encode_texts(self.encoder, texts, self.batch_size).tolist())

    def change(
        self, store: Collections, card: Card, added: Sequence[Passage], removed: Sequence[Passage]
    ) -> tuple[dict[str, tuple[int, int]], Card]:
        """Nothing else changes."""
        return {}, card

    def search(self, store: Collections, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The `k` passages with the largest scores."""
        check_whole(store.read_card(), store)
        vectors = encode_queries(self.encoder, queries, 1)
        if vectors.shape[1] != self.dimensions:
            raise BadInput(
                f"the encoder {self.encoder.name!r} gave queries {vectors.shape[1]} dimensions; "
                f"allowed: the {self.dimensions} of its passages. Correct the encoder."
            )

        def enough(scores: Sequence[float], proposed: Sequence[float], k: int) -> bool:
            return len(scores) >= k and scores[k - 1] > proposed[-1]

        parameters = {"ef": max(2 * k, EF_SEARCH)}
        return _search(
            store, vectors.tolist(), k + SLACK, k, lambda _, found: found, enough, parameters
        )


def _search(
    store: Collections,
    vectors: Sequence[Any],
    limit: int,
    k: int,
    true: Callable[[int, Found], Found],
    enough: Callable[[Sequence[float], Sequence[float], int], bool],
    parameters: Mapping[str, Any],
) -> list[list[Hit]]:
    """Ask for `limit`, then for more, until more could not change the `k` best of any query."""
    results: list[list[Hit]] = [[] for _ in vectors]
    asked = [row for row, vector in enumerate(vectors) if vector]
    limit, whole = min(limit, MOST), not asked
    while not whole:
        whole = True
        # all of them each time: another batch gives scores other last bits
        found = store.search([vectors[row] for row in asked], limit, parameters)
        for row, proposals in zip(asked, found, strict=True):
            proposed = sorted((score for _, score in proposals), reverse=True)
            hits = ranked(true(row, proposals), len(proposals))
            if len(proposals) == limit and not enough([hit.score for hit in hits], proposed, k):
                if limit == MOST and k > MOST:
                    raise BadInput(
                        f"k is {k} and more than {MOST} passages match; allowed in Milvus: "
                        f"{MOST}. Ask for fewer."
                    )
                whole = whole and limit == MOST
            results[row] = hits[:k]
        limit = min(4 * limit, MOST)
    return results


def _numbers(corpus: Corpus) -> Card:
    return {"documents": corpus.documents, "length": corpus.length}
