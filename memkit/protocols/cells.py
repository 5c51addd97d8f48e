"""Cells of the protocols' tables: means with their intervals, and how they are printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from memkit.metrics import bootstrap_means, wilson_interval

__all__ = [
    "EMPTY",
    "Cell",
    "aligned",
    "cell_of",
    "cell_text",
    "heading",
    "mean_cell",
    "percentile",
    "settings_text",
]

Floats = npt.NDArray[np.float64]
EMPTY = 1e-12  # narrower than this, an interval is empty up to rounding
COSTS = ("seconds", "peak_bytes", "stored_bytes")
PITFALLS = ("CM", "TFD", "D", "D / n")
NO_SHARES = ("EM", "PM", "NM", "fluency", "consistency", "nll", "perplexity", *COSTS, *PITFALLS)


@dataclass(frozen=True, slots=True)
class Cell:
    """A mean over facts with its 95 % interval.

    `low` and `high` equal the mean where the facts say nothing of the spread: of a figure that is
    no share, and the same for all of them.
    """

    mean: float
    low: float
    high: float


def mean_cell(values: Sequence[float], samples: int, seed: int, name: str = "") -> Cell:
    """The mean of at least one value, and its interval by resampling them."""
    array = np.array(values)
    drawn = bootstrap_means(array[:, None], resamples=samples, seed=seed)[:, 0]
    return cell_of(array, drawn, name)


def cell_of(here: Floats, drawn: Floats, name: str = "") -> Cell:
    """A mean and its percentile interval from resampled means.

    Where all of these agree, as they do for a share of 0 or 1, a share's interval is Wilson's: the
    bootstrap's would be empty.
    """
    found = percentile(float(here.mean()), drawn)
    if found.high - found.low < EMPTY and name not in NO_SHARES and not name.endswith("_gap"):
        return Cell(found.mean, *wilson_interval(here.clip(0, 1), range(len(here))))
    return found


def percentile(mean: float, drawn: Floats) -> Cell:
    """A mean with the bounds of 95 % of the resamples, which are NaN where they have no case."""
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.quantile(drawn, [0.025, 0.975]) if drawn.size else (mean, mean)
    return Cell(mean, float(low), float(high))


def cell_text(cell: Cell, mean: str = ".3f", bound: str = ".2f") -> str:
    """Mean and interval in these formats; the mean alone where the interval is empty."""
    if cell.high - cell.low < EMPTY:
        return f"{cell.mean:{mean}}"
    return f"{cell.mean:{mean}} [{cell.low:{bound}}, {cell.high:{bound}}]"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of equal length as lines, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]


def settings_text(settings: Mapping[str, Any]) -> str:
    """A run's settings on one line."""
    return ", ".join(f"{name}={value!r}" for name, value in settings.items())


def heading(
    editor: str, model: str, counts: str, settings: Mapping[str, Any], chosen: Mapping[str, str]
) -> list[str]:
    """What stands above the tables of one editor: who, how many, how, and what was chosen."""
    return [
        f"{editor} on {model}",
        counts,
        settings_text(settings),
        *(f"chosen: {name} = {why}" for name, why in chosen.items()),
    ]
