"""The same grid on Ray: the same records, also when a worker is killed on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest

from memkit.compare import grid, read_spec
from memkit.compare.on_ray import OnRay, _Pool
from memkit.errors import BadInput, MissingDependency

SCRIPT = """
import json, os, signal, sys
from pathlib import Path

import ray

from memkit.compare import run
from memkit.compare.executors import attempt
from memkit.compare.on_ray import OnRay

folder, spec = Path(sys.argv[1]), json.loads(sys.argv[2])


def deadly(worker, cell, seen):
    own = ray.get_runtime_context().get_assigned_resources()
    given = [own, os.environ.get("CUDA_VISIBLE_DEVICES")]
    (folder / f"given {os.getpid()}").write_text(json.dumps(given))
    for number, records in enumerate(attempt(worker, cell, seen)):
        yield records
        marker = folder / "killed"
        if cell.memory == "ft" and number == 1 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def same(found):
    rows = [
        (record.cell, record.id, record.scored, record.answer.text, record.answer.prompt.text,
         record.answer.edits, record.metrics, round(record.answer.logprob, 4))
        for outcome in found.outcomes
        for record in outcome.answers
    ]
    rows += [(e.cell, e.id, e.learnt, e.editor) for o in found.outcomes for e in o.edits]
    return sorted(rows, key=str)


ray.init(
    num_cpus=2,
    num_gpus=1,
    include_dashboard=False,
    log_to_driver=False,
    object_store_memory=80 * 2**20,
    _node_ip_address="127.0.0.1",
)
there = run(spec, folder / "ray", executor=OnRay(workers=2, gpus=0.25, retries=1, attempt=deadly))
ray.shutdown()
here = run(spec, folder / "serial")
assert (folder / "killed").exists()
given = [json.loads(file.read_text()) for file in folder.glob("given *")]
assert len(given) >= 2
assert all((own["GPU"], own["CPU"], seen) == (0.25, 1, "0") for own, seen in given), given
assert not there.failures, [outcome.end.error for outcome in there.failures]
assert len(here.done) == len(there.done) == 3
assert len(same(here)) > 60
assert same(here) == same(there)
lines = (folder / "ray" / "records.jsonl").read_text().splitlines()
ids = [(r["cell"], r["id"]) for r in map(json.loads, lines) if r["kind"] != "cell"]
assert len(ids) == len(set(ids))
print("the same")
"""


def test_records_are_those_of_the_serial_run_though_a_worker_is_killed(wanted, tmp_path):
    """In a process of its own: Ray would take signals from a Java that runs in this one."""
    pytest.importorskip("ray")
    wanted["edits"]["counts"] = [1]
    wanted["editors"]["ft"].pop("guards")
    wanted["memories"] = {"plain": {}, "ft": {"editor": "ft"}, "def": {"retriever": "definitions"}}
    (tmp_path / "script.py").write_text(SCRIPT)
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path), json.dumps(wanted)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.stdout.endswith("the same\n"), done.stderr[-3000:]


@pytest.mark.parametrize(
    ("gpus", "workers", "room"),
    [(0, None, 8), (0, 3, 3), (1, None, 2), (2, None, 1), (0.5, None, 4), (0.4, None, 4),
     (0.25, None, 8), (0.1, None, 8), (0.5, 3, 3), (1, 5, 2)],
)  # fmt: skip
def test_there_are_as_many_workers_as_have_room(gpus, workers, room):
    double = SimpleNamespace(cluster_resources=lambda: {"CPU": 8.0, "GPU": 2.0})
    executor = OnRay(workers=workers, gpus=gpus)
    assert executor._room(double, 100) == room
    assert executor._room(double, 1) == 1


def test_more_gpus_than_there_are_are_refused():
    double = SimpleNamespace(cluster_resources=lambda: {"CPU": 8.0, "GPU": 2.0})
    with pytest.raises(BadInput, match=r"gpus is 3, and the cluster has 2 GPUs"):
        OnRay(gpus=3)._room(double, 1)


class Lost(Exception):
    """What the double raises for a worker that is gone."""


class AlwaysLost:
    """A double of Ray whose workers are lost as soon as they begin."""

    exceptions = SimpleNamespace(RayError=Lost)

    def __init__(self):
        self.begun = []

    def remote(self, **options):
        run = SimpleNamespace(options=lambda **more: SimpleNamespace(remote=self.begin))
        return lambda kind: SimpleNamespace(remote=lambda *rest: SimpleNamespace(run=run))

    def begin(self, cell, seen):
        self.begun.append(cell)
        return iter([f"record {len(self.begun)} of {cell.memory}"])

    def wait(self, streams, num_returns):
        return streams[:1], streams[1:]

    def get(self, reference):
        raise Lost("The actor died.\nFor this reason or that.")

    def kill(self, place):
        pass


def test_a_cell_whose_workers_are_always_lost_has_failed(wanted):
    double, cells = AlwaysLost(), grid(read_spec(wanted)).cells[:2]
    pool = _Pool(double, OnRay(retries=2), None, "tiny", deque(cells), {})
    ends = [record for records in pool.run(2) for record in records]
    assert {end.cell for end in ends} == {cell.id for cell in cells}
    assert [end.status for end in ends] == ["failed", "failed"]
    assert ends[0].error == "Lost: The actor died."
    assert sorted(map(double.begun.count, cells)) == [3, 3]  # once, and two times again


def test_refuses_what_makes_no_sense():
    with pytest.raises(BadInput, match="workers is 0"):
        OnRay(workers=0)
    with pytest.raises(BadInput, match=r"gpus is -0\.5"):
        OnRay(gpus=-0.5)


def test_says_what_to_install(wanted, tmp_path, monkeypatch):
    from memkit.compare import run

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependency, match=r"memkit\[ray\]"):
        run(wanted, tmp_path, executor=OnRay())
