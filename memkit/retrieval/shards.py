"""Encoding a corpus shard by shard, so that a killed build goes on where it stopped.

Finished shards lie in a folder beside the target, whose name starts with a dot and holds the hash
of all that shapes them; a shard appears there whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from memkit.errors import BadInput
from memkit.progress import track
from memkit.retrieval.encoders import Encoder
from memkit.retrieval.exact import Vectors

__all__ = [
    "On",
    "discard_shards",
    "encode_passages",
    "encode_queries",
    "encode_texts",
    "shard_folder",
]

On = Literal["local", "ray"]


def shard_folder(target: Path, *parts: object) -> Path:
    """Where the shards for `target` lie, for this corpus, encoder and size (`parts`)."""
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    return target.parent / f".{target.name}.shards-{key}"


def discard_shards(target: Path) -> None:
    """Delete the shards of every earlier try at `target`."""
    for folder in target.parent.glob(f".{target.name}.shards-*"):
        shutil.rmtree(folder)


def encode_passages(
    encoder: Encoder,
    texts: Sequence[str],
    folder: Path,
    *,
    batch_size: int,
    shard_size: int,
    on: On = "local",
    workers: int | None = None,
) -> list[Path]:
    """Encode the texts into files of `shard_size` vectors each, but those that are there already.

    Within a shard, texts of like length share a batch (little of it is padding), the longest
    first (what does not fit into memory shows at once). On "ray" a shard is a task.
    """
    shards = [texts[start : start + shard_size] for start in range(0, len(texts), shard_size)]
    files = [folder / f"{number:06}.npy" for number in range(len(shards))]
    pairs = zip(files, shards, strict=True)
    missing = [(file, shard) for file, shard in pairs if not file.exists()]
    if on == "ray":
        from memkit.retrieval.on_ray import encode_on_ray

        parts = [shard for _, shard in missing]
        done = encode_on_ray(encoder, parts, batch_size=batch_size, workers=workers)
        for number, vectors in track(done, "encoding on Ray", total=len(missing)):
            _save(missing[number][0], vectors)
        return files
    steps = (step for file, shard in missing for step in _write(encoder, shard, file, batch_size))
    total = sum(-(-len(set(shard)) // batch_size) for _, shard in missing)
    for _ in track(steps, "encoding", total=total):
        pass
    return files


def encode_queries(encoder: Encoder, texts: Sequence[str], batch_size: int) -> Vectors:
    """Vectors [n, d] of the queries; equal ones are encoded once."""
    distinct = list(dict.fromkeys(texts))
    parts = [
        _checked(encoder, encoder.encode_queries(batch), batch)
        for batch in _batches(distinct, batch_size)
    ]
    return _spread(parts[0] if len(parts) == 1 else np.concatenate(parts), distinct, texts)


def _write(encoder: Encoder, texts: Sequence[str], file: Path, size: int) -> Iterator[None]:
    """Encode one shard, batch by batch, and write it when all is done."""
    distinct = _distinct(texts)
    parts = []
    for part in _parts(encoder, distinct, size):
        parts.append(part)
        yield
    _save(file, _spread(np.concatenate(parts), distinct, texts))


def _save(file: Path, vectors: Vectors) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    with partial.open("wb") as stream:
        np.save(stream, vectors)
    os.replace(partial, file)


def encode_texts(encoder: Encoder, texts: Sequence[str], batch_size: int) -> Vectors:
    """Vectors [n, d] of passages' texts, in memory; equal ones are encoded once."""
    distinct = _distinct(texts)
    return _spread(np.concatenate(list(_parts(encoder, distinct, batch_size))), distinct, texts)


def _distinct(texts: Sequence[str]) -> list[str]:
    return sorted(set(texts), key=lambda text: (-len(text), text))


def _parts(encoder: Encoder, texts: Sequence[str], size: int) -> Iterator[Vectors]:
    for batch in _batches(texts, size):
        yield _checked(encoder, encoder.encode_passages(batch), batch)


def _batches(texts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (texts[start : start + size] for start in range(0, len(texts), size))


def _spread(vectors: Vectors, distinct: Sequence[str], texts: Sequence[str]) -> Vectors:
    """The vectors of `texts`, given those of the distinct ones among them."""
    if list(texts) == distinct:
        return vectors
    rows = {text: row for row, text in enumerate(distinct)}
    return vectors[[rows[text] for text in texts]]


def _checked(encoder: Encoder, vectors: Vectors, texts: Sequence[str]) -> Vectors:
    """The encoder's vectors, normalised if they are compared by cosine. A zero vector stays."""
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
        raise BadInput(
            f"the encoder {encoder.name!r} gave an array of shape {vectors.shape} for "
            f"{len(texts)} texts, the first {texts[0]!r}; allowed: finite numbers of shape "
            f"({len(texts)}, d). Correct the encoder."
        )
    if encoder.similarity == "cosine":
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        norms[norms == 0] = 1
        vectors = np.asarray(vectors / norms, dtype=np.float32)
    return vectors
