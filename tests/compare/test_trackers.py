"""Trackers get each cell's scores; none is a part of the run."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from memkit.compare import run
from memkit.compare.trackers import cell_metrics
from memkit.errors import BadInput, MissingDependency

THEIRS = pytest.mark.filterwarnings("default")  # their warnings are no error of ours


@pytest.fixture
def short(wanted):
    wanted["memories"] = {"plain": {}, "bm25": {"retriever": "bm25"}}
    return wanted


def test_wandb_and_trackio_get_a_run_for_each_cell(short, tmp_path, monkeypatch):
    calls = []
    double = SimpleNamespace(
        init=lambda **told: calls.append(told),
        log=lambda metrics: calls.append(metrics),
        finish=lambda: calls.append("finish"),
    )
    monkeypatch.setitem(sys.modules, "trackio", double)
    found = run(short, tmp_path, track="trackio")
    assert calls[0]["project"] == "small"
    assert calls[0]["config"]["memory"] == "plain"
    asked = [r.right for r in found.outcomes[0].answers if r.role == "question"]
    assert calls[1]["exact_match/question"] == np.mean(asked)
    assert calls[2] == calls[5] == "finish"
    assert len(calls) == 6


def test_mlflow_gets_parameters_and_metrics(short, tmp_path, monkeypatch):
    calls = {}
    double = SimpleNamespace(
        set_experiment=lambda name: calls.update(experiment=name),
        start_run=lambda run_name: contextlib.nullcontext(),
        log_params=lambda values: calls.update(params=values),
        log_metrics=lambda values: calls.update(metrics=values),
    )
    monkeypatch.setitem(sys.modules, "mlflow", double)
    run(short, tmp_path, track="mlflow")
    assert calls["experiment"] == "small"
    assert calls["params"]["memory"] == "bm25"
    assert calls["metrics"]["tokens"] > 1


def test_a_tracker_that_fails_ends_nothing(short, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace())
    said = []
    found = run(short, tmp_path, track="wandb", announce=said.append)
    assert len(found.done) == 2
    assert sum("the tracker failed, AttributeError" in text for text in said) == 2


def test_weights_and_biases_gets_a_name_that_it_takes_and_is_always_finished(
    short, tmp_path, monkeypatch, capsys
):
    calls = []

    def log(metrics):
        print("logging")
        raise OSError("no network")

    double = SimpleNamespace(
        init=lambda **told: calls.append(told["project"]),
        log=log,
        finish=lambda: calls.append("finish"),
    )
    monkeypatch.setitem(sys.modules, "wandb", double)
    short["name"] = "a/b: 50 %?"
    run(short, tmp_path, track="wandb")
    assert calls == ["a-b- 50 --", "finish"] * 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "logging" in err


def scores(found):
    """What each cell's run is to have, by memory."""
    return {
        o.cell.memory: cell_metrics(list(o.answers))["exact_match/question"] for o in found.done
    }


@THEIRS
def test_the_real_mlflow_has_the_scores(short, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    found = run(short, tmp_path / "x", track="mlflow")
    client = mlflow.MlflowClient()
    kept = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    assert {run.info.status for run in kept} == {"FINISHED"}
    told = {run.data.params["memory"]: run.data.metrics["exact_match/question"] for run in kept}
    assert told == scores(found)


@THEIRS
def test_the_real_trackio_has_the_scores(short, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    found = run(short, tmp_path / "x", track="trackio")
    (file,) = (tmp_path / "trackio").glob("*.db")
    with contextlib.closing(sqlite3.connect(file)) as base:
        rows = base.execute("select run_name, metrics from metrics").fetchall()
    told = {name.split(" on ")[0]: json.loads(row)["exact_match/question"] for name, row in rows}
    assert told == scores(found)


@THEIRS
def test_the_real_wandb_has_a_run_for_each_cell(short, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    pytest.importorskip("wandb")
    said = []
    run(short, tmp_path / "x", track="wandb", announce=said.append)
    assert not [text for text in said if "the tracker failed" in text]
    files = [*tmp_path.glob("wandb/offline-run-*/*.wandb")]
    assert len(files) == 2
    assert all(b"exact_match/question" in file.read_bytes() for file in files)


def test_an_unknown_or_absent_one_is_refused_before_anything_runs(short, tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="Did you mean 'wandb'"):
        run(short, tmp_path / "x", track="wandbd")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingDependency, match="pip install wandb"):
        run(short, tmp_path / "x", track="wandb")
    assert not (tmp_path / "x").exists()
