"""What the lifelong protocol found: checkpoints, one record a fact of the stream, the table."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memkit.errors import BadInput
from memkit.protocols.cells import Cell, aligned, cell_text, mean_cell, settings_text

__all__ = ["COLUMNS", "Checkpoint", "LifelongRecord", "LifelongResult", "summary"]

COLUMNS = ("TRR", "ERR", "ES", "ARR", "holdout")


@dataclass(frozen=True, slots=True)
class LifelongRecord:
    """One fact of the stream: whether the model was wrong, and what its edit gave.

    `score` is that of the fact's own prompt right after its edit (ES; nats a token where the metric
    is perplexity), `seconds` the edit's, `keys` how many the codebook then had, of an editor that
    has one. All are None where the model was right. `rejected` is the message of the guard that
    refused the edit.
    """

    place: int
    id: str | None
    prompt: str
    target: str
    wrong: bool
    rejected: str | None = None
    score: float | None = None
    seconds: float | None = None
    keys: int | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The model after so many edits of so many facts that came; after 0 it is the unedited one.

    `cells` are by column, those without a case are absent; `scores` are the single ones behind
    them. `seconds` is the mean of an edit.
    """

    edits: int
    seen: int
    rejected: int
    keys: int | None
    seconds: float | None
    cells: Mapping[str, Cell]
    scores: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class LifelongResult:
    """What `memkit.protocols.lifelong` found.

    `checkpoints` begin with the unedited model on the cases of the last one. `editor` is its
    representation with what was chosen filled in, `chosen` says why; `settings` are the call's, and
    `identity` has the hashes of weights and stream, and the editor as it was given.
    """

    stream: str
    metric: str
    model: str
    editor: str
    settings: Mapping[str, Any]
    identity: Mapping[str, str]
    chosen: Mapping[str, str]
    checkpoints: tuple[Checkpoint, ...]
    records: tuple[LifelongRecord, ...]

    @property
    def unedited(self) -> Checkpoint:
        """The model before the stream."""
        return self.checkpoints[0]

    @property
    def final(self) -> Checkpoint:
        """The model after the stream."""
        return self.checkpoints[-1]

    @property
    def average(self) -> float | None:
        """(TRR + ERR) / 2 at the end, as the paper has it; None where one has no case."""
        cells = self.final.cells
        both = [cells[name].mean for name in ("TRR", "ERR") if name in cells]
        return sum(both) / 2 if len(both) == 2 else None

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return dataclasses.asdict(self)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LifelongResult:
        """A result that was written as JSON.

        Raises `BadInput` if the file holds something else.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            checkpoints = tuple(map(checkpoint, values.pop("checkpoints")))
            records = tuple(LifelongRecord(**row) for row in values.pop("records"))
            return cls(**values, checkpoints=checkpoints, records=records)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadInput(
                f"{str(path)!r} cannot be read as a lifelong result ({type(error).__name__}: "
                f"{error}); allowed: what the protocol wrote. Run it again."
            ) from error

    def __str__(self) -> str:
        """One row a checkpoint, the unedited model first, 95 % intervals in brackets."""
        settings = settings_text(self.settings)
        final = self.final
        lines = [
            f"{self.editor} on {self.model}, stream {self.stream}",
            f"{final.edits} edits of {final.seen} facts, {final.rejected} refused by a guard; "
            f"{self.metric}: {'less' if self.metric == 'perplexity' else 'more'} is better",
            settings,
            *(f"chosen: {name} = {why}" for name, why in self.chosen.items()),
            "",
        ]
        names = [name for name in COLUMNS if any(name in c.cells for c in self.checkpoints)]
        forms = (".4g", ".3g") if self.metric == "perplexity" else (".3f", ".2f")
        keys = any(row.keys is not None for row in self.checkpoints)
        rows = [["edits", *names, *(["keys"] if keys else []), "s / edit"]]
        for row in self.checkpoints:
            shown = [
                cell_text(row.cells[name], *forms) if name in row.cells else "" for name in names
            ]
            own = ["" if row.keys is None else f"{row.keys:,}"] if keys else []
            seconds = "" if row.seconds is None else f"{row.seconds:.3f}"
            rows.append([f"{row.edits:,}", *shown, *own, seconds])
        return "\n".join([*lines, *aligned(rows)])

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Write a picture (PNG or SVG, by the name) of the columns over the edits."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        for name in COLUMNS:
            rows = [row for row in self.checkpoints[1:] if name in row.cells]
            if not rows:
                continue
            edits = [row.edits for row in rows]
            cells = [row.cells[name] for row in rows]
            (line,) = axes.plot(edits, [cell.mean for cell in cells], label=name)
            bounds = ([cell.low for cell in cells], [cell.high for cell in cells])
            axes.fill_between(edits, *bounds, alpha=0.15, color=line.get_color(), linewidth=0)
        if self.metric == "perplexity":
            axes.set_yscale("log")
        else:
            axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("edits")
        axes.set_ylabel(self.metric)
        axes.set_title(f"{self.editor.partition('(')[0]} on {self.stream}", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        figure.savefig(path, dpi=160)


def checkpoint(values: Mapping[str, Any]) -> Checkpoint:
    """A checkpoint from its plain values."""
    cells = {name: Cell(**cell) for name, cell in values["cells"].items()}
    scores = {name: tuple(row) for name, row in values["scores"].items()}
    return Checkpoint(**{**values, "cells": cells, "scores": scores})


def summary(scores: Sequence[float], metric: str, rules: str, samples: int, seed: int) -> Cell:
    """The mean of the scores of a column, which are at least one.

    Of perplexities it is the geometric one, exp of the mean of the texts' nats a token; officially
    the arithmetic one, which a single broken text can rule.
    """
    if metric != "perplexity":
        return mean_cell(scores, samples, seed)
    if rules == "official":
        return mean_cell([math.exp(score) for score in scores], samples, seed, "perplexity")
    cell = mean_cell(scores, samples, seed, "nll")
    return Cell(math.exp(cell.mean), math.exp(cell.low), math.exp(cell.high))
