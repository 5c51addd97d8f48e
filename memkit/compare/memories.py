"""Memories as a specification names them: checked without a model, then made for one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memkit.compare import routers
from memkit.compare.retrievers import RETRIEVERS, Kind
from memkit.compare.rows import digest
from memkit.compare.settings import made
from memkit.compare.spec import RetrieverSpec, Spec, near
from memkit.editors import EDITORS
from memkit.editors.base import Editor
from memkit.errors import BadInput
from memkit.files import sha256

__all__ = ["Memory", "Wanted", "check_parts", "memory", "wanted"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A retriever as it is wanted: its kind and settings, how many passages, which corpus.

    `inside` are the retrievers that it fuses.
    """

    name: str
    kind: Kind
    settings: Any
    spec: RetrieverSpec
    inside: tuple[Wanted, ...] = ()

    @property
    def follows(self) -> bool:
        """Whether its corpus follows the edits."""
        return self.spec.corpus == "current"

    @property
    def drawn(self) -> bool:
        """Whether it depends on the rows, and not on the corpus alone."""
        return self.kind.drawn or any(one.drawn for one in self.inside)

    def needs(self) -> set[str]:
        """What a benchmark has to have: "passages", "definitions"."""
        own = set() if getattr(self.settings, "path", None) else {self.kind.needs}
        return own.union(*(one.needs() for one in self.inside)) - {"nothing"}

    def described(self, spec: Spec) -> dict[str, Any]:
        """All that its results depend on, but the benchmark and the model."""
        values = {"class": type(self.settings).__name__, **dataclasses.asdict(self.settings)}
        path = values.get("path")
        if path is not None:
            values["path"] = _content(spec, path, f"retrievers.{self.name}.path")
        encoder = values.get("encoder")
        if encoder is not None and Path(spec.place(encoder)).exists():
            values["encoder"] = _content(spec, encoder, f"retrievers.{self.name}.encoder")
        inside = [one.described(spec) for one in self.inside]
        return {**values, "k": self.spec.k, "corpus": self.spec.corpus, "of": inside}


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory of the specification, with its parts; the router is not fitted."""

    name: str
    editor: Editor | None
    editor_name: str | None
    retriever: Wanted | None
    router_name: str | None

    @property
    def writes(self) -> bool:
        """Whether it takes facts in: into the weights, or into its corpus."""
        return self.editor is not None or (self.retriever is not None and self.retriever.follows)

    @property
    def plain(self) -> bool:
        """Whether it is the model as it is."""
        return self.editor is None and self.retriever is None

    @property
    def untrained(self) -> bool:
        """Whether its editor edits by networks, and has none."""
        return self.editor is not None and getattr(self.editor, "networks", "") is None

    def described(self, spec: Spec) -> dict[str, Any]:
        """All that its answers depend on, but the benchmark and the model."""
        found: dict[str, Any] = {"editor": None if self.editor is None else repr(self.editor)}
        networks = getattr(self.editor, "networks", None)
        if networks is not None:
            found["networks"] = _content(spec, networks, f"editors.{self.editor_name}.networks")
        corpus = getattr(getattr(self.editor, "statistics", None), "corpus", "sample")
        if corpus != "sample" and Path(spec.place(corpus)).exists():
            found["corpus"] = _content(spec, corpus, f"editors.{self.editor_name}.statistics")
        if self.retriever is not None:
            found["retriever"] = self.retriever.described(spec)
        if self.router_name is not None:
            found["router"] = repr(routers.router(spec, self.router_name, self.router_name))
        return found


def check_parts(spec: Spec) -> None:
    """Check every editor, retriever and router of the file, used or not. Raises `BadInput`."""
    for name in spec.editors:
        _editor(spec, name, f"editors.{name}")
    for name in spec.retrievers:
        wanted(spec, name, f"retrievers.{name}").described(spec)
    for name in spec.routers:
        routers.router(spec, name, f"routers.{name}")


def memory(spec: Spec, name: str) -> Memory:
    """The memory of that name, with all its settings checked.

    Raises `BadInput` with the place in the file, and the nearest name.
    """
    found, place = spec.memories[name], f"memories.{name}"
    retriever = None
    if found.retriever is not None:
        retriever = wanted(spec, found.retriever, f"{place}.retriever")
    if found.router is not None:
        routers.router(spec, found.router, f"{place}.router")
        if retriever is None:
            raise BadInput(
                f"{place}.router is {found.router!r} without a retriever; allowed: both. A router "
                "chooses between the weights and retrieved text: name a retriever."
            )
    editor = None if found.editor is None else _editor(spec, found.editor, f"{place}.editor")
    return Memory(name, editor, found.editor, retriever, found.router)


def wanted(spec: Spec, name: str, place: str, above: tuple[str, ...] = ()) -> Wanted:
    """The retriever of that name, with its settings checked. Raises `BadInput`."""
    part = spec.retrievers.get(name)
    known = name if part is None or part.type is None else part.type
    if known not in RETRIEVERS:
        names = [*spec.retrievers, *RETRIEVERS] if part is None else RETRIEVERS
        raise BadInput(f"{place} is {known!r}, no retriever; {near(known, names)}")
    if part is not None:
        place = f"retrievers.{name}"
    if name in above:
        raise BadInput(f"{place} is within itself ({' > '.join([*above, name])}); allowed: others.")
    part, kind = part or RetrieverSpec(), RETRIEVERS[known]
    settings = made(kind.settings, part.settings, place)
    inside = tuple(
        wanted(spec, one, f"{place}.of", (*above, name)) for one in getattr(settings, "of", ())
    )
    if part.corpus == "current":
        if not kind.follows or getattr(settings, "path", None) is not None:
            raise BadInput(
                f"{place}.corpus is 'current', and this index is not memkit's to change; allowed: "
                f"{', '.join(n for n, k in RETRIEVERS.items() if k.follows)}, without a path."
            )
        inside = tuple(
            dataclasses.replace(one, spec=one.spec.model_copy(update={"corpus": "current"}))
            for one in inside
        )
    return Wanted(name, kind, settings, part, inside)


def _editor(spec: Spec, name: str, place: str) -> Editor:
    """The editor of that name, with its settings checked."""
    part = spec.editors.get(name)
    known = name if part is None or part.type is None else part.type
    if known not in EDITORS:
        names = [*spec.editors, *EDITORS] if part is None else EDITORS
        raise BadInput(f"{place} is {known!r}, no editor; {near(known, names)}")
    settings: Mapping[str, Any] = {} if part is None else part.settings
    where = place if part is None else f"editors.{name}"
    return made(EDITORS[known], _placed(spec, settings), where)


def _placed(spec: Spec, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with paths as seen from here."""
    found = dict(settings)
    if isinstance(found.get("networks"), str):
        found["networks"] = spec.place(found["networks"])
    statistics = found.get("statistics")
    if isinstance(statistics, Mapping) and isinstance(statistics.get("corpus"), str):
        found["statistics"] = {**statistics, "corpus": spec.place(statistics["corpus"])}
    return found


def _content(spec: Spec, path: str, place: str) -> str:
    """SHA-256 of a file, or of the card of a folder (all its small files)."""
    there = Path(spec.place(path))
    if there.is_file():
        return sha256(there)
    if not there.is_dir():
        raise BadInput(f"{place} is {path!r}, which is not there; allowed: a file or folder.")
    files = sorted(file for file in there.rglob("*") if file.is_file())
    return digest([(str(file.relative_to(there)), sha256(file)) for file in files])
