"""The dry run: its arithmetic, and that it records nothing."""

from __future__ import annotations

import importlib
import shutil

import numpy as np
import pytest

from memkit.compare import grid, read_spec
from memkit.compare.estimate import Calibration, estimate, expected
from memkit.compare.worker import Worker

ESTIMATE = importlib.import_module("memkit.compare.estimate")


def test_a_block_is_a_line_through_what_was_timed():
    found = Calibration(one=2.0, few=5.0, size=4)
    assert [found.block(n, "batch") for n in (1, 4, 10)] == [2.0, 5.0, 11.0]
    assert found.block(10, "sequential") == 20.0
    assert Calibration(one=2.0, few=1.0, size=4).block(10, "batch") == 2.0  # never negative


def test_the_sum_is_over_all_cells(wanted):
    wanted["seeds"] = [0, 1]
    made = grid(read_spec(wanted))
    measures = {(name, "small"): Calibration() for name in made.memories}
    measures["ft", "small"] = Calibration(once=100.0, row=0.01, cloze=1.0, one=10.0)
    rows = [made.rows["small", seed].rows for seed in (0, 1)]
    cloze = sum(row.cloze for own in rows for row in own)
    plain = sum(len(own) for own in rows) - cloze
    # three ways (1, 2 at once, 2 in turn) ask all rows; each writes both facts
    total = 2 * 100 + 3 * (cloze + plain * 0.01) + 2 * 3 * 2 * 10
    assert expected(made, made.cells, measures) == pytest.approx(total)


def test_memory_is_what_is_in_use_and_the_most_beyond_it_of_the_largest_model(
    wanted, monkeypatch, tmp_path
):
    shutil.copytree(wanted["models"]["tiny"]["path"], tmp_path / "second")
    wanted["models"]["second"] = {"path": str(tmp_path / "second")}
    used = {"tiny": 1000, "second": 300}
    peaks = {"plain": 1, "bm25": 70, "ft": 500, "routed": 20}
    monkeypatch.setattr(ESTIMATE, "_in_use", lambda worker: used[worker.model])
    monkeypatch.setattr(
        ESTIMATE, "_calibrated", lambda worker, cell: Calibration(peak=peaks[cell.memory])
    )
    assert estimate(read_spec(wanted)).bytes == 1500


def test_what_is_in_use_grows_by_what_is_taken(wanted):
    with Worker(grid(read_spec(wanted)), "tiny") as worker:
        before = ESTIMATE._in_use(worker)
        taken = np.ones(100_000_000, dtype=np.uint8)
        assert ESTIMATE._in_use(worker) - before == pytest.approx(taken.nbytes, rel=0.2)


def test_what_fails_is_said_and_the_rest_is_timed(wanted, monkeypatch):
    real = Worker.asked

    def asked(self, cell, *rest):
        if cell.memory == "bm25":
            raise MemoryError("no room")
        return real(self, cell, *rest)

    monkeypatch.setattr(Worker, "asked", asked)
    found = estimate(read_spec(wanted))
    assert found.failures == ("bm25 on tiny, small: no room",)
    assert "will fail: bm25 on tiny, small: no room" in found.lines()
    assert found.seconds["tiny"] > 0


def test_a_dry_run_measures_and_writes_nothing(wanted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = estimate(read_spec(wanted))
    assert found.seconds["tiny"] > 0
    assert found.bytes > 1e6
    assert "8 cells (1 models, 4 memories, 1 benchmarks, 1 seeds)" in found.lines()[0]
    assert list(tmp_path.iterdir()) == []
