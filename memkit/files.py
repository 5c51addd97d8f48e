"""Files that are either whole or absent: hashing, and folders that are built aside and moved in."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from memkit.errors import BadInput

__all__ = ["building", "sha256", "write_text"]


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file, which is whole or as it was before."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def building(target: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `target`; move it to `target` when the block succeeds.

    After an exception, Ctrl-C included, the temporary folder is gone and `target` is as it was. A
    killed process leaves a folder whose name starts with a dot, which nothing opens.

    Raises `BadInput` if `target` exists and `replace` is false.
    """
    target = Path(target)
    if target.exists() and not replace:
        raise BadInput(
            f"{str(target)!r} exists; allowed: a folder that does not exist yet. Choose another "
            "name, or pass replace=True (on the command line: --replace)."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        temporary.chmod(0o755)
        yield temporary
        if target.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            try:
                os.rename(target, retired / "old")
                os.rename(temporary, target)
            except BaseException:
                if not target.exists():
                    os.rename(retired / "old", target)
                shutil.rmtree(retired, ignore_errors=True)
                raise
            shutil.rmtree(retired)
        else:
            os.rename(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
