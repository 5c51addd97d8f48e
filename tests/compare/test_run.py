"""A run: what is done stays done, what failed is tried again, and the rest goes on."""

from __future__ import annotations

import errno
import importlib
import json
import os
import weakref

import pytest

import memkit.compare.worker
from memkit.compare import grid, read_spec, results, run
from memkit.compare.executors import Serial, attempt
from memkit.compare.log import locked
from memkit.compare.records import line
from memkit.compare.worker import Worker
from memkit.errors import BadInput
from memkit.lm.model import LM

RUN = importlib.import_module("memkit.compare.run")  # the package has a function of that name


def same(found):
    """What does not depend on time and memory."""
    rows = []
    for outcome in found.outcomes:
        for record in outcome.answers:
            rows.append((record.cell, record.id, record.scored, record.answer.prompt.text))
        rows += [(edit.cell, edit.id, edit.learnt) for edit in outcome.edits]
    return sorted(rows, key=str)


class Watched(Serial):
    """Serial, and which cells it was given."""

    def run(self, grid, cells, seen):
        self.given.extend(cell.memory for cell in cells)
        return super().run(grid, cells, seen)


def watched():
    executor = Watched()
    object.__setattr__(executor, "given", [])
    return executor


def test_every_memory_answers_the_same_rows_and_a_second_run_does_nothing(wanted, tmp_path):
    loads, load = [], LM.load

    def counted(*arguments):
        loads.append(arguments)
        return load(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LM, "load", counted)
        found = run(wanted, tmp_path / "x")
    assert len(loads) == 1  # one model, one load
    assert not found.failures
    asked = [{record.id for record in outcome.answers} for outcome in found.done]
    assert len(found.done) == 8
    assert all(ids == asked[0] for ids in asked)
    written = {outcome.cell.memory for outcome in found.done if outcome.edits}
    assert written == {"ft", "routed"}
    edited = [r for o in found.done if o.edits for r in o.answers]
    assert all(record.answer.edits for record in edited)
    assert found.manifest["sessions"][-1]["how"] == "done"
    assert {row["status"] for row in found.manifest["cells"]} == {"done"}
    before = (tmp_path / "x" / "records.jsonl").read_bytes()
    executor = watched()
    run(wanted, tmp_path / "x", executor=executor)
    assert executor.given == []
    assert (tmp_path / "x" / "records.jsonl").read_bytes() == before
    wanted["retrievers"]["bm25"]["k"] = 2
    executor = watched()
    changed = run(wanted, tmp_path / "x", executor=executor)
    assert set(executor.given) == {"bm25", "routed"}
    assert len(changed.done) == 8


def test_a_cell_that_fails_is_recorded_and_the_rest_goes_on(wanted, tmp_path, monkeypatch):
    import torch

    del wanted["memories"]["routed"]
    real = Worker.asked

    def short_of_memory(self, cell, *rest):
        if cell.memory == "bm25":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self, cell, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(memkit.compare.worker.Worker, "asked", short_of_memory)
        found = run(wanted, tmp_path)
    (failed,) = found.failures
    assert failed.cell.memory == "bm25"
    assert "out of memory" in failed.end.error
    assert "short_of_memory" in failed.end.traceback
    assert len(found.done) == 4
    row = next(row for row in found.manifest["cells"] if row["id"] == failed.cell.id)
    assert row["status"] == "failed"
    assert row["traceback"] == failed.end.traceback
    executor = watched()
    again = run(wanted, tmp_path, executor=executor)
    assert executor.given == ["bm25"]
    assert not again.failures
    assert len(again.done) == 5


def test_an_edit_that_is_not_taken_back_is_found_and_the_model_loaded_anew(
    wanted, tmp_path, monkeypatch
):
    import torch

    wanted["memories"] = {"ft": {"editor": "ft"}}
    wanted["edits"]["schedules"] = ["batch"]
    real = Worker.block

    def leaky(self, cell, own, block, seen=()):
        yield from real(self, cell, own, block, seen)
        if cell.memory == "ft" and cell.count == 1:
            with torch.no_grad():
                next(self.lm.model.parameters()).add_(1e-3)

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "block", leaky)
        found = run(wanted, tmp_path / "leaky")
    assert [outcome.cell.count for outcome in found.failures] == [1]
    assert "did not take back" in found.failures[0].end.error
    clean = run(wanted, tmp_path / "clean")
    rows = {row for row in same(clean) if row[0] != found.failures[0].cell.id}
    assert {row for row in same(found) if row[0] != found.failures[0].cell.id} == rows


def test_on_a_full_disk_the_cell_fails_and_the_rest_goes_on(wanted, tmp_path, monkeypatch):
    del wanted["memories"]["routed"]
    real, bad = os.write, []

    def full(file, data):
        if bad and bad[0].encode() in bytes(data) and b'"kind": "cell"' not in bytes(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data)

    class Named(Serial):
        def run(self, grid, cells, seen):
            bad.append(next(cell.id for cell in cells if cell.memory == "bm25"))
            return super().run(grid, cells, seen)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        found = run(wanted, tmp_path, executor=Named())
    (failed,) = found.failures
    assert failed.cell.memory == "bm25"
    assert "No space left" in failed.end.error
    assert failed.end.traceback
    assert failed.answers == ()
    assert len(run(wanted, tmp_path).done) == 5


