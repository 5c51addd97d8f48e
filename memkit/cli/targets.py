"""Where an index is: a folder, or `milvus:ADDRESS#NAME` or `opensearch:ADDRESS#NAME`.

    indexes/mine                            a folder
    milvus:indexes/mine.db                  a file of milvus-lite, index "memkit"
    milvus:http://127.0.0.1:19530#mine      a Milvus server or cluster
    opensearch:https://host:9200#mine       an OpenSearch

A password stands in the environment, as MEMKIT_TOKEN=user:password; Milvus takes an API key, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memkit.errors import BadInput, IndexMismatch
from memkit.types import Passage

if TYPE_CHECKING:
    from memkit.retrieval.base import Index

__all__ = ["Target", "open_index"]

STORES = ("milvus", "opensearch")
TOKEN = "MEMKIT_TOKEN"


@dataclass(frozen=True, slots=True)
class Target:
    """The store ("folder" or one of `STORES`), its folder or address, and the index's name there.

    Raises `BadInput` for a store without an address, and for an OpenSearch without "http".
    """

    store: str
    place: str
    name: str = "memkit"

    @classmethod
    def read(cls, text: str) -> Target:
        """What a word on the command line names."""
        store, colon, rest = text.partition(":")
        if not colon or store not in STORES:
            return cls("folder", text)
        place, _, name = rest.partition("#")
        if not place or (store == "opensearch" and not place.startswith(("http://", "https://"))):
            raise BadInput(
                f"{text!r} names no place; allowed: milvus:FILE, milvus:http://HOST:PORT#NAME, "
                "opensearch:https://HOST:PORT#NAME, or a folder. Add the address."
            )
        return cls(store, place, name or "memkit")

    def __str__(self) -> str:
        return self.place if self.store == "folder" else f"{self.store}:{self.place}#{self.name}"

    def client(self) -> tuple[Any, dict[str, Any]]:
        """The class whose `build` and `open` take `place` and `name`, and what names the user.

        Raises `BadInput` for a token that is no user and password, where OpenSearch needs one.
        """
        token = os.environ.get(TOKEN, "")
        if self.store == "milvus":
            from memkit.retrieval.milvus import Milvus

            return Milvus, {"token": token}
        from memkit.retrieval.opensearch import OpenSearch

        user, colon, password = token.partition(":")
        if token and not colon:
            raise BadInput(
                f"{TOKEN} has no colon; allowed for OpenSearch: user:password. Set it so, or "
                "unset it."
            )
        return OpenSearch, {"auth": (user, password) if token else None}


def open_index(text: str, corpus: Path | None = None) -> Index:
    """The index that a target names, of whatever kind it is, and of `corpus` if that is given.

    Raises `BadInput` and `IndexMismatch`.
    """
    from memkit.benchmarks.corpus import read_corpus

    target = Target.read(text)
    passages = None if corpus is None else read_corpus(corpus)
    if target.store == "folder":
        return _in_folder(Path(text), passages)
    store, user = target.client()
    opened: Index = store.open(target.place, target.name, corpus=passages, **user)
    return opened


def _in_folder(folder: Path, passages: Sequence[Passage] | None) -> Index:
    try:
        kind = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        kind = "bm25"  # which says what is wrong, and opens Lucene indexes of others
    if kind == "bm25":
        from memkit.retrieval.bm25 import BM25

        return BM25.open(folder, passages)
    if kind == "dense":
        from memkit.retrieval.dense import Dense

        return Dense.open(folder, corpus=passages)
    raise IndexMismatch(
        f"{str(folder)!r} is an index of kind {kind!r}; allowed: bm25, dense. Build one of these: "
        "memkit index build CORPUS FOLDER."
    )
