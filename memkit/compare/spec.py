"""A comparison's specification: one TOML file, checked whole before anything runs.

    name = "miniworld"
    seeds = [0, 1]                      # of samples, facts and random passages
    on_impossible = "skip"              # what no memory can do on a model: "skip" or "refuse"

    [models.mini]                       # a folder or Hub id, or a model that memkit ships
    shipped = "gpt2"

    [benchmarks.miniworld]              # the key is the benchmark, unless `name` says another
    questions = 100                     # a sample, spread evenly over popularity; absent: all
    fit = 100                           # questions on other subjects, which routers are fitted on

    [edits]                             # absent: nothing is written anywhere
    facts = 20                          # dealt into blocks of each count
    counts = [1, 20]
    schedules = ["batch"]               # "sequential": one after the other on one handle

    [editors.ft]                        # the key is the method, unless `type` says another
    lr = 2e-3

    [retrievers.bm25]
    k = 1

    [routers.popularity]

    [memories.none]
    [memories.ft]
    editor = "ft"
    [memories.routed]
    editor = "ft"
    retriever = "bm25"
    router = "popularity"

A memory is any of an editor, a retriever and a router, or none of them. It names a table of the
file, or a method as it is with its defaults; `editor = "*"` stands for a memory for each editor
there is, `retriever = "*"` for each retriever of the file. Paths are relative to the file.

The same rows are asked of every memory: the questions, and for each fact its own question
("asked"), its prompt ("reliability"), its paraphrases ("generalisation"), what follows from it
("portability") and what must stay ("locality"). At a count n, n facts at a time are written to the
clean model, asked about, and taken back; so every fact is asked at every count.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from memkit.errors import BadInput
from memkit.prompts import Template

__all__ = [
    "ROLES",
    "BenchmarkSpec",
    "EditsSpec",
    "MemorySpec",
    "ModelSpec",
    "Part",
    "RetrieverSpec",
    "Spec",
    "near",
    "read_spec",
]

Schedule = Literal["batch", "sequential"]
Probe = Literal["asked", "reliability", "generalisation", "portability", "locality"]
PROBES: tuple[Probe, ...] = ("asked", "reliability", "generalisation", "portability", "locality")
ROLES = ("question", *PROBES)
ANY = "*"


class Closed(BaseModel):
    """A table of the file that has these keys and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSpec(Closed):
    """Where a model is: a folder or Hub id, or the kind of one that memkit ships."""

    path: str | None = None
    shipped: Literal["gpt2", "t5", "bert"] | None = None
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"

    @model_validator(mode="after")
    def _one(self) -> ModelSpec:
        if (self.path is None) == (self.shipped is None):
            raise ValueError("allowed: one of path and shipped. Give one")
        return self


class BenchmarkSpec(Closed):
    """Which benchmark, and how much of it."""

    name: str | None = None
    path: str | None = None
    split: str | None = None
    limit: int | None = Field(default=None, ge=1)
    questions: int | None = Field(default=None, ge=0)
    fit: int = Field(default=100, ge=2)


class EditsSpec(Closed):
    """How many facts are written, how many of them at a time, and how."""

    facts: int = Field(default=20, ge=1)
    counts: tuple[int, ...] = (1,)
    schedules: tuple[Schedule, ...] = ("batch",)
    probes: tuple[Probe, ...] = PROBES

    @model_validator(mode="after")
    def _fit(self) -> EditsSpec:
        for count in self.counts:
            if not 1 <= count <= self.facts:
                raise ValueError(
                    f"counts has {count}; allowed: 1 to {self.facts}, the number of facts. Ask for "
                    "more facts, or a smaller count"
                )
        _once("counts", self.counts)
        _once("schedules", self.schedules)
        _once("probes", self.probes)
        return self


