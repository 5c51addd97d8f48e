"""BM25 as an inner product of sparse vectors, for stores that know vectors and no language.

    document  x_t = tf / (tf + K),  K = k1 * (1 - b + b * |d| / average)
    query     y_t = qtf * idf(t)

Then <x, y> is the score of `memkit.retrieval.bm25`, with |d| in one byte as in Lucene, so that a
store ranks as the local engines do. idf stands in the query alone: it follows every change of the
corpus without touching a document. The average length stands in the documents, and would change
all of them with each addition. So it stays what it was at the build (`reference`); when the true
average has moved away, the store's scores are proposals, which are scored anew by the true one.

`settled` says when the proposals are enough: with a true average A and a reference R, a true score
is at most max(1, A / R) times the store's, so that a document beyond the last proposal cannot
score more than that bound.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memkit.retrieval.analysis import terms

__all__ = ["Corpus", "counted", "document_vector", "query_vector", "score", "settled"]

ROUNDING = 1e-5  # relative: what 32-bit sums in a store may be off


@dataclass(frozen=True, slots=True)
class Corpus:
    """What BM25 counts of a corpus: documents are the passages that have any term."""

    documents: int = 0
    length: int = 0
    """Terms in all documents together."""

    @property
    def average(self) -> float:
        """Terms in a document; 1 where there are none, which nothing depends on then."""
        return self.length / self.documents if self.documents else 1.0

    def idf(self, df: int) -> float:
        """ln(1 + (N - df + 0.5) / (df + 0.5)), Lucene's."""
        return math.log(1 + (self.documents - df + 0.5) / (df + 0.5))

    def with_(self, counts: Mapping[str, int], sign: int = 1) -> Corpus:
        """The corpus with a document of these terms more, or with sign -1 less."""
        if not counts:
            return self
        return Corpus(self.documents + sign, self.length + sign * sum(counts.values()))


def counted(text: str) -> Counter[str]:
    """How often each term stands in a text."""
    return Counter(terms(text))


def document_vector(
    counts: Mapping[str, int], places: Mapping[str, int], reference: float, k1: float, b: float
) -> dict[int, float]:
    """The vector of a document; `places` gives each term its dimension, from 1 on.

    Dimension 0 is 1 everywhere: some stores refuse a vector without entries. No query has it.
    """
    saturation = _saturation(sum(counts.values()), reference, k1, b)
    vector = {places[term]: tf / (tf + saturation) for term, tf in counts.items()}
    return {0: 1.0, **vector}


def query_vector(
    counts: Mapping[str, int], places: Mapping[str, int], df: Mapping[str, int], corpus: Corpus
) -> dict[int, float]:
    """The vector of a query, of those of its terms that are in the corpus."""
    return {places[t]: n * corpus.idf(df[t]) for t, n in counts.items() if df.get(t)}


def score(
    query: Mapping[str, int],
    document: Mapping[str, int],
    df: Mapping[str, int],
    corpus: Corpus,
    k1: float,
    b: float,
) -> float:
    """The BM25 score of a document, by the true average length."""
    saturation = _saturation(sum(document.values()), corpus.average, k1, b)
    return math.fsum(
        n * corpus.idf(df[term]) * document[term] / (document[term] + saturation)
        for term, n in query.items()
        if document.get(term)
    )


def settled(
    scores: Sequence[float], proposed: Sequence[float], k: int, reference: float, average: float
) -> bool:
    """Whether the `k` best of the true `scores` are the best of all, ties included.

    Both are in falling order; `proposed` are the store's own scores of the same documents.
    """
    if len(scores) < k:
        return False
    bound = proposed[-1] * max(1.0, average / reference) * (1 + ROUNDING)
    return scores[k - 1] > bound


def _saturation(length: int, average: float, k1: float, b: float) -> float:
    return k1 * (1 - b + b * _in_a_byte(length) / average)


def _in_a_byte(length: int) -> int:
    """A length as Lucene's SmallFloat keeps it: exact below 40, then to four leading bits."""
    if length < 40:
        return length
    bits = max((length - 24).bit_length() - 4, 0)
    return ((length - 24) >> bits << bits) + 24
