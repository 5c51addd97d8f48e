"""Retrievers by name, as a specification asks for them: one literal, one line a kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from memkit.compare.rows import Rows
from memkit.errors import BadInput
from memkit.retrieval.base import Retriever
from memkit.retrieval.hybrid import DEPTH, RRF_K, Fusion, Normalise
from memkit.types import Hit, Passage

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["RETRIEVERS", "Kind", "Material"]


@dataclass(frozen=True, slots=True)
class Material:
    """What a retriever can be made of.

    `place` finds a path of the specification, `folder` is a scratch folder for indexes, `other`
    gives another retriever of the specification.
    """

    rows: Rows
    lm: LM
    place: Callable[[str], str]
    folder: Path
    other: Callable[[str], Retriever]

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The benchmark's passages."""
        return self.rows.benchmark.passages


@dataclass(frozen=True, slots=True)
class BM25:
    """An index that is there, or one of the benchmark's passages."""

    path: str | None = None
    engine: Literal["auto", "lucene", "bm25s"] = "auto"
    k1: float = 0.9
    b: float = 0.4

    def __post_init__(self) -> None:
        """Check the numbers."""
        from memkit.retrieval.bm25 import check_parameters

        check_parameters(self.engine, self.k1, self.b)

    def build(self, material: Material) -> Retriever:
        """Open or index."""
        from memkit.retrieval import bm25

        if self.path is not None:
            return bm25.BM25.open(material.place(self.path))
        return bm25.BM25.build(material.passages, engine=self.engine, k1=self.k1, b=self.b)


@dataclass(frozen=True, slots=True)
class Dense:
    """An index that is there, or one of the benchmark's passages, by an encoder."""

    path: str | None = None
    encoder: str | None = None
    query_batch_size: int = 1

    def __post_init__(self) -> None:
        """Check the number."""
        if self.query_batch_size < 1:
            raise BadInput(
                f"query_batch_size is {self.query_batch_size}; allowed: at least 1. Leave it out."
            )

    def build(self, material: Material) -> Retriever:
        """Open or encode."""
        from memkit.retrieval.dense import Dense as Index
        from memkit.retrieval.encoders import PACKAGED

        encoder = None if self.encoder is None else material.place(self.encoder)
        if self.path is not None:
            index = Index.open(material.place(self.path), encoder)
        else:
            folder = material.folder / f"dense-{len(list(material.folder.iterdir()))}"
            index = Index.build(material.passages, folder, encoder=encoder or PACKAGED)
        index.query_batch_size = self.query_batch_size
        return index


@dataclass(frozen=True, slots=True)
class Hybrid:
    """A fusion of other retrievers of the specification."""

    of: tuple[str, ...]
    fusion: Fusion = "rrf"
    rrf_k: float = RRF_K
    weights: tuple[float, ...] | None = None
    normalise: Normalise = "min-max"
    depth: int = DEPTH

    def __post_init__(self) -> None:
        """Check the numbers."""
        self._over([Given({})] * len(self.of))

    def build(self, material: Material) -> Retriever:
        """Fuse."""
        return self._over([material.other(name) for name in self.of])

    def _over(self, parts: Sequence[Retriever]) -> Retriever:
        from memkit.retrieval.hybrid import Hybrid as Fused

        return Fused(
            parts,
            fusion=self.fusion,
            rrf_k=self.rrf_k,
            weights=self.weights,
            normalise=self.normalise,
            depth=self.depth,
        )


@dataclass(frozen=True, slots=True)
class Definitions:
    """The benchmark's definitions, by the subjects that a question names."""

    def build(self, material: Material) -> Retriever:
        """Look them up."""
        from memkit.retrieval.definitions import Definitions as Lookup

        return Lookup(material.rows.benchmark.definitions)


@dataclass(frozen=True, slots=True)
class GenRead:
    """What the model itself writes about the question."""

    prompt: str | None = None
    max_new_tokens: int = 150

    def __post_init__(self) -> None:
        """Check the prompt."""
        self._by(None)

    def build(self, material: Material) -> Retriever:
        """Ask the model."""
        return self._by(material.lm)

    def _by(self, lm: Any) -> Retriever:
        from memkit.retrieval import genread

        prompt = self.prompt or genread.PROMPT
        return genread.GenRead(lm, prompt=prompt, max_new_tokens=self.max_new_tokens)


