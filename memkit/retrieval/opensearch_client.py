"""What `memkit.retrieval.opensearch` asks of an OpenSearch: one index, patience, plain errors.

A document is {id, title, text, contents, vector}; the card stands in the mapping's `_meta`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from memkit.errors import IndexMismatch, MemkitError, MissingDependency, Unreachable
from memkit.retrieval.analysis import STOP_WORDS
from memkit.retrieval.hnsw import EF_BUILD, NEIGHBOURS
from memkit.retrieval.remote import Patience
from memkit.types import Passage

__all__ = ["Client", "settings"]

T = TypeVar("T")
Row = tuple[str, dict[str, Any]]

ROWS = 500  # in one request
FIELDS = ["id", "title", "text"]
RETRIED = (429, 500, 502, 503, 504)


def settings(k1: float, b: float, shards: int, card: Mapping[str, Any]) -> dict[str, Any]:
    """The body that makes the index: Lucene's EnglishAnalyzer in parts, k1 and b, and the fields.

    Deleted passages would go on counting in idf until their segment is merged: after a change they
    are expunged, which needs that no share of them is tolerated.
    """
    analysis = {
        "filter": {
            "possessive": {"type": "stemmer", "language": "possessive_english"},
            "stop_words": {"type": "stop", "stopwords": sorted(STOP_WORDS)},
        },
        "analyzer": {
            "memkit": {
                "type": "custom",
                "tokenizer": "standard",
                "filter": ["possessive", "lowercase", "stop_words", "porter_stem"],
            }
        },
    }
    stored = {"type": "keyword", "index": False, "doc_values": False}
    contents = {"type": "text", "analyzer": "memkit", "similarity": "memkit"}
    fields: dict[str, Any] = {"id": {"type": "keyword"}, "title": stored, "text": stored}
    index: dict[str, Any] = {
        "number_of_shards": shards,
        "similarity": {"memkit": {"type": "BM25", "k1": k1, "b": b}},
        "merge": {"policy": {"expunge_deletes_allowed": 0}},
    }
    if card["kind"] == "bm25":
        fields["contents"] = contents
    else:
        fields["contents"] = {"type": "text", "index": False}
        fields["vector"] = {"type": "knn_vector", "dimension": card["dimensions"]}
        if not card["exact"]:
            index["knn"] = True
            fields["vector"]["method"] = {
                "name": "hnsw",
                "engine": "faiss",
                "space_type": "innerproduct",
                "parameters": {"m": NEIGHBOURS, "ef_construction": EF_BUILD},
            }
    mappings = {"_meta": {"memkit": dict(card)}, "dynamic": False, "properties": fields}
    return {"settings": {"index": index, "analysis": analysis}, "mappings": mappings}


class Client:
    """One index on one OpenSearch."""

    def __init__(
        self, host: str, name: str, auth: tuple[str, str] | None, patience: Patience
    ) -> None:
        try:
            import opensearchpy
        except ImportError as error:
            raise MissingDependency(
                "the store OpenSearch needs opensearch-py, which is not installed. "
                'pip install "memkit[opensearch]", or build an index on this machine.'
            ) from error
        self.host, self.name, self.patience = host, name, patience
        self._errors = opensearchpy.exceptions
        self._client = opensearchpy.OpenSearch(
            [host], http_auth=auth, timeout=patience.timeout, max_retries=0
        )

    @property
    def place(self) -> str:
        """What messages call the OpenSearch."""
        return f"OpenSearch at {self.host}"

    def _ask(self, request: Callable[[], T], doing: str) -> T:
        """The answer to a request that may be repeated without harm.

        Raises `Unreachable` for no answer, `MemkitError` for a refusal; both name the host.
        """

        def answer() -> T:
            try:
                return request()
            except self._errors.ConnectionError as error:  # time-outs are some
                raise TimeoutError(str(error)) from error
            except self._errors.TransportError as error:
                text = " ".join(str(error).split())[:300]
                if error.status_code in RETRIED:
                    raise TimeoutError(text) from error
                raise MemkitError(
                    f"{self.place} refused while {doing}: {text}. Check the index {self.name!r} "
                    "there, and user and password."
                ) from error

        return self.patience.ask(answer, host=self.place, doing=doing, transient=(TimeoutError,))

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def card(self) -> dict[str, Any] | None:
        """The card, {} in an index of others, None where there is no such index."""

        def mapping() -> Any:
            try:
                return self._client.indices.get_mapping(index=self.name)
            except self._errors.NotFoundError:
                return None

        found = self._ask(mapping, "reading the card")
        if found is None:
            return None
        return dict(found[self.name]["mappings"].get("_meta", {}).get("memkit", {}))

    def check_whole(self) -> dict[str, Any]:
        """The card of an index that is there and whole. Raises `IndexMismatch` for another."""
        card = self.card()
        if not card:
            raise IndexMismatch(
                f"{self.place} has no index {self.name!r} of memkit's; allowed: one that memkit "
                "built there. Check the name, or build it (OpenSearch.build)."
            )
        if card["state"] != "whole":
            raise IndexMismatch(
                f"the index {self.name!r} in {self.place} is not whole: its card says "
                f"{card['state']!r}. Wait until whoever is writing has finished; if that was "
                "broken off, build the index anew."
            )
        return card

    def create(self, body: Mapping[str, Any]) -> None:
        """Make the index."""
        self._ask(
            lambda: self._client.indices.create(index=self.name, body=dict(body)),
            "creating the index",
        )

    def drop(self) -> None:
        """Delete the index."""
        self._ask(
            lambda: self._client.indices.delete(index=self.name, ignore_unavailable=True),
            "deleting the index",
        )

    def write_card(self, card: Mapping[str, Any]) -> None:
        """Replace the card."""
        body = {"_meta": {"memkit": dict(card)}}
        self._ask(
            lambda: self._client.indices.put_mapping(index=self.name, body=body),
            "writing the card",
        )

    def write(self, rows: Iterable[Row], gone: Sequence[str] = ()) -> None:
        """Set documents and forget others; searchable, and forgotten in idf, when it returns."""
        iterator = iter(rows)
        while part := list(islice(iterator, ROWS)):
            self._bulk([x for id, row in part for x in ({"index": {"_id": id}}, row)])
        for start in range(0, len(gone), ROWS):
            self._bulk([{"delete": {"_id": id}} for id in gone[start : start + ROWS]])
        self._ask(lambda: self._client.indices.refresh(index=self.name), "refreshing")
        self._ask(
            lambda: self._client.indices.forcemerge(
                index=self.name, only_expunge_deletes=True, request_timeout=3600
            ),
            "expunging what was deleted",
        )

    def _bulk(self, body: list[dict[str, Any]]) -> None:
        answer = self._ask(lambda: self._client.bulk(index=self.name, body=body), "writing")
        for item in answer["items"]:
            (result,) = item.values()
            absent = "delete" in item and result["status"] == 404  # a repetition finds it gone
            if result["status"] >= 300 and not absent:
                raise MemkitError(
                    f"{self.place} refused passage {result['_id']!r}: "
                    f"{str(result.get('error'))[:200]}. The index {self.name!r} is not whole now: "
                    "correct the passage and build it anew."
                )

    def present(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that are there."""
        found: set[str] = set()
        for start in range(0, len(ids), ROWS):
            body = {"ids": list(ids[start : start + ROWS])}
            answer = self._ask(
                lambda body=body: self._client.mget(index=self.name, body=body, _source=False),  # type: ignore[misc]
                "looking ids up",
            )
            found |= {doc["_id"] for doc in answer["docs"] if doc.get("found")}
        return found

    def count(self) -> int:
        """Number of passages."""
        return int(self._ask(lambda: self._client.count(index=self.name), "counting")["count"])

    def passages(self) -> Iterator[Passage]:
        """All passages, in order of id."""
        after: list[Any] = []
        while True:
            body: dict[str, Any] = {"size": ROWS, "sort": [{"id": "asc"}], "_source": FIELDS}
            if after:
                body["search_after"] = after
            hits = self._search(body)["hits"]["hits"]
            yield from (_passage(hit["_source"]) for hit in hits)
            if len(hits) < ROWS:
                return
            after = hits[-1]["sort"]

    def search(
        self, query: Mapping[str, Any], size: int
    ) -> tuple[list[tuple[Passage, float]], int]:
        """The best passages with their scores, and how many match."""
        answer = self._search(
            {
                "query": dict(query),
                "size": size,
                "sort": [{"_score": "desc"}, {"id": "asc"}],
                "_source": FIELDS,
                "track_total_hits": True,
            }
        )
        found = [(_passage(h["_source"]), float(h["_score"])) for h in answer["hits"]["hits"]]
        return found, int(answer["hits"]["total"]["value"])

    def _search(self, body: Mapping[str, Any]) -> Any:
        answer = self._ask(
            lambda: self._client.search(
                index=self.name,
                body=dict(body),
                search_type="dfs_query_then_fetch",
                allow_partial_search_results=False,
            ),
            "searching",
        )
        failed = answer["_shards"]["failed"]
        if failed or answer["timed_out"]:
            raise Unreachable(
                f"{self.place} gave a part: {failed} of {answer['_shards']['total']} shards failed "
                f"(timed out: {answer['timed_out']}). Check the cluster's health and ask again."
            )
        return answer


def _passage(row: Mapping[str, Any]) -> Passage:
    return Passage(row["id"], row["text"], row.get("title") or None)
