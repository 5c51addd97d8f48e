"""What `crowded` found: a row a way and number of definitions, the table, and the plot."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memkit.errors import BadInput
from memkit.protocols.cells import Cell, aligned, settings_text

__all__ = ["CrowdedResult", "CrowdedRow"]


@dataclass(frozen=True, slots=True)
class CrowdedRow:
    """One way for so many definitions.

    `score` is accuracy, or perplexity of probes without candidates, with its interval by resampling
    entities. `tokens` and `milliseconds` are a probe's means (of the prompt, of looking up and
    scoring), `shown` the share of probes before which their own definition stood; None for an
    editor, whose `seconds` are the mean of a step of n definitions and whose `rejected` counts
    steps that a guard refused.
    """

    definitions: int
    name: str
    score: Cell
    tokens: float
    milliseconds: float
    shown: float | None = None
    seconds: float | None = None
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class CrowdedResult:
    """What `crowded` found: for each number of definitions a row a way."""

    model: str
    metric: str
    settings: Mapping[str, Any]
    probes: int
    rows: tuple[CrowdedRow, ...]

    def row(self, name: str, definitions: int) -> CrowdedRow:
        """One row. Raises `BadInput` if there is none."""
        for row in self.rows:
            if (row.name, row.definitions) == (name, definitions):
                return row
        names = ", ".join(dict.fromkeys(repr(row.name) for row in self.rows))
        raise BadInput(
            f"there is no row {name!r} for {definitions!r} definitions; allowed: {names}, with "
            f"{', '.join(map(str, self.settings['counts']))}. Choose one of each."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return dataclasses.asdict(self)

    def table(self) -> list[list[str]]:
        """Header and rows; accuracy in per cent, 95 % intervals in brackets."""
        header = ["definitions", "", self.metric, "own shown", "tokens", "ms", "s / step"]
        scale, form = (100, ".0f") if self.metric == "accuracy" else (1, ".4g")
        rows = []
        for row in self.rows:
            mean, low, high = (scale * x for x in dataclasses.astuple(row.score))
            rows.append(
                [
                    str(row.definitions),
                    row.name,
                    f"{mean:{form}} [{low:{form}}, {high:{form}}]",
                    "" if row.shown is None else f"{100 * row.shown:.0f}",
                    f"{row.tokens:.0f}",
                    f"{row.milliseconds:.1f}",
                    "" if row.seconds is None else f"{row.seconds:.2f}",
                ]
            )
        return [header, *rows]

    def __str__(self) -> str:
        """The table, with what was run."""
        settings = settings_text(self.settings)
        head = [self.model, f"{self.probes} probes; {settings}", ""]
        refused = [
            f"{row.name}: {row.rejected} steps of {row.definitions} refused by a guard"
            for row in self.rows
            if row.rejected
        ]
        return "\n".join([*head, *aligned(self.table()), *refused])

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Write a picture (PNG or SVG, by the name) of the score over the number of definitions."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        for name in dict.fromkeys(row.name for row in self.rows):
            own = [row for row in self.rows if row.name == name]
            counts = [row.definitions for row in own]
            (line,) = axes.plot(counts, [row.score.mean for row in own], marker="o", label=name)
            bounds = ([row.score.low for row in own], [row.score.high for row in own])
            axes.fill_between(counts, *bounds, alpha=0.12, color=line.get_color(), linewidth=0)
        axes.set_xscale("log")
        axes.set_xticks(self.settings["counts"], [str(n) for n in self.settings["counts"]])
        axes.minorticks_off()
        if self.metric == "accuracy":
            axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("definitions at once")
        axes.set_ylabel(self.metric)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        figure.savefig(path, dpi=160)
