"""Comparisons that can be trusted: one specification, every memory, the same rows.

    memkit.compare.run("spec.toml", out="runs/x")

A specification (`memkit.compare.spec`) becomes a grid of cells, each cell records (`.records`), and
records become statistics, tables and a report. A run can be killed at any moment and goes on where
it was; a second run does only what changed or failed.
"""

from memkit.compare.cards import EvalCard, cards
from memkit.compare.grid import Cell, Grid, grid
from memkit.compare.papers import Paper, Published, read_paper
from memkit.compare.results import Outcome, Results, results
from memkit.compare.run import run
from memkit.compare.spec import Spec, read_spec

__all__ = [
    "Cell",
    "EvalCard",
    "Grid",
    "Outcome",
    "Paper",
    "Published",
    "Results",
    "Spec",
    "cards",
    "grid",
    "read_paper",
    "read_spec",
    "results",
    "run",
]
