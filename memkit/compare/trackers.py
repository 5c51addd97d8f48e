"""Trackers: each cell's scores, sent to a service as well. None by default.

A tracker is a thin sink: the folder of records stays what counts, and a tracker that fails does not
end a run.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from memkit.compare.grid import Cell
from memkit.compare.records import AnswerRecord
from memkit.compare.spec import near
from memkit.errors import BadInput, MissingDependency

__all__ = ["TRACKERS", "Tracker", "cell_metrics", "tracker"]

Tracker = Callable[[Cell, Mapping[str, float]], None]
REFUSED = "/\\#?%:"  # letters that Weights & Biases refuses in a project's name


def tracker(name: str, project: str) -> Tracker:
    """The tracker of that name, for runs under a project: one run for each cell.

    Raises `BadInput` for an unknown name, `MissingDependency` where its package is absent.
    """
    if name not in TRACKERS:
        raise BadInput(f"track is {name!r}; {near(name, TRACKERS)}")
    try:
        package = importlib.import_module(name)
    except ImportError as error:
        raise MissingDependency(
            f'track="{name}" needs {name}, which is not installed. pip install {name}, or leave it '
            "out: the records are the same."
        ) from error
    send = TRACKERS[name]

    def sent(cell: Cell, metrics: Mapping[str, float]) -> None:
        with contextlib.redirect_stdout(sys.stderr):  # what they say is no result
            send(package, project, cell, metrics)

    return sent


def cell_metrics(records: list[AnswerRecord]) -> dict[str, float]:
    """Means of a cell: exact match by role, tokens and milliseconds."""
    roles = dict.fromkeys(record.role for record in records)
    found = {
        f"exact_match/{role}": float(np.mean([r.right for r in records if r.role == role]))
        for role in roles
    }
    if records:
        found["tokens"] = float(np.mean([r.answer.prompt.tokens for r in records]))
        found["milliseconds"] = float(np.mean([1000 * r.answer.seconds for r in records]))
    return found


def _axes(cell: Cell) -> dict[str, Any]:
    axes = ("model", "memory", "benchmark", "seed", "count", "schedule", "id")
    return {axis: getattr(cell, axis) for axis in axes}


def _wandb(package: Any, project: str, cell: Cell, metrics: Mapping[str, float]) -> None:
    """Weights & Biases, and Trackio, which has its calls."""
    name = "".join("-" if letter in REFUSED else letter for letter in project)
    package.init(project=name, name=cell.name, config=_axes(cell))
    try:
        package.log(dict(metrics))
    finally:
        package.finish()


def _mlflow(package: Any, project: str, cell: Cell, metrics: Mapping[str, float]) -> None:
    package.set_experiment(project)
    with package.start_run(run_name=cell.name):
        package.log_params(_axes(cell))
        package.log_metrics(dict(metrics))


TRACKERS: Mapping[str, Callable[[Any, str, Cell, Mapping[str, float]], None]] = {
    "mlflow": _mlflow,
    "trackio": _wandb,
    "wandb": _wandb,
}
