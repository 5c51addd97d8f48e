"""Lucene indexes that pyserini's authors built, by pyserini's names for them.

pyserini knows where each is, downloads it once into its own cache (`$PYSERINI_CACHE`, by default
`~/.cache/pyserini`) and checks its MD5. Only its table and its downloader are imported, after
memkit's JVM has started: `pyserini.search` is not (see `memkit.retrieval.java`).
"""

from __future__ import annotations

import contextlib
import difflib
import sys
from pathlib import Path

from memkit.errors import BadInput, MemkitError
from memkit.retrieval.java import jvm

__all__ = ["fetch_prebuilt"]


def fetch_prebuilt(name: str) -> Path:
    """The folder of the BM25 index of this name, downloaded if it is not in the cache.

    Raises `BadInput` for a name that pyserini does not know or that is no index of terms,
    `MissingDependency` without Java or pyserini, `MemkitError` if the download fails.
    """
    machine = jvm()
    with machine.lock, contextlib.redirect_stdout(sys.stderr):
        from pyserini import util

        indexes = util.TF_INDEX_INFO
        if name not in indexes:
            near = difflib.get_close_matches(name, indexes, n=5, cutoff=0.4)
            raise BadInput(
                f"the prebuilt index is {name!r}; allowed: one of pyserini's {len(indexes)} "
                f"indexes of terms{', such as ' if near else ''}{', '.join(map(repr, near))}. "
                "Choose one of them, or give the folder of an index to BM25.open."
            )
        try:
            return Path(util.download_prebuilt_index(name, verbose=False))
        except (AssertionError, OSError, ValueError) as error:  # pyserini asserts size and MD5
            url = indexes[name]["urls"][0]
            raise MemkitError(
                f"the prebuilt index {name!r} could not be fetched from {url} "
                f"({type(error).__name__}: {error}). Try again, or unpack that file elsewhere and "
                "give the folder to BM25.open."
            ) from error
