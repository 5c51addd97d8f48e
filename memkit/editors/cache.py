"""What editors compute once for a model and keep on disk: where it lies, and what names it.

Everything is named by the hash of all that it depends on, and written aside and moved into place,
so that a file there is whole and belongs to exactly what was asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from memkit.errors import BadInput

__all__ = ["cache_folder", "check_writable", "digest", "tokenizer_hash", "writing"]


def cache_folder(name: str) -> Path:
    """The sub-folder `name` of $MEMKIT_CACHE, which is ~/.cache/memkit where it is not set."""
    root = os.environ.get("MEMKIT_CACHE") or Path.home() / ".cache" / "memkit"
    return Path(root).expanduser() / name


def digest(key: Mapping[str, Any]) -> str:
    """SHA-256 of a key of plain JSON values, whatever their order."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def tokenizer_hash(tokenizer: Any) -> str:
    """SHA-256 of how a tokenizer turns text into ids; padding and truncation do not count."""
    if tokenizer.is_fast:
        rules = tokenizer.backend_tokenizer.to_str()
        for name in ("truncation", "padding"):  # which stand before the vocabulary
            rules = _without(rules, name)
    else:
        rules = json.dumps([type(tokenizer).__name__, tokenizer.get_vocab()], sort_keys=True)
    special = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.all_special_ids]
    return hashlib.sha256(f"{rules}{special}".encode()).hexdigest()


def _without(text: str, name: str) -> str:
    """JSON less the first entry of that name; parsing the whole would take ten times as long."""
    start = text.index(f'"{name}":')
    _, end = json.JSONDecoder().raw_decode(text, start + len(name) + 3)
    return text[:start] + text[end:]


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` to write to; what lies there replaces `path` when the block ends.

    After an exception `path` is as it was. Raises `BadInput` if the folder cannot be written to.
    """
    temporary = _aside(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Make the folder. Raises `BadInput` if it cannot be written to."""
    _aside(folder / "check").unlink()


def _aside(path: Path) -> Path:
    """A new, empty file beside `path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise BadInput(
            f"{str(path.parent)!r} cannot be written to ({error}); allowed: a folder that can. Set "
            "the environment variable MEMKIT_CACHE to one, or pass another folder."
        ) from error
    os.close(handle)
    return Path(name)
