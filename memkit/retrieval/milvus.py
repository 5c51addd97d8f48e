"""Milvus: passages in a file, on a server or in a cluster, behind the same calls.

BM25 goes as sparse vectors of memkit's own terms (`memkit.retrieval.sparse`), because Milvus' own
BM25 knows no English stemmer in a file and counts idf by segment: so all ranks are those of
`memkit.BM25`. Dense vectors are memkit's encoders', compared exactly below a million passages.

`uri` is a file ("indexes/mine.db", needs milvus-lite), or a server's or cluster's address
("http://127.0.0.1:19530"). A file belongs to the process that opened it, until that ends. A change
is not one transaction there: while it runs, and after it was broken off, the index's card says so
and searches are refused.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

from memkit import __version__
from memkit.errors import BadInput, IndexMismatch
from memkit.progress import track
from memkit.retrieval.base import Closing, check_corpus, check_search, taken, unknown
from memkit.retrieval.bm25 import ANALYSER, K1, B, check_parameters
from memkit.retrieval.encoder_card import encoder_card, open_encoder
from memkit.retrieval.encoders import PACKAGED, Encoder, load_encoder
from memkit.retrieval.manifest import Manifest
from memkit.retrieval.milvus_arms import Card, Terms, Vectors, check_whole
from memkit.retrieval.milvus_client import ROWS, Collections, check_row
from memkit.retrieval.passages import corpus_sha256
from memkit.retrieval.remote import Patience
from memkit.retrieval.shards import encode_texts
from memkit.types import Hit, Passage

__all__ = ["Milvus"]

Kind = Literal["bm25", "dense"]
FORMAT = 1
PATIENCE = Patience()


class Milvus(Closing):
    """An index in a Milvus; made by `build` or `open`.

    A BM25 search finds passages that hold a term of the query, as `memkit.BM25`; a dense one finds
    `k`, as `memkit.Dense`. Ties are in order of id. `k` is at most 16,384 where more match.
    """

    def __init__(self, store: Collections, arm: Terms | Vectors) -> None:
        self._store = store
        self._arm = arm

    @classmethod
    def build(
        cls,
        passages: Iterable[Passage],
        uri: str | os.PathLike[str],
        name: str = "memkit",
        *,
        kind: Kind = "bm25",
        encoder: str | Encoder = PACKAGED,
        k1: float = K1,
        b: float = B,
        batch_size: int = 16,
        token: str = "",
        database: str = "",
        patience: Patience = PATIENCE,
        replace: bool = False,
    ) -> Milvus:
        """Write the passages to the collections `name` and `name`_card, and open them.

        `encoder` and `batch_size` count for "dense", `k1` and `b` for "bm25". `token` is
        "user:password" or an API key. A build that was broken off is not opened by anything; the
        same call goes on where it stopped.

        Raises `BadInput` for an empty corpus, an id that stands twice, a passage that Milvus cannot
        hold, a name that is there already (unless `replace`); `MissingDependency`; `Unreachable`.
        """
        passages = sorted(check_corpus(passages), key=lambda passage: passage.id)
        for passage in passages:
            check_row(passage)
        check_parameters("auto", k1, b)
        _check_kind(kind)
        arm: Terms | Vectors
        if kind == "dense":
            encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
            first = encode_texts(encoder, [passages[0].contents], 1)
            arm = Vectors(encoder, first.shape[1], batch_size)
        else:
            arm = Terms(k1, b)
        store = Collections(os.fspath(uri), name, token, database, patience)
        card = _new_card(kind, arm, corpus_sha256(passages))
        table, numbers = arm.count(track(passages, "counting terms"))
        done = _begin(store, arm, card, len(passages), replace)
        for start in track(range(done, len(passages), ROWS), "writing to Milvus"):
            part = passages[start : start + ROWS]
            store.write(part, arm.vectors(part, table, numbers))
        store.write_terms(table)
        del card["corpus_sha256"]  # changes would make it wrong
        store.write_card(_whole(card | numbers))
        store.settle()
        return cls(store, arm)

    @classmethod
    def open(
        cls,
        uri: str | os.PathLike[str],
        name: str = "memkit",
        encoder: str | Encoder | None = None,
        *,
        corpus: Iterable[Passage] | None = None,
        batch_size: int = 16,
        token: str = "",
        database: str = "",
        patience: Patience = PATIENCE,
    ) -> Milvus:
        """Open an index with the encoder that its card names, or with the one given.

        Raises `IndexMismatch` if there is none or it is not whole, was made with another encoder,
        or of other passages than `corpus`, if that is given (all are read for that);
        `BadInput` if its encoder was an object and is not given; `Unreachable`.
        """
        store = Collections(os.fspath(uri), name, token, database, patience)
        card = check_whole(_card(store), store)
        index = cls(store, _arm(store, card, encoder, batch_size))
        if corpus is not None:
            found = list(index.passages())
            made = Manifest(card["kind"], "milvus", len(found), corpus_sha256(found))
            made.check_corpus(corpus)
        return index

    @classmethod
    def repair(
        cls,
        uri: str | os.PathLike[str],
        name: str = "memkit",
        *,
        token: str = "",
        database: str = "",
        patience: Patience = PATIENCE,
    ) -> int:
        """Make an index usable whose change was broken off; returns its number of passages.

        What the change had written stays, what it had not is missing; all counts are made anew.
        Compare `passages()` with what you wanted, or give the change again.

        Raises `IndexMismatch` if there is no index, or its build was broken off.
        """
        store = Collections(os.fspath(uri), name, token, database, patience)
        card = _card(store)
        if card is None or card["state"] == "building":
            check_whole(card, store)
        assert card is not None
        if card["kind"] == "bm25":
            table, numbers = Terms(K1, B).count(store.passages())
            known, _ = store.read_terms(table)
            places = card["places"]
            for term in table.keys() - known.keys():
                places += 1
                known[term] = (places, 0)
            store.write_terms({term: (known[term][0], df) for term, (_, df) in table.items()})
            card |= {n: numbers[n] for n in ("documents", "length")} | {"places": places}
        store.write_card(_whole(card))
        store.settle()
        return store.count()

    def __repr__(self) -> str:
        return f"Milvus({self._store.uri!r}, {self._store.name!r})"

    def __len__(self) -> int:
        """Number of passages, asked of the store."""
        return self._store.count()

    def passages(self) -> Iterator[Passage]:
        """All passages, in no order, read by the thousand."""
        return self._store.passages()

    def search(self, queries: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """The `k` best passages for each query, ties by id.

        Raises `BadInput` for an empty query or k < 1, `IndexMismatch` while the index is being
        changed, `Unreachable` if the server does not answer.
        """
        check_search(queries, k)
        return self._arm.search(self._store, queries, k) if queries else []

    def add(self, passages: Iterable[Passage]) -> None:
        """Make the passages searchable at once.

        Raises `BadInput` for an id that stands twice or is there, before anything is changed.
        """
        new = _checked(passages)
        if there := self._store.read([passage.id for passage in new]):
            raise taken(min(there))
        self._change(new, [])

    def remove(self, ids: Iterable[str]) -> None:
        """Forget the passages.

        Raises `BadInput` for an id that is not there, and where none would be left, before
        anything is changed.
        """
        gone = list(dict.fromkeys(ids))
        old = self._there(gone)
        if gone and len(gone) == len(self):
            check_corpus([])
        self._change([], old)

    def replace(self, passages: Iterable[Passage]) -> None:
        """Give passages that are there another title and text.

        Raises `BadInput` for an id that is not there or stands twice, before anything is changed.
        """
        new = _checked(passages)
        self._change(new, self._there([passage.id for passage in new]))

    def _there(self, ids: list[str]) -> list[Passage]:
        found = self._store.read(ids)
        for id in ids:
            if id not in found:
                raise unknown(id)
        return [found[id] for id in ids]

    def _change(self, added: list[Passage], removed: list[Passage]) -> None:
        if not added and not removed:
            return
        card = check_whole(self._store.read_card(), self._store)
        table, after = self._arm.change(self._store, card, added, removed)
        vectors = self._arm.vectors(added, table, after) if added else []
        kept = {passage.id for passage in added}
        self._store.write_card(card | {"state": "changing"})
        self._store.write(added, vectors)
        self._store.delete([p.id for p in removed if p.id not in kept])
        self._store.write_terms(table)
        self._store.write_card(_whole(after))
        if self._store.is_file:
            self._store.settle()

    def close(self) -> None:
        """Let go of the connection."""
        self._store.close()


def _checked(passages: Iterable[Passage]) -> list[Passage]:
    passages = list(passages)
    for passage in check_corpus(passages) if passages else ():
        check_row(passage)
    return passages


def _card(store: Collections) -> Card | None:
    """The card of an index that is being opened."""
    if len(store.there()) < 2:
        return None
    store.load()
    return store.read_card()


def _whole(card: Card) -> Card:
    """The card of an index that is whole, with a version that no other state of it has."""
    return card | {"state": "whole", "version": secrets.token_hex(8)}


def _new_card(kind: Kind, arm: Terms | Vectors, digest: str) -> Card:
    card: Card = {"format": FORMAT, "kind": kind, "state": "building", "memkit": __version__}
    card |= {"corpus_sha256": digest, "dimensions": arm.dimensions}
    if isinstance(arm, Terms):
        return card | {"analyser": ANALYSER, "k1": arm.k1, "b": arm.b}
    return card | encoder_card(arm.encoder)


def _begin(store: Collections, arm: Terms | Vectors, card: Card, count: int, replace: bool) -> int:
    """Make the collections; returns how many passages an earlier try at the same has written."""
    if store.there():
        found = _card(store)
        if found == card:
            return min(store.count() // ROWS * ROWS, count)
        if not replace and found is not None and found["state"] != "building":
            raise BadInput(
                f"{store.host} has an index {store.name!r}; allowed: a name that is free. Choose "
                "another, or pass replace=True."
            )
        store.drop()
    store.create(arm.dimensions, arm.index(count))
    store.write_card(card)
    return 0


def _arm(
    store: Collections, card: Card, encoder: str | Encoder | None, batch_size: int
) -> Terms | Vectors:
    if card.get("format") != FORMAT or card.get("analyser", ANALYSER) != ANALYSER:
        raise IndexMismatch(
            f"the index {store.name!r} in {store.host} has format {card.get('format')!r} and "
            f"analyser {card.get('analyser')!r}; allowed: format {FORMAT}, analyser {ANALYSER!r}. "
            "Build it anew."
        )
    if card["kind"] == "bm25":
        return Terms(card["k1"], card["b"])
    index, call = f"the index {store.name!r}", "Milvus.open(uri, name, encoder=...)"
    encoder = open_encoder(card, encoder, index, call)
    return Vectors(encoder, card["dimensions"], batch_size)


def _check_kind(kind: Any) -> None:
    if kind not in get_args(Kind):
        raise BadInput(
            f"kind is {kind!r}; allowed: {', '.join(map(repr, get_args(Kind)))}. Choose one."
        )
