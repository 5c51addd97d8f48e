"""Break-even of editing and retrieving: prices measured, what follows, and a stream to check it by.

`measure` finds what an edit, an update of the index and a query cost, or `Prices` are given by
hand; `break_even` and `predict` say what follows for a mix of queries (the formulas are in
`memkit.protocols.cost_formulas`); `run` lives through the stream on both roads, and measures it.
"""

from __future__ import annotations

from memkit.protocols.cost_formulas import (
    Amount,
    BreakEven,
    Mix,
    Prices,
    Query,
    Rates,
    break_even,
    predict,
)
from memkit.protocols.cost_measured import measure
from memkit.protocols.cost_stream import Lived, run

__all__ = [
    "Amount",
    "BreakEven",
    "Lived",
    "Mix",
    "Prices",
    "Query",
    "Rates",
    "break_even",
    "measure",
    "predict",
    "run",
]
