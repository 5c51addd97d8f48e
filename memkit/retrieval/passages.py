r"""The passages of an index on disk: one JSON row each, sorted by id, read one at a time.

`passages.jsonl` has rows `{"id": ..., "title": ..., "text": ...}` in UTF-8, in order of id (by
code point), `passages.offsets.npy` [n + 1, int64] the byte at which each row starts. Because of
the order

- a row number is a rank by id, so that ties by id are ties by row;
- an id is found by bisection, and nothing is held in memory however large the corpus is;
- the file depends on the set of passages alone, whatever order they came in and however often
  some were added and removed: its SHA-256 is the corpus's.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from memkit.errors import IndexMismatch
from memkit.retrieval.base import check_corpus, taken, unknown
from memkit.types import Passage

__all__ = ["PassageFile", "corpus_sha256", "write_passages"]

ROWS = "passages.jsonl"
OFFSETS = "passages.offsets.npy"


def _row(passage: Passage) -> bytes:
    """One line. Lone surrogates, which broken sources hold, survive the round trip."""
    fields = {"id": passage.id, "title": passage.title, "text": passage.text}
    return (json.dumps(fields, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")


def _by_id(passages: Iterable[Passage]) -> list[Passage]:
    return sorted(passages, key=lambda passage: passage.id)


def corpus_sha256(passages: Iterable[Passage]) -> str:
    """Hexadecimal SHA-256 of the passages' rows in order of id: equal for equal sets."""
    digest = hashlib.sha256()
    for passage in _by_id(passages):
        digest.update(_row(passage))
    return digest.hexdigest()


def write_passages(folder: Path, passages: Iterable[Passage]) -> str:
    """Write the two files, in order of id; returns the `corpus_sha256`.

    Raises `BadInput` if there are no passages or an id stands twice, before anything is written.
    """
    passages = _by_id(check_corpus(passages))
    offsets = np.zeros(len(passages) + 1, dtype=np.int64)
    digest = hashlib.sha256()
    with (folder / ROWS).open("wb") as file:
        for number, passage in enumerate(passages, start=1):
            line = _row(passage)
            file.write(line)
            digest.update(line)
            offsets[number] = offsets[number - 1] + len(line)
    np.save(folder / OFFSETS, offsets)
    return digest.hexdigest()


class PassageFile:
    """The passages in a folder, in order of id. Both files stay on disk, mapped into memory.

    Raises `IndexMismatch` if a file is absent or the two do not belong together.
    """

    def __init__(self, folder: Path) -> None:
        self._name = str(folder / ROWS)
        self._decode = json.JSONDecoder().raw_decode  # json.loads, less its search for white space
        try:
            offsets = np.load(folder / OFFSETS, mmap_mode="r", allow_pickle=False)
            self._offsets = np.asarray(offsets)  # the same memory, read faster than a memmap
            with (folder / ROWS).open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (EOFError, OSError, ValueError) as error:
            raise IndexMismatch(
                f"{self._name!r} and its offsets cannot be read ({error}). "
                "Copy the index again, or build it anew."
            ) from error
        if len(self._bytes) != self._offsets[-1]:
            raise IndexMismatch(
                f"{self._name!r} has {len(self._bytes)} bytes and its offsets end at "
                f"{self._offsets[-1]}. Copy the index again, or build it anew."
            )

    def __len__(self) -> int:
        """Number of passages."""
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> Passage:
        """The passage in a row, counted from 0. Raises `IndexError` outside the file."""
        offsets = self._offsets
        if not 0 <= row < len(offsets) - 1:
            raise IndexError(f"row {row} of {len(self)} in {self._name!r}")
        line = self._bytes[offsets[row] : offsets[row + 1]]
        try:
            text = line.decode("utf-8", "surrogatepass")
            fields, end = self._decode(text)
            if end != len(text) - 1:
                raise ValueError("more than one row")
            return Passage(fields["id"], fields["text"], fields["title"])
        except (KeyError, TypeError, ValueError) as error:
            raise IndexMismatch(
                f"row {row} of {self._name!r} is not a passage: {line[:80]!r}. "
                "Copy the index again, or build it anew."
            ) from error

    def __iter__(self) -> Iterator[Passage]:
        """All passages, in order of id."""
        return (self[row] for row in range(len(self)))

    def __contains__(self, id: object) -> bool:
        """Whether a passage has this id."""
        return isinstance(id, str) and self._find(id) is not None

    def row(self, id: str) -> int:
        """The row of the passage with this id. Raises `BadInput` if there is none."""
        row = self._find(id)
        if row is None:
            raise unknown(id)
        return row

    def rows(self, ids: Iterable[str]) -> list[int]:
        """The rows of these ids, each once, in order. Raises `BadInput` as `row` does."""
        return sorted({self.row(id) for id in ids})

    def check_new(self, passages: Iterable[Passage]) -> list[Passage]:
        """The passages as a list, if they can be added; an empty list can.

        Raises `BadInput` if an id stands twice, or is in the file already.
        """
        passages = list(passages)
        for passage in check_corpus(passages) if passages else ():
            if passage.id in self:
                raise taken(passage.id)
        return passages

    def check_old(self, passages: Iterable[Passage]) -> list[Passage]:
        """The passages as a list, if they can replace some here; an empty list can.

        Raises `BadInput` if an id stands twice, or is not in the file.
        """
        passages = list(passages)
        for passage in check_corpus(passages) if passages else ():
            self.row(passage.id)
        return passages

    def _find(self, id: str) -> int | None:
        """Bisect: O(log n) rows are read."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self[middle].id < id:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self[low].id == id else None
