"""The file of records: appended to by one process at a time, whole up to its last full line."""

from __future__ import annotations

import contextlib
import json
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from memkit.compare.records import CellRecord, Record, Share, line, read
from memkit.errors import BadInput

__all__ = ["RECORDS", "Log", "locked", "stored"]

RECORDS, LOCK = "records.jsonl", "lock"


class Log:
    """Records on disk, and which are there.

    What a killed process left half written, after the last line break, is cut off on opening. After
    `append` returns, the lines are on the disk; if it raises, none of them is (a kill in between
    leaves whole lines, which is fine: each is known by its id).

    `seen` holds the ids of each cell, `ended` the last record of each cell that ended.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RECORDS
        self.seen: defaultdict[str, set[str]] = defaultdict(set)
        self.ended: dict[str, CellRecord] = {}
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.lseek(self._file, _whole(self.path, self._file), os.SEEK_SET)
            for record in stored(folder):
                self._note(record)
        except BaseException:
            os.close(self._file)
            raise

    def append(self, records: Sequence[Record]) -> None:
        """Write records that are not there yet, and wait for the disk.

        Raises `OSError` where that fails, as on a full disk; the file is then as it was.
        """
        new = [r for r in records if isinstance(r, CellRecord) or r.id not in self.seen[r.cell]]
        if not new:
            return
        data, start = b"".join(map(line, new)), os.lseek(self._file, 0, os.SEEK_CUR)
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
            os.fsync(self._file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, start)
                os.lseek(self._file, start, os.SEEK_SET)
            raise
        for record in new:
            self._note(record)

    def done(self, cell: str) -> bool:
        """Whether a cell has ended well."""
        return cell in self.ended and self.ended[cell].status == "done"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def _note(self, record: Record) -> None:
        if isinstance(record, CellRecord):
            self.ended[record.cell] = record
        else:
            self.seen[record.cell].add(record.id)


def stored(
    folder: Path, cells: Collection[str] | None = None, share: Share = lambda part: part
) -> Iterator[Record]:
    """The records of a folder, one after the other, without a line that is only half there.

    `cells` are those whose records are wanted, None for all; for `share` see
    `memkit.compare.records.read`.

    Raises `BadInput` for a folder without records, and for a line that is none; it says which.
    """
    path = folder / RECORDS
    if not path.is_file():
        raise BadInput(
            f"{str(folder)!r} has no {RECORDS}; allowed: a folder that `memkit compare` wrote. "
            "Check the path."
        )
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            if not text.endswith(b"\n"):
                return
            try:
                values = json.loads(text)
                if cells is None or values.get("cell") in cells:
                    yield read(values, share)
            except (ValueError, AttributeError) as error:
                raise BadInput(f"{str(path)!r}, line {number}: {error}") from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let this process alone work in a folder, within the block.

    The system lets go of the lock when the process ends, however it ends.

    Raises `BadInput` with the holder's number if another process has it.
    """
    import fcntl  # not on Windows

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BadInput(
                f"{str(folder)!r} is in use by process {holder}; allowed: one process in a folder "
                "at a time. Wait for it, or choose another folder."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _whole(path: Path, file: int) -> int:
    """Cut off what follows the last line break; the length that is left."""
    size = os.fstat(file).st_size
    end, step = size, 1 << 16
    with path.open("rb") as reader:
        while end > 0:
            start = max(0, end - step)
            reader.seek(start)
            at = reader.read(end - start).rfind(b"\n")
            if at >= 0:
                end = start + at + 1
                break
            end = start
    if end < size:
        os.ftruncate(file, end)
        os.fsync(file)
    return end
