"""Lucene over HTTP: Anserini's REST server, one or several shards.

The server is in pyserini's jar and needs a Java 21; it binds every interface unless told otherwise:

    java -Xmx2g -cp anserini-*-fatjar.jar io.anserini.api.RestServer --host 127.0.0.1 --port 8081

It searches any index on its disk that was built with stored text (`-storeRaw`), with Anserini's
k1 0.9 and b 0.4, and changes none. Its scores are rounded to four decimals, and ties lowered by
1e-6 each in order of id.

Shards are merged by score. **Each shard counts idf and average length by itself**, so scores of a
sharded corpus are not those of one index, and some of the best passages change places. Deal
passages to shards at random, and never by topic: then the counts of the shards are alike.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any

from memkit.errors import BadInput, IndexMismatch, MemkitError
from memkit.retrieval.base import check_search, ranked
from memkit.retrieval.remote import Patience
from memkit.types import Hit, Passage

__all__ = ["RemoteLucene"]

PATIENCE = Patience()
MOST = 2**31 - 1  # a Java int
AT_ONCE = 8  # requests


class RemoteLucene:
    """A retriever over Lucene indexes on servers; it sees the change of an index at once.

    shards: pairs of a server's address and the path of an index on it, as in
        `[("http://127.0.0.1:8081", "/data/wiki-0"), ("http://127.0.0.1:8082", "/data/wiki-1")]`.

    A search asks every shard and answers when all have answered, or raises.

    Raises `BadInput` for an address that is none, and for no shards.
    """

    def __init__(self, shards: Sequence[tuple[str, str]], *, patience: Patience = PATIENCE) -> None:
        self.shards = tuple(shards)
        self.patience = patience
        if not self.shards:
            raise BadInput("RemoteLucene has no shards; allowed: one or more. Name a server.")
        for address, index in self.shards:
            if not address.startswith(("http://", "https://")) or not index:
                raise BadInput(
                    f"a shard is {(address, index)!r}; allowed: an address that begins with "
                    "http:// or https://, and the path of an index there. Correct it."
                )

    def __repr__(self) -> str:
        return f"RemoteLucene({list(self.shards)!r})"

    def search(self, queries: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """The `k` best passages of all shards for each query, of those that hold a term of it.

        Raises `BadInput` for an empty query or k < 1, `Unreachable` if a shard does not answer,
        `MemkitError` if it refuses, `IndexMismatch` if it stores no text or two shards have the
        same id: no part is passed off as the whole.
        """
        check_search(queries, k)
        asked = [(shard, query) for query in queries for shard in self.shards]
        if not asked:
            return []
        with ThreadPoolExecutor(min(AT_ONCE, len(asked))) as threads:
            found = list(
                threads.map(lambda pair: self._ask(pair[0][0], pair[0][1], pair[1], k), asked)
            )
        size = len(self.shards)
        return [self._merged(found[n : n + size], k) for n in range(0, len(found), size)]

    def _merged(self, lists: Sequence[list[tuple[Passage, float]]], k: int) -> list[Hit]:
        where: dict[str, int] = {}
        for shard, found in enumerate(lists):
            for passage, _ in found:
                if where.setdefault(passage.id, shard) != shard:
                    first, second = self.shards[where[passage.id]], self.shards[shard]
                    raise IndexMismatch(
                        f"passage id {passage.id!r} is in {first} and in {second}; allowed: shards "
                        "that share nothing. Build them of disjoint parts of the corpus."
                    )
        return ranked((pair for found in lists for pair in found), k)

    def _ask(self, address: str, index: str, query: str, k: int) -> list[tuple[Passage, float]]:
        parameters = urllib.parse.urlencode({"query": query, "hits": min(k, MOST)})
        path = urllib.parse.quote(index, safe="")
        url = f"{address.rstrip('/')}/v1/{path}/search?{parameters}"
        answer = self.patience.ask(
            lambda: _get(url, self.patience.timeout, address),
            host=f"the Lucene server at {address}",
            doing=f"searching {index!r}",
            transient=(OSError, HTTPException, json.JSONDecodeError),
        )
        return [_hit(candidate, f"{index!r} at {address}") for candidate in answer["candidates"]]


def _get(url: str, timeout: float, address: str) -> Any:
    """The JSON at an address. Raises `MemkitError` for what repeating would not help."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise
        text = " ".join(error.read(500).decode("utf-8", "replace").split())
        raise MemkitError(
            f"the Lucene server at {address} refused ({error.code}: {text}). Check the path of the "
            "index, which is one on that machine."
        ) from error


def _hit(candidate: Any, where: str) -> tuple[Passage, float]:
    doc = candidate.get("doc")
    title, text = None, doc
    if isinstance(doc, dict):  # stored as JSON with other fields than `contents`
        title, text = doc.get("title"), doc.get("text", doc.get("contents"))
    if not isinstance(text, str) or not text.strip():
        raise IndexMismatch(
            f"the index {where} gave no text for {candidate.get('docid')!r}; allowed: one built "
            "with -storeRaw. Build it again so."
        )
    return Passage(candidate["docid"], text, title or None), float(candidate["score"])