@dataclass(frozen=True, slots=True)
class File:
    """Results that were retrieved elsewhere."""

    path: str
    missing: Literal["error", "empty"] = "error"

    def build(self, material: Material) -> Retriever:
        """Read them."""
        from memkit.retrieval.from_file import FromFile

        return FromFile(material.place(self.path), missing=self.missing)


@dataclass(frozen=True, slots=True)
class Store:
    """An index in a store that is running, which memkit built there."""

    address: str
    name: str = "memkit"
    encoder: str | None = None

    def build(self, material: Material) -> Retriever:
        """Open it in Milvus."""
        from memkit.retrieval.milvus import Milvus

        return Milvus.open(material.place(self.address), self.name, self.encoder)


@dataclass(frozen=True, slots=True)
class OpenSearch(Store):
    """The same in OpenSearch."""

    def build(self, material: Material) -> Retriever:
        """Open it."""
        from memkit.retrieval.opensearch import OpenSearch as Index

        return Index.open(self.address, self.name, self.encoder)


@dataclass(frozen=True, slots=True)
class RemoteLucene:
    """Lucene on servers: pairs of an address and the path of an index there."""

    shards: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        """Check the addresses."""
        self._named()

    def build(self, material: Material) -> Retriever:
        """Name the servers."""
        return self._named()

    def _named(self) -> Retriever:
        from memkit.retrieval.remote_lucene import RemoteLucene as Remote

        return Remote(self.shards)


class Given:
    """A control: passages that were chosen for each text beforehand."""

    def __init__(self, given: Mapping[str, Sequence[Passage]]) -> None:
        self.given = given

    def search(self, queries: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """The passages of each query; none for another text."""
        return [
            [Hit(p, 0.0, rank) for rank, p in enumerate(self.given.get(query, ())[:k], start=1)]
            for query in queries
        ]


@dataclass(frozen=True, slots=True)
class Gold:
    """The control with the passages that hold the answer."""

    def build(self, material: Material) -> Retriever:
        """Look up the gold passages."""
        passages = {passage.id: passage for passage in material.passages}
        return Given(
            {
                question.text: [passages[id] for id in question.gold if id in passages]
                for question in _questions(material.rows)
            }
        )


@dataclass(frozen=True, slots=True)
class Random:
    """The control with a passage that is not the question's own."""

    def build(self, material: Material) -> Retriever:
        """Draw one for each question, by the seed of the rows."""
        import random

        rng = random.Random(material.rows.seed)
        ids = [passage.id for passage in material.passages]
        passages = {passage.id: passage for passage in material.passages}
        given = {}
        for question in _questions(material.rows):
            others = [id for id in rng.sample(ids, min(9, len(ids))) if id not in question.gold]
            given[question.text] = [passages[id] for id in others]
        return Given(given)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of retriever: its settings, and what a benchmark has to have for it.

    `follows` says that its corpus can follow the edits, `drawn` that it is made for the rows.
    """

    settings: type[Any]
    needs: Literal["passages", "definitions", "nothing"] = "nothing"
    follows: bool = False
    drawn: bool = False


RETRIEVERS: Mapping[str, Kind] = {
    "bm25": Kind(BM25, "passages", follows=True),
    "definitions": Kind(Definitions, "definitions", follows=True),
    "dense": Kind(Dense, "passages", follows=True),
    "file": Kind(File),
    "genread": Kind(GenRead),
    "gold": Kind(Gold, "passages", follows=True, drawn=True),
    "hybrid": Kind(Hybrid, follows=True),
    "milvus": Kind(Store),
    "opensearch": Kind(OpenSearch),
    "random": Kind(Random, "passages", drawn=True),
    "remote-lucene": Kind(RemoteLucene),
}


def _questions(rows: Rows) -> Iterator[Any]:
    yield from (row.question for row in rows.rows)
    yield from rows.fit
