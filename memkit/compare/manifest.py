"""A run's manifest: what was asked for, of what, by whom, and what came of it.

name, spec          the specification with all its defaults, as `read_spec` takes it
cells               every cell of the grid: id, axes, status ("done", "failed" or "open"), error and
                    traceback of one that failed
impossible          pairs that were left out, and why
models              hash of the files of each
data                hash of rows, facts and corpus of each benchmark and seed
prompts             hash of the template
environment         memkit, Python and package versions, git commit and whether the tree was
                    clean (null outside of a checkout), device, machine
seeds
sessions            for each process that worked here: command, beginning, end, how it ended
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import memkit
from memkit.compare.grid import Grid
from memkit.compare.records import SCHEMA, CellRecord, plain
from memkit.compare.rows import digest
from memkit.errors import BadInput
from memkit.files import write_text

__all__ = ["MANIFEST", "begun", "ended", "read_manifest", "write_manifest"]

MANIFEST = "manifest.json"
PACKAGES = (
    "bm25s",
    "datasets",
    "faiss-cpu",
    "numpy",
    "pydantic",
    "pyserini",
    "ray",
    "safetensors",
    "scipy",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "transformers",
)


def begun(grid: Grid, folder: Path, ended: Mapping[str, CellRecord]) -> dict[str, Any]:
    """The manifest of a run that begins, with the sessions that were before."""
    spec = grid.spec
    before = read_manifest(folder)["sessions"] if (folder / MANIFEST).is_file() else []
    environment = _environment()
    session = {
        "command": sys.argv,
        "pid": os.getpid(),
        "began": _now(),
        "ended": None,
        "how": None,
        "environment": environment,
    }
    return {
        "schema": SCHEMA,
        "name": spec.name,
        "spec": plain(spec.model_dump(exclude={"folder"})),
        "cells": _cells(grid, ended),
        "impossible": [asdict(pair) for pair in grid.impossible],
        "models": dict(grid.models),
        "data": {f"{name}, seed {seed}": own.sha256 for (name, seed), own in grid.rows.items()},
        "prompts": digest(asdict(spec.template)),
        "environment": environment,
        "seeds": list(spec.seeds),
        "sessions": [*before, session],
    }


def ended(
    manifest: dict[str, Any], grid: Grid, cells: Mapping[str, CellRecord], how: str
) -> dict[str, Any]:
    """The manifest of a run that ends: "done", "interrupted" or an error."""
    *before, session = manifest["sessions"]
    last = {**session, "ended": _now(), "how": how}
    return {**manifest, "cells": _cells(grid, cells), "sessions": [*before, last]}


def write_manifest(manifest: Mapping[str, Any], folder: Path) -> None:
    """Write it whole, or leave the old one."""
    text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(folder / MANIFEST, text + "\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder. Raises `BadInput` if it has none, or one of another schema."""
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{str(path)!r} cannot be read ({error}); allowed: a folder that `memkit compare` "
            "wrote. Check the path."
        ) from error
    if manifest.get("schema") != SCHEMA:
        raise BadInput(
            f"{str(path)!r} has schema {manifest.get('schema')!r}; allowed: {SCHEMA}. Read it with "
            "the memkit that wrote it, or start a new folder."
        )
    return manifest


def _cells(grid: Grid, ended: Mapping[str, CellRecord]) -> list[dict[str, Any]]:
    found = []
    for cell in grid.cells:
        last = ended.get(cell.id)
        how = {"status": "open", "error": None, "traceback": None}
        if last is not None:
            how = {"status": last.status, "error": last.error, "traceback": last.traceback}
        found.append({**asdict(cell), **how})
    return found


def _environment() -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    return {
        "memkit": memkit.__version__,
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "git": _git(),
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Commit and cleanness of the checkout that memkit runs from; None if it is none."""
    folder = Path(memkit.__file__).parent.parent

    def asked(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(asked("rev-parse", "--show-toplevel")).resolve() != folder.resolve():
            return None
        return {"commit": asked("rev-parse", "HEAD"), "dirty": asked("status", "--porcelain") != ""}
    except (OSError, subprocess.CalledProcessError):
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