def test_where_nothing_can_be_written_at_the_end_the_results_are_given(
    wanted, tmp_path, monkeypatch
):
    wanted["memories"] = {"plain": {}, "bm25": wanted["memories"]["bm25"]}
    real, written = os.write, []

    def full(file, data):
        if b'"kind": ' not in bytes(data):
            return real(file, data)
        if len(written) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(data)
        return real(file, data)

    def no_room(manifest, folder):
        if manifest["sessions"][-1]["how"] is not None:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_manifest(manifest, folder)

    write_manifest, said = RUN.write_manifest, []
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        patch.setattr(RUN, "write_manifest", no_room)
        found = run(wanted, tmp_path, announce=said.append)
    assert [outcome.cell.memory for outcome in found.failures] == ["plain", "bm25"]
    assert all("No space left" in outcome.end.error for outcome in found.failures)
    assert all("in full" in outcome.end.traceback for outcome in found.failures)
    assert any("the manifest stays as it was" in text for text in said)
    assert len(run(wanted, tmp_path).done) == 2


@pytest.mark.parametrize("kind", ["torch", "memory"])
def test_what_filled_the_memory_is_let_go_before_the_cell_is_recorded(wanted, monkeypatch, kind):
    import torch

    class Big:
        pass

    alive = []

    def filled(self, cell, *rest):
        big = Big()
        alive.append(weakref.ref(big))
        try:
            raise MemoryError
        except MemoryError as error:
            if kind == "memory":
                raise
            raise torch.OutOfMemoryError("CUDA out of memory.") from error

    made = grid(read_spec(wanted))
    monkeypatch.setattr(Worker, "asked", filled)
    with Worker(made, "tiny") as worker:
        ((end,),) = attempt(worker, made.cells[0], ())
        assert end.status == "failed"
        for (end,) in attempt(worker, made.cells[0], ()):
            assert "Memory" in end.error
            assert len(alive) == 2
            assert alive[1]() is None


def test_ctrl_c_ends_cleanly_and_the_next_run_goes_on(wanted, tmp_path):
    class Interrupted(Serial):
        def run(self, grid, cells, seen):
            for number, records in enumerate(super().run(grid, cells, seen)):
                if number == 7:
                    raise KeyboardInterrupt
                yield records

    del wanted["memories"]["routed"]
    with pytest.raises(KeyboardInterrupt):
        run(wanted, tmp_path / "x", executor=Interrupted())
    half = results(tmp_path / "x")
    assert half.manifest["sessions"][-1]["how"] == "interrupted"
    assert 0 < len(half.done) < 5
    whole = run(wanted, tmp_path / "x")
    assert same(whole) == same(run(wanted, tmp_path / "y"))
    assert len(whole.manifest["sessions"]) == 2


def test_a_run_in_a_folder_that_is_in_use_is_refused(wanted, tmp_path):
    with locked(tmp_path), pytest.raises(BadInput, match=str(os.getpid())):
        run(wanted, tmp_path)


def test_the_manifest_says_what_was_run(wanted, tmp_path):
    wanted["memories"] = {"plain": {}}
    manifest = run(wanted, tmp_path).manifest
    assert manifest["environment"]["packages"]["torch"]
    assert len(manifest["models"]["tiny"]) == len(manifest["prompts"]) == 64
    assert list(manifest["data"]) == ["small, seed 0"]
    assert manifest["sessions"][0]["command"]
    git = manifest["environment"]["git"]
    assert git is None or (len(git["commit"]) == 40 and git["dirty"] in (True, False))


def test_the_manifest_holds_the_specification_as_it_can_be_run_again(wanted, tmp_path):
    wanted["memories"] = {"ft": {"editor": "ft"}}
    path = tmp_path / "manifest.json"
    made = grid(read_spec(wanted))
    RUN.write_manifest(RUN.begun(made, tmp_path, {}), tmp_path)
    told = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert told["spec"]["editors"]["ft"]["guards"] == {"perplexity": "inf", "size": "inf"}
    again = grid(read_spec(told["spec"]))
    assert [cell.id for cell in again.cells] == [cell.id for cell in made.cells]


def test_who_leaves_out_the_model_as_it_is_hears_of_it(wanted, tmp_path):
    said = []
    wanted["memories"] = {"plain": {}}
    run(wanted, tmp_path / "with", announce=said.append)
    assert not any("as it is" in text for text in said)
    wanted["memories"] = {"bm25": {"retriever": "bm25"}}
    run(wanted, tmp_path / "without", announce=said.append)
    assert sum("no memory is the model as it is" in text for text in said) == 1


def test_records_are_what_the_answers_were(wanted, tmp_path):
    wanted["memories"] = {"bm25": wanted["memories"]["bm25"]}
    found = run(wanted, tmp_path)
    record = next(r for o in found.done for r in o.answers if r.answer.hits)
    assert record.answer.decision.source == "retrieval"
    assert record.answer.prompt.text.endswith("A:") or record.role not in ("question", "asked")
    assert line(record) in (tmp_path / "records.jsonl").read_bytes()