class Part(BaseModel):
    """An editor or a router: what it is, and its settings under their own names."""

    model_config = ConfigDict(extra="allow", frozen=True)
    type: str | None = None

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that is not named in the class."""
        return self.model_extra or {}


class RetrieverSpec(Part):
    """A retriever: how many passages, and whether its corpus follows the edits.

    corpus "stale" stays as the benchmark has it; in "current" what is edited is said in the text,
    too: the twin of an edit.
    """

    k: int = Field(default=1, ge=1)
    corpus: Literal["stale", "current"] = "stale"


class MemorySpec(Closed):
    """Any of the three; none of them is the model as it is."""

    editor: str | None = None
    retriever: str | None = None
    router: str | None = None


class Spec(Closed):
    """The whole file; see the module. `folder` is where its paths start."""

    name: str
    models: dict[str, ModelSpec] = Field(min_length=1)
    benchmarks: dict[str, BenchmarkSpec] = Field(min_length=1)
    memories: dict[str, MemorySpec] = Field(min_length=1)
    editors: dict[str, Part] = {}
    retrievers: dict[str, RetrieverSpec] = {}
    routers: dict[str, Part] = {}
    edits: EditsSpec | None = None
    template: Template = Template()
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    on_impossible: Literal["skip", "refuse"] = "skip"
    max_new_tokens: int = Field(default=16, ge=1)
    batch_size: int = Field(default=32, ge=1)
    folder: Path = Path()

    @model_validator(mode="after")
    def _each(self) -> Spec:
        _once("seeds", self.seeds)
        return self

    def place(self, path: str) -> str:
        """A path as seen from here, where there is such a thing; else the name as it is."""
        there = self.folder / Path(path).expanduser()
        return str(there) if there.exists() else path


def read_spec(source: str | os.PathLike[str] | Mapping[str, Any] | Spec) -> Spec:
    """The specification in a file, or in a mapping of the same form.

    Raises `BadInput` for what is not allowed, with its place in the file and the nearest name.
    """
    if isinstance(source, Spec):
        return source
    if isinstance(source, Mapping):
        return _spec(dict(source), Path(), "the specification")
    path = Path(source)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(
            f"{str(path)!r} cannot be read ({error.strerror}); allowed: a TOML file. Check the path"
            "; docs/comparisons/miniworld.toml is one to start from."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{str(path)!r} is no TOML: {error}. Correct that line.") from error
    return _spec(values, path.parent, str(path))


def near(name: str, names: Iterable[str]) -> str:
    """A sentence with the nearest names and all that there are."""
    known = list(dict.fromkeys(names))
    small = {one.lower(): one for one in reversed(known)}
    close = difflib.get_close_matches(name.lower(), small, n=1, cutoff=0.5)
    meant = f" Did you mean {small[close[0]]!r}?" if close else " Choose one of these."
    return f"allowed: {', '.join(map(repr, known)) or 'none'}.{meant}"


def _spec(values: dict[str, Any], folder: Path, origin: str) -> Spec:
    if "folder" in values:
        raise BadInput(f"{origin}: folder is unknown; {near('folder', _fields(('folder',)))}")
    try:
        spec = Spec(**{**values, "folder": folder})
    except ValidationError as error:
        raise BadInput(f"{origin}: {_told(error)}") from error
    return spec.model_copy(update={"memories": _spread(spec)})


def _once(name: str, values: tuple[int | str, ...]) -> None:
    """Refuse none, and one that is there twice."""
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name} is {list(values)}; allowed: one or more, each once")


def _spread(spec: Spec) -> dict[str, MemorySpec]:
    """The memories, with those that stand for many in the place of "*"."""
    from memkit.editors import EDITORS

    made: dict[str, MemorySpec] = {}
    for name, memory in spec.memories.items():
        if memory.retriever == ANY and not spec.retrievers:
            raise BadInput(
                f'memories.{name}.retriever is "*", and the file has no [retrievers]; allowed: "*" '
                "for each of these. Write a table for each that is meant."
            )
        editors = [*spec.editors] or [*EDITORS] if memory.editor == ANY else [memory.editor]
        retrievers = [*spec.retrievers] if memory.retriever == ANY else [memory.retriever]
        for editor in editors:
            for retriever in retrievers:
                parts = [name]
                parts += [str(editor)] * (memory.editor == ANY)
                parts += [str(retriever)] * (memory.retriever == ANY)
                if (full := " ".join(parts)) in made:
                    raise BadInput(
                        f'two memories are called {full!r}, one of them by "*"; allowed: each name '
                        "once. Rename one."
                    )
                made[full] = memory.model_copy(update={"editor": editor, "retriever": retriever})
    return made


def _told(error: ValidationError) -> str:
    """The first thing that is wrong: where, what, what is allowed."""
    first, *others = error.errors()
    place = ".".join(map(str, first["loc"])) or "the file"
    more = f" ({len(others)} more after it.)" if others else ""
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{place} is unknown; {near(str(first['loc'][-1]), _fields(first['loc']))}{more}"
    if first["type"] == "missing":
        return f"{place} is missing; allowed: a value. Write one.{more}"
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    if first["type"] == "value_error" and isinstance(first["input"], Mapping):  # of a whole table
        return f"{place}: {message}.{more}" if first["loc"] else f"{message}.{more}"
    shown = repr(first["input"])
    return f"{place} is {shown if len(shown) < 80 else shown[:77] + '...'}: {message}.{more}"


def _fields(place: tuple[int | str, ...]) -> list[str]:
    """The names that are allowed where an unknown one was found."""
    if place[0] == "template" and len(place) > 1:
        return [field.name for field in dataclasses.fields(Template)]
    tables: dict[str, type[BaseModel]] = {
        "models": ModelSpec,
        "benchmarks": BenchmarkSpec,
        "memories": MemorySpec,
        "edits": EditsSpec,
    }
    return list(tables[str(place[0])].model_fields) if len(place) > 1 else _top()


def _top() -> list[str]:
    """The keys and tables of a file."""
    return [name for name in Spec.model_fields if name != "folder"]
