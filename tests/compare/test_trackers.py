"""Trackers get each cell's scores; none is a part of the run."""

from __future__ import annotations

import contextlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from memkit.compare import run
from memkit.errors import BadInput, MissingDependency


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


def test_an_unknown_or_absent_one_is_refused_before_anything_runs(short, tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="Did you mean 'wandb'"):
        run(short, tmp_path / "x", track="wandbd")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingDependency, match="pip install wandb"):
        run(short, tmp_path / "x", track="wandb")
    assert not (tmp_path / "x").exists()
