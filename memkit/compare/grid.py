"""The grid: every cell that a specification asks for, each with a hash of all it depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memkit.compare.memories import Memory, check_parts, memory
from memkit.compare.records import SCHEMA
from memkit.compare.rows import Rows, digest, rows
from memkit.compare.spec import ModelSpec, Spec
from memkit.errors import BadInput, MemkitError
from memkit.files import sha256
from memkit.lm.layouts import Kind
from memkit.lm.loading import kind_of, pick_dtype
from memkit.world import shipped

__all__ = ["Cell", "Grid", "Impossible", "files_hash", "grid", "model_folder"]

UNHASHED = ("card.json", "README.md")
WEIGHTS = ("*.safetensors", "*.json", "*.model", "*.txt")


@dataclass(frozen=True, slots=True)
class Cell:
    """One model with one memory on one benchmark under one seed.

    `count` facts at a time are written, by `schedule` ("batch" or "sequential"); 0 and "" where the
    memory takes none in. `id` is the beginning of the SHA-256 of all that its records depend on.
    """

    id: str
    model: str
    memory: str
    benchmark: str
    seed: int
    count: int
    schedule: str

    @property
    def name(self) -> str:
        """For who watches."""
        edits = f", {self.count} at a time, {self.schedule}" if self.count else ""
        return f"{self.memory} on {self.model}, {self.benchmark}, seed {self.seed}{edits}"


@dataclass(frozen=True, slots=True)
class Impossible:
    """A pair that cannot be, and why."""

    model: str
    memory: str
    benchmark: str | None
    why: str

    def __str__(self) -> str:
        on = "" if self.benchmark is None else f" ({self.benchmark})"
        return f"{self.memory} on {self.model}{on}: {self.why}"


@dataclass(frozen=True)
class Grid:
    """What is to be run, by what it was made of.

    `folders` and `models` are where each model lies and the hash of its files; `rows` are by
    benchmark and seed. A cell of a memory that takes no facts in stands for all counts.
    """

    spec: Spec
    cells: tuple[Cell, ...]
    impossible: tuple[Impossible, ...]
    folders: Mapping[str, str]
    models: Mapping[str, str]
    rows: Mapping[tuple[str, int], Rows]
    memories: Mapping[str, Memory]

    def find(self, id: str) -> Cell:
        """The cell of that hash."""
        return next(cell for cell in self.cells if cell.id == id)


def grid(spec: Spec) -> Grid:
    """All cells, model by model.

    Reads benchmarks and model files, but loads no model. Raises `BadInput` for what cannot be read
    or run, and for impossible pairs if the specification refuses them.
    """
    check_parts(spec)
    memories = {name: memory(spec, name) for name in spec.memories}
    for name, of in spec.models.items():
        _check_model(name, of)
    kept = {
        (name, seed): _rows(spec, name, seed) for name in spec.benchmarks for seed in spec.seeds
    }
    folders = {name: model_folder(spec, name) for name in spec.models}
    prints = {name: files_hash(Path(folder)) for name, folder in folders.items()}
    impossible = tuple(_impossible(spec, memories, kept, folders))
    if impossible and spec.on_impossible == "refuse":
        raise BadInput(
            f"{len(impossible)} pairs are impossible: {'; '.join(map(str, impossible))}. Allowed: "
            'none, since on_impossible is "refuse". Leave them out, or write "skip".'
        )
    bad = {(pair.model, pair.memory, pair.benchmark) for pair in impossible}
    cells: list[Cell] = []
    described = {name: one.described(spec) for name, one in memories.items()}
    for model in spec.models:
        for (bench, seed), own in kept.items():
            for name, one in memories.items():
                if bad & {(model, name, None), (model, name, bench)}:
                    continue
                common = _common(spec, model, prints[model], own, one)
                common["memory"] = described[name]
                cells += _cells(spec, common, one, (model, name, bench, seed))
    if not cells:
        raise BadInput(
            f"nothing can be run: {'; '.join(map(str, impossible))}. Allowed: at least one cell."
        )
    return Grid(spec, tuple(cells), impossible, folders, prints, kept, memories)


def _rows(spec: Spec, name: str, seed: int) -> Rows:
    """The rows of a benchmark; an error says whose they are."""
    try:
        return rows(spec, name, seed)
    except BadInput as error:
        raise BadInput(f"benchmarks.{name}: {error}") from error


def _check_model(name: str, model: ModelSpec) -> None:
    """Check device and dtype as names: the machine that has the device may be another one."""
    import torch

    try:
        pick_dtype(model.dtype)
        if model.device != "auto":
            torch.device(model.device)
    except (BadInput, RuntimeError) as error:
        why = str(error).split(" at start of device string")[0].split("\n")[0]
        text = why if isinstance(error, BadInput) else f"device is {model.device!r}: {why}."
        raise BadInput(f"models.{name}: {text}") from error


def _kind(model: str, folder: str) -> Kind:
    """What a model is good for; an error says which one."""
    try:
        return kind_of(folder)
    except MemkitError as error:
        raise type(error)(f"models.{model}: {error}") from error


def model_folder(spec: Spec, name: str) -> str:
    """Where a model lies on this machine; one of the Hub is fetched if it is not here yet."""
    model = spec.models[name]
    if model.shipped is not None:
        return str(shipped(model.shipped))
    path = spec.place(str(model.path))
    if Path(path).is_dir():
        return path
    return _from_hub(path, model, f"models.{name}.path")


def _from_hub(path: str, model: ModelSpec, place: str) -> str:
    import huggingface_hub

    try:
        return huggingface_hub.snapshot_download(
            path, revision=model.revision, allow_patterns=list(WEIGHTS)
        )
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{place} is {path!r}, which is no folder, and the Hub does not give it "
            f"({str(error).splitlines()[0]}); allowed: a folder written by save_pretrained, or a "
            "Hub id. Correct it, or connect to the network."
        ) from error


def files_hash(folder: Path) -> str:
    """SHA-256 of the files that a model is loaded from."""
    files = sorted({file for pattern in WEIGHTS for file in folder.glob(pattern)})
    return digest([(file.name, sha256(file)) for file in files if file.name not in UNHASHED])


def _common(spec: Spec, model: str, files: str, own: Rows, one: Memory) -> dict[str, Any]:
    """What all cells of a model and a memory depend on; text only where the memory has any."""
    found = {
        "schema": SCHEMA,
        "model": files,
        "dtype": spec.models[model].dtype,
        "rows": own.asked_sha256,
        "template": asdict(spec.template),
        "max_new_tokens": spec.max_new_tokens,
        "batch_size": spec.batch_size,
    }
    if one.retriever is not None:
        found["corpus"] = own.corpus_sha256
    if one.router_name is not None:
        found["fit"] = own.fit_sha256
    return found


def _cells(
    spec: Spec, common: dict[str, Any], one: Memory, axes: tuple[str, str, str, int]
) -> Iterator[Cell]:
    ways: list[tuple[int, str]] = [(0, "")]
    if one.writes and spec.edits is not None:
        # text has no order in which it is written, and one fact no other to come after
        schedules = spec.edits.schedules if one.editor is not None else ("batch",)
        ways = [
            (count, schedule)
            for count in spec.edits.counts
            for schedule in (schedules if count > 1 else schedules[:1])
        ]
    for count, schedule in ways:
        id = digest({**common, "seed": axes[3], "count": count, "schedule": schedule})[:16]
        yield Cell(id, *axes, count, schedule)


def _impossible(
    spec: Spec,
    memories: Mapping[str, Memory],
    kept: Mapping[tuple[str, int], Rows],
    folders: Mapping[str, str],
) -> Iterator[Impossible]:
    """Each pair once, with the first reason."""
    for model, folder in folders.items():
        kind = _kind(model, folder)
        for name, one in memories.items():
            if kind not in ("decoder", "encoder-decoder"):
                yield Impossible(model, name, None, f"a {kind} model writes no answers")
                continue
            if one.editor is not None and kind not in type(one.editor).kinds:
                allowed = ", ".join(type(one.editor).kinds)
                why = f"{type(one.editor).__name__} edits {allowed} models, and this one is {kind}"
                yield Impossible(model, name, None, why)
                continue
            if one.untrained:
                what, place = type(one.editor).__name__, f"editors.{one.editor_name}.networks"
                why = f"{what} has no networks: train them, and name their folder in {place}"
                yield Impossible(model, name, None, why)
                continue
            for bench in spec.benchmarks:
                own = kept[bench, spec.seeds[0]]
                if why := _lacks(one, own):
                    yield Impossible(model, name, bench, why)


def _lacks(one: Memory, own: Rows) -> str:
    """What a memory needs and a benchmark does not have; "" for nothing."""
    if one.writes and not own.facts:
        return "there is nothing to write: no [edits], or no facts"
    needs = one.retriever.needs() if one.retriever is not None else set()
    there = {"passages": own.benchmark.passages, "definitions": own.benchmark.definitions}
    for need in sorted(needs):
        if not there[need]:
            return f"the benchmark has no {need}"
    if one.router_name is not None and len(own.fit) < 2:
        return "no questions on other subjects are left to fit the router on"
    return ""
