"""OpenSearch: Lucene's BM25 and vectors, on a server or a cluster.

BM25 is Lucene's own, with the analyser of `memkit.BM25` put together of OpenSearch's parts and its
k1 and b; `dfs_query_then_fetch` counts idf over all shards. Vectors are memkit's encoders'. The
script `knn_score` compares every one, so that a search takes longer the larger the corpus is; with
`exact=False` a `knn` query walks an HNSW graph of each segment (FAISS), and what that misses is
missing.

**Never run against a server**: none comes from the package registries. The tests hold the exchanges
over HTTP to what OpenSearch's reference says of them (versions 2 and 3), with a double on the other
side. Compare a corpus of yours with `memkit.BM25` or `memkit.Dense` before you trust it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, get_args

from memkit import __version__
from memkit.errors import BadInput, IndexMismatch
from memkit.retrieval.base import (
    Closing,
    check_corpus,
    check_search,
    ranked,
    taken,
    unknown,
)
from memkit.retrieval.bm25 import ANALYSER, K1, B, check_parameters
from memkit.retrieval.encoder_card import encoder_card, open_encoder
from memkit.retrieval.encoders import PACKAGED, Encoder, load_encoder
from memkit.retrieval.hnsw import EF_SEARCH
from memkit.retrieval.manifest import Manifest
from memkit.retrieval.opensearch_client import Client, settings
from memkit.retrieval.passages import corpus_sha256
from memkit.retrieval.remote import Patience
from memkit.retrieval.shards import encode_queries, encode_texts
from memkit.types import Hit, Passage

__all__ = ["OpenSearch"]

Kind = Literal["bm25", "dense"]
FORMAT = 1
MOST = 10_000  # hits of a search: `index.max_result_window`
LONGEST_ID = 512  # bytes
PATIENCE = Patience()


class OpenSearch(Closing):
    """An index in an OpenSearch; made by `build` or `open`.

    A BM25 search finds passages that hold a term of the query, a dense one finds `k`. Ties are in
    order of id. `k` is at most 10,000 where more match.
    """

    def __init__(self, client: Client, card: dict[str, Any], encoder: Encoder | None) -> None:
        self._client = client
        self._kind = card["kind"]
        self._exact = card.get("exact", True)
        self._encoder = encoder

    @classmethod
    def build(
        cls,
        passages: Iterable[Passage],
        host: str,
        name: str = "memkit",
        *,
        kind: Kind = "bm25",
        encoder: str | Encoder = PACKAGED,
        k1: float = K1,
        b: float = B,
        exact: bool = True,
        shards: int = 1,
        auth: tuple[str, str] | None = None,
        patience: Patience = PATIENCE,
        replace: bool = False,
    ) -> OpenSearch:
        """Write the passages to the index `name` at `host`, an address with its port, and open it.

        `encoder` and `exact` count for "dense", `k1` and `b` for "bm25"; `auth` is user and
        password.

        Raises `BadInput` for an empty corpus, an id that stands twice, a name that is there already
        (unless `replace`); `MissingDependency`; `Unreachable`. A build that was broken off is
        opened by nothing, and overwritten by the next.
        """
        passages = sorted(_checked(passages), key=lambda passage: passage.id)
        check_parameters("auto", k1, b)
        if kind not in get_args(Kind):
            raise BadInput(
                f"kind is {kind!r}; allowed: {', '.join(map(repr, get_args(Kind)))}. Choose one."
            )
        card: dict[str, Any] = {"format": FORMAT, "kind": kind, "memkit": __version__}
        made, dimensions = None, None
        if kind == "dense":
            made = load_encoder(encoder) if isinstance(encoder, str) else encoder
            dimensions = encode_texts(made, [passages[0].contents], 1).shape[1]
            card |= encoder_card(made) | {"dimensions": dimensions, "exact": exact}
        else:
            card |= {"analyser": ANALYSER, "k1": k1, "b": b}
        client = Client(host, name, auth, patience)
        found = client.card()
        if found is not None and found.get("state") != "building" and not replace:
            raise BadInput(
                f"{client.place} has an index {name!r}; allowed: a name that is free. Choose "
                "another, or pass replace=True."
            )
        if found is not None:
            client.drop()
        client.create(settings(k1, b, shards, card | {"state": "building"}))
        index = cls(client, card, made)
        client.write(index._rows(passages))
        client.write_card(card | {"state": "whole"})
        return index

    @classmethod
    def open(
        cls,
        host: str,
        name: str = "memkit",
        encoder: str | Encoder | None = None,
        *,
        corpus: Iterable[Passage] | None = None,
        auth: tuple[str, str] | None = None,
        patience: Patience = PATIENCE,
    ) -> OpenSearch:
        """Open an index that memkit built, with the encoder that its card names or the one given.

        Raises `IndexMismatch` if there is none or it is not whole, was made with another encoder,
        or of other passages than `corpus`, if that is given; `Unreachable`.
        """
        client = Client(host, name, auth, patience)
        card = client.check_whole()
        if card.get("format") != FORMAT or card.get("analyser", ANALYSER) != ANALYSER:
            raise IndexMismatch(
                f"the index {name!r} in {client.place} has format {card.get('format')!r} and "
                f"analyser {card.get('analyser')!r}; allowed: format {FORMAT}, analyser "
                f"{ANALYSER!r}. Build it anew."
            )
        made = None
        if card["kind"] == "dense":
            call = "OpenSearch.open(host, name, encoder=...)"
            made = open_encoder(card, encoder, f"the index {name!r}", call)
        index = cls(client, card, made)
        if corpus is not None:
            there = list(index.passages())
            manifest = Manifest(card["kind"], "opensearch", len(there), corpus_sha256(there))
            manifest.check_corpus(corpus)
        return index

    def __repr__(self) -> str:
        return f"OpenSearch({self._client.host!r}, {self._client.name!r})"

    def __len__(self) -> int:
        """Number of passages, asked of the server."""
        return self._client.count()

    def passages(self) -> Iterator[Passage]:
        """All passages, in order of id."""
        return self._client.passages()

    def search(self, queries: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """The `k` best passages for each query, ties by id.

        Raises `BadInput` for an empty query or k < 1, and for more hits than OpenSearch gives;
        `IndexMismatch` while the index is being changed; `Unreachable`, also if a shard failed.
        """
        check_search(queries, k)
        if not queries:
            return []
        self._client.check_whole()
        wanted = min(k if self._exact else max(2 * k, EF_SEARCH), MOST)
        asked: list[dict[str, Any]] = [{"match": {"contents": {"query": q}}} for q in queries]
        if self._encoder is not None:
            vectors = encode_queries(self._encoder, queries, 1)
            nearest = _every if self._exact else partial(_near, k=wanted)
            asked = [nearest(vector.tolist()) for vector in vectors]
        results = []
        for query in asked:
            found, total = self._client.search(query, wanted)
            if k > MOST and total > MOST:
                raise BadInput(
                    f"k is {k} and {total} passages match; allowed in OpenSearch: {MOST}. Ask for "
                    "fewer."
                )
            pairs = [(p, s if self._encoder is None else _product(s)) for p, s in found]
            results.append(ranked(pairs, k))
        return results

    def add(self, passages: Iterable[Passage]) -> None:
        """Make the passages searchable at once.

        Raises `BadInput` for an id that stands twice or is there, before anything is changed.
        """
        passages = list(passages)
        if not passages:
            return
        _checked(passages)
        if there := self._client.present([passage.id for passage in passages]):
            raise taken(min(there))
        self._change(passages, [])

    def remove(self, ids: Iterable[str]) -> None:
        """Forget the passages.

        Raises `BadInput` for an id that is not there, and where none would be left, before
        anything is changed.
        """
        gone = list(dict.fromkeys(ids))
        if not gone:
            return
        self._check_there(gone)
        if len(gone) == len(self):
            check_corpus([])
        self._change([], gone)

    def replace(self, passages: Iterable[Passage]) -> None:
        """Give passages that are there another title and text.

        Raises `BadInput` for an id that is not there or stands twice, before anything is changed.
        """
        passages = list(passages)
        if passages:
            check_corpus(passages)
            self._check_there([passage.id for passage in passages])
            self._change(passages, [])

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _check_there(self, ids: Sequence[str]) -> None:
        present = self._client.present(ids)
        for id in ids:
            if id not in present:
                raise unknown(id)

    def _change(self, written: Sequence[Passage], gone: Sequence[str]) -> None:
        card = self._client.check_whole()
        rows = list(self._rows(written))
        self._client.write_card(card | {"state": "changing"})
        self._client.write(rows, gone)
        self._client.write_card(card)

    def _rows(self, passages: Sequence[Passage]) -> Iterator[tuple[str, dict[str, Any]]]:
        """What is stored of each passage, by id; vectors are made a thousand at a time."""
        for start in range(0, len(passages), 1000):
            part = passages[start : start + 1000]
            vectors: Sequence[Any] = [None] * len(part)
            if self._encoder is not None:
                vectors = encode_texts(self._encoder, [p.contents for p in part], 16).tolist()
            for p, vector in zip(part, vectors, strict=True):
                row = {"id": p.id, "title": p.title, "text": p.text, "contents": p.contents}
                yield p.id, row if vector is None else row | {"vector": vector}


def _checked(passages: Iterable[Passage]) -> list[Passage]:
    """As `check_corpus`; raises `BadInput` for an id that OpenSearch cannot hold, too."""
    passages = check_corpus(passages)
    for passage in passages:
        if (size := len(passage.id.encode("utf-8", "replace"))) > LONGEST_ID:
            raise BadInput(
                f"passage id {passage.id[:40]!r} has {size} bytes; allowed in OpenSearch: "
                f"{LONGEST_ID}. Shorten it."
            )
    return passages


def _near(vector: list[float], k: int) -> dict[str, Any]:
    """The `k` passages that the graph of each segment finds; k is how far it is walked, too."""
    return {"knn": {"vector": {"vector": vector, "k": k}}}


def _every(vector: list[float]) -> dict[str, Any]:
    """Every passage, scored by inner product."""
    parameters = {"field": "vector", "query_value": vector, "space_type": "innerproduct"}
    script = {"lang": "knn", "source": "knn_score", "params": parameters}
    return {"script_score": {"query": {"match_all": {}}, "script": script}}


def _product(score: float) -> float:
    """The inner product x behind a score: x + 1 for x >= 0, else 1 / (1 - x)."""
    return score - 1 if score >= 1 else 1 - 1 / score
