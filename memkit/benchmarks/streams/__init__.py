"""Streams of errors for lifelong editing: the three of the GRACE paper, real and miniature.

Hartvigsen, Sankaranarayanan, Palangi, Kim and Ghassemi, NeurIPS 2023 (arXiv:2211.11031), section 3.
The published order of edits cannot be had again (the official loader shuffles without a seed); here
`seed` orders them.
"""

from __future__ import annotations

import os

from memkit.benchmarks.base import Stream
from memkit.benchmarks.streams import hallucination, miniworld, scotus, zsre
from memkit.errors import BadInput

__all__ = ["STREAMS", "Stream", "load"]

STREAMS = {
    "hallucination": hallucination.load,
    "miniworld-hallucination": miniworld.hallucination,
    "miniworld-scotus": miniworld.scotus,
    "miniworld-zsre": miniworld.zsre,
    "scotus": scotus.load,
    "zsre": zsre.load,
}

Source = str | os.PathLike[str] | None


def load(
    name: str,
    path: Source = None,
    upstream: Source = None,
    *,
    limit: int | None = None,
    upstream_limit: int = 1000,
    seed: int = 42,
) -> Stream:
    """Load a stream by its name in `STREAMS`.

    `path` is where the errors lie, `upstream` where the test data do; None is what memkit ships, or
    the Hugging Face Hub, and what each of the modules here says. `limit` takes the first edits and
    `upstream_limit` the first test data. `seed` orders the edits.

    Raises `BadInput` for an unknown name, a limit below 1, for sources that are absent or hold
    something else (the message names file and row), and if nothing is left to edit or to test.
    """
    if name not in STREAMS:
        names = ", ".join(map(repr, STREAMS))
        raise BadInput(f"no stream is named {name!r}; allowed: {names}. Choose one of these.")
    for what, value in (("limit", limit), ("upstream_limit", upstream_limit)):
        if value is not None and value < 1:
            raise BadInput(f"{what} is {value!r}; allowed: at least 1. Take one row or more.")
    return STREAMS[name](path, upstream, limit, upstream_limit, seed)
