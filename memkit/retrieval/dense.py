"""Dense retrieval: passages and queries as vectors, compared by inner product.

The encoder is the user's choice, see `memkit.retrieval.encoders`. By default every passage is
compared ("exact"); from `FAISS_FROM` passages on, `engine="auto"` searches a graph ("faiss",
HNSW), which is quicker and misses some: of the ten best, 6 in 1,000 in a trial with 40,000
vectors of 384 dimensions, and more the larger the corpus is.

On disk: passages as in `memkit.retrieval.passages`, `vectors.npy` [n, d] float32 in the same
order, `graph.faiss` for faiss, and the manifest, with a hash of the encoder. Vectors beyond
`IN_MEMORY` stay on disk, mapped into memory; the graph is read into memory, vectors and all.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput, IndexMismatch
from memkit.files import building
from memkit.retrieval.base import check_corpus, check_search
from memkit.retrieval.encoder_card import check_encoder, open_encoder, settings_of
from memkit.retrieval.encoders import PACKAGED, Encoder, load_encoder
from memkit.retrieval.exact import Vectors, exact_search, largest_norm
from memkit.retrieval.hnsw import EF_BUILD, EF_SEARCH, HNSW, NEIGHBOURS, require_faiss
from memkit.retrieval.manifest import Manifest
from memkit.retrieval.passages import PassageFile, corpus_sha256, write_passages
from memkit.retrieval.shards import (
    On,
    discard_shards,
    encode_passages,
    encode_queries,
    shard_folder,
)
from memkit.types import Hit, Passage

__all__ = ["FAISS_FROM", "Dense"]

Engine = Literal["auto", "exact", "faiss"]

KIND = "dense"
VECTORS = "vectors.npy"
GRAPH = "graph.faiss"
FAISS_FROM = 1_000_000
"""Passages from which on "auto" is "faiss": below, exact search takes 0.2 s or less a query (384
dimensions, one core; 0.03 s for 200,000)."""
IN_MEMORY = 1 << 26
"""Bytes of vectors up to which they are read and not mapped: with larger pages than a mapped file
has, a search takes a quarter less."""
SHARD = 4096  # passages between two points at which a build can go on
ROWS = 1 << 16  # copied at a time


class Dense:
    """An index of vectors; made by `build` or `open`, an `Index` in the sense of `base`.

    A hit's score is the inner product, of normalised vectors where the encoder is compared by
    cosine. Texts longer than the encoder's `max_tokens` (in the manifest) are cut by it: what
    stands behind is not found.

    Queries are encoded one at a time, so that a batch gives exactly what single queries give: a
    neural encoder pads a batch, which changes the last bits (1e-7). `query_batch_size` gives that
    up for speed (on a processor up to 5 times).
    """

    def __init__(self, path: str | os.PathLike[str], encoder: Encoder) -> None:
        self.path = Path(path)
        self.encoder = encoder
        self.query_batch_size = 1
        self._load()

    @classmethod
    def build(
        cls,
        passages: Iterable[Passage],
        path: str | os.PathLike[str],
        *,
        encoder: str | Encoder = PACKAGED,
        engine: Engine = "auto",
        batch_size: int = 16,
        shard_size: int = SHARD,
        resume: bool = True,
        replace: bool = False,
        on: On = "local",
        workers: int | None = None,
    ) -> Dense:
        """Encode the passages and write the index to `path`, which appears whole or not at all.

        Vectors are kept in shards of `shard_size` beside `path` until it is there: the same call
        after a kill, an error or Ctrl-C encodes only what is missing. `resume=False` starts afresh.
        `on="ray"` encodes in `workers` processes (None: one a CPU), here or on a cluster; see
        `memkit.retrieval.on_ray`.

        Raises `BadInput` for an empty corpus, an id that stands twice, a `path` that exists
        (unless `replace`), or an encoder that gives no vectors; `MissingDependency`.
        """
        passages = _by_id(check_corpus(passages))
        chosen = _check(engine, batch_size, shard_size, len(passages), on)
        with building(path, replace=replace) as folder:
            encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
            if not resume:
                discard_shards(Path(path))
            parts = _encode(
                encoder, passages, Path(path), batch_size, shard_size, on=on, workers=workers
            )
            _write(folder, passages, parts, encoder, chosen)
        discard_shards(Path(path))
        return cls(path, encoder)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        encoder: str | Encoder | None = None,
        *,
        corpus: Iterable[Passage] | None = None,
    ) -> Dense:
        """Open an index with the encoder that its manifest names, or with the one given.

        Raises `IndexMismatch` if the index is truncated or foreign, was made with another encoder,
        or of other passages than `corpus`, if that is given; `BadInput` if its encoder was an
        object and is not given.
        """
        manifest = Manifest.read(path, kind=KIND)
        if corpus is not None:
            manifest.check_corpus(corpus)
        call = "Dense.open(path, encoder=...)"
        return cls(path, open_encoder(_noted(manifest), encoder, repr(str(path)), call))

    def __repr__(self) -> str:
        return (
            f"Dense({str(self.path)!r}, {len(self)} passages, encoder={self.encoder.name!r}, "
            f"engine={self.manifest.engine!r})"
        )

    def __len__(self) -> int:
        """Number of passages."""
        return len(self._files.passages)

    def search(self, queries: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """The `k` passages with the largest scores for each query, ties by id.

        Raises `BadInput` for an empty query or k < 1.
        """
        check_search(queries, k)
        if not queries:
            return []
        vectors = encode_queries(self.encoder, queries, self.query_batch_size)
        files = self._files
        k = min(k, len(files.passages))
        if vectors.shape[1] != files.vectors.shape[1]:
            raise BadInput(
                f"the encoder {self.encoder.name!r} gave queries {vectors.shape[1]} dimensions; "
                f"allowed: the {files.vectors.shape[1]} of its passages. Correct the encoder."
            )
        if files.graph is not None:
            found = files.graph.search(vectors, k)
        else:
            found = exact_search(files.vectors, vectors, k, files.norm)
        return [
            [
                Hit(files.passages[row], score, rank)
                for rank, row, score in zip(
                    range(1, len(rows) + 1), rows.tolist(), scores.tolist(), strict=True
                )
            ]
            for rows, scores in found
        ]

    def add(self, passages: Iterable[Passage], *, batch_size: int = 16) -> None:
        """Encode the passages and make them searchable at once.

        Only what is new is encoded; the index is written anew, its graph too, and moved into place.
        Raises `BadInput` for an id that is there already, before anything is changed.
        """
        if new := self._files.passages.check_new(passages):
            self._change(new, [], batch_size)

    def remove(self, ids: Iterable[str]) -> None:
        """Forget the passages; the index is written anew and moved into place.

        Raises `BadInput` for an id that is not there, and if no passage would be left, before
        anything is changed.
        """
        if gone := self._files.passages.rows(ids):
            self._change([], gone, 1)

    def replace(self, passages: Iterable[Passage], *, batch_size: int = 16) -> None:
        """Give passages that are there another title and text, as `add` and `remove` would.

        Raises `BadInput` for an id that is not there or stands twice, before anything is changed.
        """
        if new := self._files.passages.check_old(passages):
            self._change(new, self._files.passages.rows(p.id for p in new), batch_size)

    def _change(self, new: list[Passage], gone: list[int], batch_size: int) -> None:
        """Make it an index of what is there, without the rows `gone`, and of `new`."""
        _check("auto", batch_size, SHARD, len(new))
        new = _by_id(new)
        both = [*self._files.passages, *new]
        kept = np.delete(np.arange(len(both)), gone).tolist()
        order = np.array(sorted(kept, key=lambda row: both[row].id), dtype=np.int64)
        passages = check_corpus(both[row] for row in order)
        old = self._files.vectors
        vectors = old[:0]
        if new:
            vectors = np.concatenate(_encode(self.encoder, new, self.path, batch_size, SHARD))
        self._rewrite(passages, _merged(old, vectors, order))
        discard_shards(self.path)

    def _rewrite(self, passages: list[Passage], parts: Iterable[Vectors]) -> None:
        """Replace the index by one of these passages and vectors, in order of id."""
        with building(self.path, replace=True) as folder:
            _write(folder, passages, parts, self.encoder, self.manifest.engine)
        self._load()

    def _load(self) -> None:
        """Map the files into memory. Raises `IndexMismatch` for what does not fit together."""
        self.manifest = manifest = Manifest.read(self.path, kind=KIND)
        parameters = manifest.parameters
        check_encoder(_noted(manifest), self.encoder, repr(str(self.path)))
        passages = PassageFile(self.path)
        small = (self.path / VECTORS).stat().st_size <= IN_MEMORY
        loaded = np.load(self.path / VECTORS, mmap_mode=None if small else "r", allow_pickle=False)
        vectors = np.asarray(loaded)  # the same memory, read faster than a memmap
        shape = (manifest.count, parameters["dimensions"])
        if vectors.shape != shape or len(passages) != manifest.count:
            raise IndexMismatch(
                f"{str(self.path)!r} holds {len(passages)} passages and vectors of shape "
                f"{vectors.shape}, and its manifest says {shape}. Build it anew."
            )
        norm = float(parameters["norm"])
        graph = HNSW(self.path / GRAPH, vectors, norm) if manifest.engine == "faiss" else None
        self._files = _Files(passages, vectors, norm, graph)


class _Files(NamedTuple):
    """What a search reads, all of one state of the index: another thread may change it."""

    passages: PassageFile
    vectors: Vectors
    norm: float
    graph: HNSW | None


def _noted(manifest: Manifest) -> dict[str, Any]:
    """What the manifest says of the encoder, as a card."""
    return {
        "encoder": manifest.encoder,
        "encoder_sha256": manifest.encoder_sha256,
        "similarity": manifest.parameters["similarity"],
        "settings": manifest.parameters["encoder"],
    }


def _by_id(passages: Iterable[Passage]) -> list[Passage]:
    return sorted(passages, key=lambda passage: passage.id)


def _check(engine: str, batch_size: int, shard_size: int, count: int, on: str = "local") -> str:
    """The engine that "auto" stands for; raises for what is not allowed or not installed."""
    if engine not in get_args(Engine):
        raise BadInput(
            f"engine is {engine!r}; allowed: {', '.join(get_args(Engine))}. Choose one of them."
        )
    if on not in get_args(On):
        raise BadInput(f"on is {on!r}; allowed: {', '.join(get_args(On))}. Choose one of them.")
    for name, value in (("batch_size", batch_size), ("shard_size", shard_size)):
        if value < 1:
            raise BadInput(f"{name} is {value!r}; allowed: at least 1. Leave it out for a default.")
    if engine == "auto":
        engine = "faiss" if count >= FAISS_FROM else "exact"
    if engine == "faiss":
        require_faiss()
    return engine


def _encode(
    encoder: Encoder,
    passages: list[Passage],
    target: Path,
    batch_size: int,
    shard_size: int,
    **where: Any,
) -> list[Vectors]:
    """The vectors of the passages, shard by shard, mapped into memory."""
    files = encode_passages(
        encoder,
        [passage.contents for passage in passages],
        shard_folder(target, corpus_sha256(passages), encoder.sha256, shard_size),
        batch_size=batch_size,
        shard_size=shard_size,
        **where,
    )
    return [np.load(file, mmap_mode="r", allow_pickle=False) for file in files]


def _merged(old: Vectors, new: Vectors, order: npt.NDArray[np.int64]) -> Iterator[Vectors]:
    """The rows `order` of `old` with `new` below it, block by block."""
    for start in range(0, len(order), ROWS):
        rows = order[start : start + ROWS]
        block = np.empty((len(rows), old.shape[1]), dtype=np.float32)
        is_old = rows < len(old)
        block[is_old] = old[rows[is_old]]
        block[~is_old] = new[rows[~is_old] - len(old)]
        yield block


def _write(
    folder: Path,
    passages: list[Passage],
    parts: Iterable[Vectors],
    encoder: Encoder,
    engine: str,
) -> None:
    """Write all files of an index, the manifest last. `parts` are the vectors, in order of id."""
    digest = write_passages(folder, passages)
    vectors = _write_vectors(folder / VECTORS, len(passages), parts)
    parameters = {
        "dimensions": vectors.shape[1],
        "similarity": encoder.similarity,
        "max_tokens": encoder.max_tokens,
        "norm": largest_norm(vectors),
        "encoder": settings_of(encoder),
    }
    if engine == "faiss":
        HNSW.build(folder / GRAPH, vectors)
        parameters |= {"M": NEIGHBOURS, "ef_construction": EF_BUILD, "ef_search": EF_SEARCH}
    Manifest(KIND, engine, len(passages), digest, parameters, encoder.name, encoder.sha256).write(
        folder
    )


def _write_vectors(file: Path, count: int, parts: Iterable[Vectors]) -> Vectors:
    """Write `count` vectors one below the other; returns them, mapped into memory."""
    parts = iter(parts)
    first = next(parts)
    vectors = np.lib.format.open_memmap(file, "w+", np.float32, (count, first.shape[1]))
    filled = 0
    for part in itertools.chain([first], parts):
        vectors[filled : filled + len(part)] = part
        filled += len(part)
    vectors.flush()
    return vectors
