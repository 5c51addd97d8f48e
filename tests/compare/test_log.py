"""The file of records: whole whatever happens, and one writer at a time."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from memkit.compare.log import RECORDS, Log, locked, stored
from memkit.compare.records import CellRecord
from memkit.errors import BadInput

from .test_records import answer, edit

HOLD = """
import sys, time
from pathlib import Path
from memkit.compare.log import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_line_that_is_only_half_there_is_cut_off_wherever_it_ends(tmp_path):
    with Log(tmp_path) as log:
        log.append([answer(), edit()])
    whole = (tmp_path / RECORDS).read_bytes()
    first = whole.index(b"\n") + 1
    for end in (*range(first, len(whole), 97), len(whole) - 1):
        (tmp_path / RECORDS).write_bytes(whole[:end])
        with Log(tmp_path) as log:
            assert log.seen["c"] == {answer().id}
            assert (tmp_path / RECORDS).stat().st_size == first
            log.append([edit()])
        assert (tmp_path / RECORDS).read_bytes() == whole


def test_a_record_that_is_there_is_not_written_again(tmp_path):
    with Log(tmp_path) as log:
        log.append([answer()])
        log.append([answer(), answer(id="other")])
    with Log(tmp_path) as log:
        log.append([answer(id="other")])
    assert [record.id for record in stored(tmp_path)] == [answer().id, "other"]


def test_of_a_cells_ends_the_last_counts(tmp_path):
    with Log(tmp_path) as log:
        assert not log.done("c")
        log.append([CellRecord("c", "failed", 1.0, "no", "trace")])
        assert not log.done("c")
        log.append([CellRecord("c", "done", 1.0)])
    with Log(tmp_path) as log:
        assert log.done("c")


def test_a_line_that_is_no_record_is_named(tmp_path):
    with Log(tmp_path) as log:
        log.append([answer()])
    with (tmp_path / RECORDS).open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(BadInput, match="line 2"):
        Log(tmp_path)


@pytest.mark.parametrize("room", [0, 5])
def test_on_a_full_disk_nothing_is_written(tmp_path, monkeypatch, room):
    real, left = os.write, [room]

    def full(file, data):
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        part, left[0] = data[: left[0]], 0
        return real(file, part)

    with Log(tmp_path) as log:
        log.append([answer()])
        before = (tmp_path / RECORDS).read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(OSError, match="No space"):
                log.append([edit()])
        assert (tmp_path / RECORDS).read_bytes() == before
        log.append([edit()])
    assert [record.id for record in stored(tmp_path)] == [answer().id, edit().id]


def test_a_second_process_is_refused_and_a_killed_one_lets_go(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BadInput, match=f"in use by process {holder.pid};"), locked(tmp_path):
            pass
        holder.kill()
    with locked(tmp_path):
        assert (tmp_path / "lock").read_text(encoding="utf-8") == str(os.getpid())
