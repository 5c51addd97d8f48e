"""An index's card: what is in the folder, and what it was made from.

A folder with a `manifest.json` is an index, without one it is not: the card is written last, into
a folder that `memkit.files.building` then moves into place, so a killed build leaves nothing that
opens. `read` refuses what is not whole or not of the kind asked for, and names both values.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memkit import __version__
from memkit.errors import IndexMismatch
from memkit.retrieval.passages import corpus_sha256
from memkit.types import Passage

__all__ = ["FORMAT", "Manifest"]

FILE = "manifest.json"
FORMAT = 1  # of the folder; an index of another format is refused


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index is: `manifest.json`, field by field."""

    kind: str
    """The retriever that opens it: "bm25", "dense", ..."""
    engine: str
    """What searches it: "lucene", "bm25s", "exact", "faiss", ..."""
    count: int
    """Number of passages."""
    corpus_sha256: str
    """Of the passages, in order of id: see `memkit.retrieval.passages.corpus_sha256`."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """All that shapes the results besides corpus, engine and encoder; plain JSON."""
    encoder: str | None = None
    """Name of the encoder; None where there is none."""
    encoder_sha256: str | None = None
    """Of the encoder's weights."""
    files: Mapping[str, int] = field(default_factory=dict)
    """Size in bytes of every other file in the folder; filled in by `write`."""
    memkit: str = __version__
    """Version that wrote it."""
    format: int = FORMAT

    def write(self, folder: Path) -> Manifest:
        """Write the card of a finished folder, with the sizes of the files there; returns it."""
        sizes = {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path != folder / FILE
        }
        manifest = dataclasses.replace(self, files=sizes)
        text = json.dumps(dataclasses.asdict(manifest), indent=1, sort_keys=True)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")
        return manifest

    @classmethod
    def read(cls, folder: str | os.PathLike[str], *, kind: str) -> Manifest:
        """The card of an index that is whole and of this `kind`.

        Raises `IndexMismatch` where there is no card or one that cannot be read, for another kind
        or format, and where a listed file is absent or has another size.
        """
        folder = Path(folder)
        manifest = cls._parse(folder)
        if manifest.kind != kind:
            raise IndexMismatch(
                f"{str(folder)!r} is an index of kind {manifest.kind!r}, and {kind!r} was asked "
                f"for. Open it with the retriever for {manifest.kind!r}, or build one of {kind!r}."
            )
        for name, size in manifest.files.items():
            file = folder / name
            found = f"{file.stat().st_size} bytes" if file.is_file() else "no such file"
            if found != f"{size} bytes":
                raise IndexMismatch(
                    f"{str(folder)!r} is not whole: its manifest says {size} bytes for {name!r}, "
                    f"and there is {found}. Copy the index again, or build it anew."
                )
        return manifest

    @classmethod
    def _parse(cls, folder: Path) -> Manifest:
        """Read the JSON: format first, since another format may have other fields."""
        if not (folder / FILE).is_file():
            what = "has no manifest.json" if folder.is_dir() else "is not a folder"
            raise IndexMismatch(
                f"{str(folder)!r} {what}; allowed: a folder that memkit built. "
                "Check the path, or build the index (`memkit index build`)."
            )
        try:
            card = json.loads((folder / FILE).read_text(encoding="utf-8"))
            if (found := card.pop("format")) != FORMAT:
                raise IndexMismatch(
                    f"{str(folder)!r} has index format {found!r}, and memkit {__version__} reads "
                    f"format {FORMAT}. Build the index anew, or use memkit {card.get('memkit')}."
                )
            return cls(**card)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise IndexMismatch(
                f"{str(folder / FILE)!r} is not a manifest ({type(error).__name__}: {error}); "
                f"allowed: JSON with {', '.join(f.name for f in dataclasses.fields(cls))}. "
                "Copy the index again, or build it anew."
            ) from error

    def check_corpus(self, passages: Iterable[Passage]) -> None:
        """Raise `IndexMismatch` unless the index was made from exactly these passages."""
        passages = list(passages)
        found = corpus_sha256(passages)
        if found != self.corpus_sha256:
            raise IndexMismatch(
                f"the index is of another corpus: it holds {self.count} passages with sha256 "
                f"{self.corpus_sha256}, and the {len(passages)} given have {found}. Build an "
                "index of these passages under another name, or give the passages it was made of."
            )
