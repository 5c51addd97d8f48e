"""What `memkit.retrieval.milvus` needs of a Milvus: two collections, patience, and plain errors.

`NAME` holds the passages {id, title, text, vector}, `NAME_card` rows {key, place, df, value}: one a
term (its dimension and how many documents have it), and under the key "" the card, as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from memkit.errors import BadInput, MemkitError, MissingDependency
from memkit.retrieval.remote import Patience
from memkit.types import Passage

__all__ = ["MOST", "ROWS", "Collections", "Found", "check_row"]

T = TypeVar("T")
Found = list[tuple[Passage, float]]

CARD = ""
MOST = 16_384  # hits that a search of Milvus can give
LONGEST = 65_535  # bytes in a VARCHAR
ROWS = 1_000  # in one request
FIELDS = ["id", "title", "text"]
SILENCE = re.compile("unavailable|timeout|timed out|deadline|closed channel|fail connect", re.I)


class Collections:
    """The two collections of one index, in a file, on a server or in a cluster."""

    def __init__(self, uri: str, name: str, token: str, database: str, patience: Patience) -> None:
        self.uri, self.name, self.patience = uri, name, patience
        self.cards = f"{name}_card"
        pymilvus = _pymilvus()
        self._error = pymilvus.MilvusException
        self._types = pymilvus.DataType
        if self.is_file:
            Path(uri).absolute().parent.mkdir(parents=True, exist_ok=True)
        options = {"uri": uri, "token": token, "db_name": database, "timeout": patience.timeout}
        self.client = self._ask(lambda: pymilvus.MilvusClient(**options), "connecting")

    @property
    def host(self) -> str:
        """What messages call the Milvus."""
        return f"Milvus at {self.uri}"

    def call(self, method: str, doing: str, **arguments: Any) -> Any:
        """The answer to one of pymilvus' calls, each of which may be repeated without harm.

        Raises `Unreachable` for no answer, `MemkitError` for a refusal; both name the host.
        """
        request = getattr(self.client, method)
        return self._ask(lambda: request(timeout=self.patience.timeout, **arguments), doing)

    def _ask(self, request: Callable[[], T], doing: str) -> T:
        def answer() -> T:
            try:
                return request()
            except self._error as error:
                text = " ".join(str(error).split())[:300]
                if SILENCE.search(text):
                    raise TimeoutError(text) from error
                check = f"Check the collection {self.name!r} there, and the token and database"
                if self.is_file:
                    check = (
                        "A file belongs to one process at a time, until that ends: close others "
                        "that use it, or run `milvus-lite server` and give its address"
                    )
                raise MemkitError(f"{self.host} refused while {doing}: {text}. {check}.") from error

        return self.patience.ask(answer, host=self.host, doing=doing, transient=(TimeoutError,))

    def there(self) -> list[str]:
        """Those of the two collections that are there; one alone is what a killed build left."""
        found = self.call("list_collections", "listing collections")
        return [name for name in (self.cards, self.name) if name in found]

    def load(self) -> None:
        """Have both searched: whoever restarts, a file too, knows them and has not loaded them."""
        for name in (self.cards, self.name):
            self.call("load_collection", f"loading {name!r}", collection_name=name)

    def create(self, dimensions: int | None, index: Mapping[str, Any]) -> None:
        """Make both, for dense vectors of so many dimensions, or for sparse ones."""
        kinds = self._types
        vector = {"datatype": kinds.SPARSE_FLOAT_VECTOR}
        if dimensions is not None:
            vector = {"datatype": kinds.FLOAT_VECTOR, "dim": dimensions}
        text = {"datatype": kinds.VARCHAR, "max_length": LONGEST}
        self._create(
            self.name,
            {"id": {**text, "is_primary": True}, "title": text, "text": text, "vector": vector},
            index,
        )
        fields = {
            "key": {**text, "is_primary": True},
            "place": {"datatype": kinds.INT64},
            "df": {"datatype": kinds.INT64},
            "value": text,
            "vector": {"datatype": kinds.FLOAT_VECTOR, "dim": 2},  # Milvus wants one
        }
        self._create(self.cards, fields, {"index_type": "FLAT", "metric_type": "L2"})

    def _create(self, name: str, fields: Mapping[str, Any], index: Mapping[str, Any]) -> None:
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        for field, options in fields.items():
            schema.add_field(field_name=field, **options)
        indexes = self.client.prepare_index_params()
        indexes.add_index(field_name="vector", **index)
        doing, named = f"creating the collection {name!r}", {"collection_name": name}
        self.call("create_collection", doing, schema=schema, consistency_level="Strong", **named)
        # it is empty: there is nothing to wait for, which pymilvus would do for half a second
        self.call("create_index", doing, index_params=indexes, sync=False, **named)
        self.call("load_collection", doing, **named)

    def drop(self) -> None:
        """Delete both, where they are there; the card first, without which the rest is nothing."""
        for name in self.there():
            self.call("drop_collection", f"dropping {name!r}", collection_name=name)

    def read_card(self) -> dict[str, Any] | None:
        """The card, or None where there is none."""
        return self.read_terms([])[1]

    def write_card(self, card: Mapping[str, Any]) -> None:
        """Replace the card."""
        self.write_terms({CARD: (0, 0)}, json.dumps(card, sort_keys=True))

    def read_terms(
        self, terms: Iterable[str]
    ) -> tuple[dict[str, tuple[int, int]], dict[str, Any] | None]:
        """Dimension and document count of those of the terms that are there, and the card."""
        rows = []
        for keys in _chunks([CARD, *terms]):
            rows += self.call(
                "get",
                "reading the card",
                collection_name=self.cards,
                ids=keys,
                output_fields=["key", "place", "df", "value"],
            )
        cards = [json.loads(row["value"]) for row in rows if row["key"] == CARD]
        found = {row["key"]: (row["place"], row["df"]) for row in rows if row["key"] != CARD}
        return found, cards[0] if cards else None

    def write_terms(self, terms: Mapping[str, tuple[int, int]], value: str = "") -> None:
        """Set dimension and document count of terms."""
        rows = [
            {"key": key, "place": place, "df": df, "value": value, "vector": [0.0, 0.0]}
            for key, (place, df) in terms.items()
        ]
        for part in _chunks(rows):
            self.call("upsert", "writing terms", collection_name=self.cards, data=part)

    @property
    def is_file(self) -> bool:
        """Whether the Milvus is a file, which milvus-lite searches in this process."""
        return "://" not in self.uri

    def settle(self) -> None:
        """Move what was written from the log to segments, however long that takes.

        milvus-lite searches its log row by row: of 10,000 passages in a second, and not in ten
        milliseconds. A server need not be told after each change, and forbids more than one in ten
        seconds.
        """
        for name in (self.name, self.cards):
            self._ask(partial(self.client.flush, name), f"settling {name!r}")

    def count(self) -> int:
        """Number of passages."""
        (row,) = self.call(
            "query",
            "counting",
            collection_name=self.name,
            filter="",
            output_fields=["count(*)"],
        )
        return int(row["count(*)"])

    def write(self, passages: Sequence[Passage], vectors: Sequence[Any]) -> None:
        """Set passages with their vectors; those of the same id are overwritten."""
        rows = [
            {"id": p.id, "title": p.title or "", "text": p.text, "vector": vector}
            for p, vector in zip(passages, vectors, strict=True)
        ]
        for part in _chunks(rows):
            self.call("upsert", "writing passages", collection_name=self.name, data=part)

    def delete(self, ids: Sequence[str]) -> None:
        """Forget passages."""
        for part in _chunks(list(ids)):
            self.call("delete", "deleting passages", collection_name=self.name, ids=part)

    def read(self, ids: Sequence[str]) -> dict[str, Passage]:
        """Those of the passages that are there."""
        rows: list[Any] = []
        for part in _chunks(list(ids)):
            rows += self.call(
                "get",
                "reading passages",
                collection_name=self.name,
                ids=part,
                output_fields=FIELDS,
            )
        return {row["id"]: _passage(row) for row in rows}

    def passages(self) -> Iterator[Passage]:
        """All passages, in no order."""
        iterator = self.call(
            "query_iterator",
            "reading passages",
            collection_name=self.name,
            batch_size=ROWS,
            filter="",
            output_fields=FIELDS,
        )
        try:
            while rows := self._ask(iterator.next, "reading passages"):
                yield from map(_passage, rows)
        finally:
            iterator.close()

    def search(
        self, vectors: Sequence[Any], limit: int, parameters: Mapping[str, Any]
    ) -> list[Found]:
        """The passages with the largest inner products with each vector."""
        found = self.call(
            "search",
            "searching",
            collection_name=self.name,
            data=list(vectors),
            anns_field="vector",
            limit=limit,
            output_fields=FIELDS,
            search_params={"metric_type": "IP", "params": dict(parameters)},
        )
        return [
            [(_passage(hit["entity"]), float(hit["distance"])) for hit in hits] for hits in found
        ]

    def close(self) -> None:
        """Let go of the connection."""
        self.client.close()


def check_row(passage: Passage) -> None:
    """Raise `BadInput` for a passage that Milvus cannot hold."""
    for name, text in (("id", passage.id), ("title", passage.title or ""), ("text", passage.text)):
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise BadInput(
                f"the {name} of passage {passage.id!r} is not valid Unicode ({error}); allowed in "
                "Milvus: text in UTF-8. Repair it."
            ) from error
        if size > LONGEST:
            raise BadInput(
                f"the {name} of passage {passage.id[:40]!r} has {size} bytes; allowed in Milvus: "
                f"{LONGEST}. Cut it into passages."
            )


def _passage(row: Mapping[str, Any]) -> Passage:
    return Passage(row["id"], row["text"], row["title"] or None)


def _chunks(items: Sequence[T]) -> Iterator[list[T]]:
    return (list(items[start : start + ROWS]) for start in range(0, len(items), ROWS))


def _pymilvus() -> Any:
    try:
        import pymilvus
    except ImportError as error:
        raise MissingDependency(
            "the store Milvus needs pymilvus, which is not installed. "
            'pip install "memkit[milvus]", or build a BM25 or Dense index on this machine.'
        ) from error
    return pymilvus
