"""Encoding a corpus on Ray Data: on all cores of this machine, or on a cluster.

Parts of the corpus go out, their vectors come back, and whoever asked writes them: so a cluster
needs no common disk, and a build that is killed goes on where it stopped. A worker loads the
encoder by its name and settings, once, and says its hash: one with other weights is refused.

Where Ray does not run yet it is started on this machine, without its dashboard, and stopped at the
end; `RAY_ADDRESS` (or `ray.init` beforehand) names a cluster. Ray must start before Lucene does in
the same process: it takes SIGSEGV, which Java uses for its own ends, and the process dies.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from memkit.errors import BadInput, IndexMismatch, MemkitError, MissingDependency
from memkit.retrieval.encoders import Encoder, load_encoder
from memkit.retrieval.exact import Vectors
from memkit.retrieval.shards import encode_texts

__all__ = ["encode_on_ray", "running"]


def encode_on_ray(
    encoder: Encoder, parts: Sequence[Sequence[str]], *, batch_size: int, workers: int | None = None
) -> Iterator[tuple[int, Vectors]]:
    """The number of each part and the vectors [n, d] of its passages, as they are done.

    `workers` are processes of one CPU each; None: as many as there are CPUs.

    Raises `MissingDependency` without Ray, `BadInput` for no workers, `IndexMismatch` if a worker
    has another encoder under that name, `MemkitError` where Java runs in this process already.
    """
    if workers is not None and workers < 1:
        raise BadInput(f"workers is {workers!r}; allowed: at least 1. Leave it out for all CPUs.")
    if not parts:
        return
    with running() as ray:
        importlib.import_module("ray.data")
        rows = ray.data.from_items(
            [{"number": number, "texts": list(part)} for number, part in enumerate(parts)],
            override_num_blocks=len(parts),
        )
        most = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        encoded = rows.map(
            _Worker,
            fn_constructor_kwargs={"source": _source(encoder), "batch_size": batch_size},
            concurrency=min(most, len(parts)),
            num_cpus=1,
        )
        encoded.context.enable_progress_bars = False  # memkit draws its own
        for row in encoded.iter_rows():
            if row["sha256"] != encoder.sha256:
                raise IndexMismatch(
                    f"a worker has the encoder {encoder.name!r} with sha256 {row['sha256']}, and "
                    f"here it has {encoder.sha256}. Install the same weights everywhere."
                )
            yield int(row["number"]), np.asarray(row["vectors"], dtype=np.float32)


class _Worker:
    """Encodes parts in a process of its own."""

    def __init__(self, source: Any, batch_size: int) -> None:
        self.encoder = load_encoder(source[0], **source[1]) if _is_name(source) else source
        self.batch_size = batch_size

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        vectors = encode_texts(self.encoder, list(row["texts"]), self.batch_size)
        return {"number": row["number"], "vectors": vectors, "sha256": self.encoder.sha256}


def _source(encoder: Encoder) -> Any:
    """Name and settings of an encoder that can be loaded by them; else the object itself."""
    settings = getattr(encoder, "settings", None)
    return encoder if settings is None else (encoder.name, dict(settings))


def _is_name(source: Any) -> bool:
    return isinstance(source, tuple)


@contextlib.contextmanager
def running(address: str | None = None) -> Iterator[Any]:
    """Ray, running; stopped at the end if it was started here.

    `address` is a cluster's; None is `RAY_ADDRESS`, or else this machine alone.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingDependency(
            'on="ray" needs Ray, which is not installed. pip install "memkit[ray]", or leave it '
            "out to work in this process."
        ) from error
    started = not ray.is_initialized()
    if started:
        if getattr(sys.modules.get("jnius_config"), "vm_running", False):
            raise MemkitError(
                "Lucene runs in this process, and Ray would take over the signals by which Java "
                "works, which ends the process; allowed: Ray first, or in a process of its own. "
                "Begin with what runs on Ray, or use the command line: `--on ray`."
            )
        options: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        if address := address or os.environ.get("RAY_ADDRESS"):
            options = {"address": address}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()
