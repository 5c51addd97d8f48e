"""What editing and retrieving cost over a stream of queries and updates, and where they break even.

Two roads for facts that change. On the road "edit" each fact is written into the weights and
queries about it are asked bare; on the road "retrieve" each fact goes into the index and queries
about it are asked with text. Of the other queries a router retrieves the same share r on both.
After N queries and F + uN facts, where u facts come with each query, a road has cost

    once + (F + uN) fact + N query

                edit                                         retrieve
    once        precompute                                   -
    fact        an edit                                      an update of the index
    query       p e + (1 - p) ((1 - r) e + r (t + e - b))    p t + (1 - p) ((1 - r) b + r t)

with p the share of queries about updated facts, b a bare query, e a bare query while edits are live
(an adaptor makes every pass dearer), t a query with text. The index's first build is on both roads,
if it is needed at all, and left out: add it to `update_*` or the price of your own.

The costs are linear in N, so they cross once at most:

    N = (edit - retrieve at N = 0) / (slope of retrieve - slope of edit)
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any, Literal

from memkit.errors import BadInput
from memkit.protocols.cells import aligned

__all__ = [
    "Amount",
    "BreakEven",
    "Mix",
    "Prices",
    "Query",
    "Rates",
    "RoadName",
    "break_even",
    "check_number",
    "predict",
]

RoadName = Literal["edit", "retrieve"]
POINTS = 200  # of a curve in a plot
ROUNDING = 1e-12  # roads whose slopes differ by less than this share are parallel


@dataclass(frozen=True, slots=True)
class Amount:
    """What was spent: seconds of wall time, tokens of prompts, bytes kept."""

    seconds: float = 0.0
    tokens: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        """Both together."""
        return Amount(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: float) -> Amount:
        """So many times as much."""
        return Amount(*(times * value for value in astuple(self)))


@dataclass(frozen=True, slots=True)
class Query:
    """What a query costs: tokens of its prompt, milliseconds until its answer.

    Raises `BadInput` for a negative number.
    """

    tokens: float
    milliseconds: float

    def __post_init__(self) -> None:
        """Check the numbers."""
        _check_numbers(self)

    @property
    def amount(self) -> Amount:
        """The same as an amount."""
        return Amount(self.milliseconds / 1000, self.tokens)


@dataclass(frozen=True, slots=True)
class Prices:
    """What things cost on one machine with one model: measured by `measure`, or given by hand.

    edit_seconds, edit_bytes: of writing one fact, and of keeping it.
    update_seconds, update_bytes: of making one passage searchable, and of keeping it.
    bare, retrieved: a query without and with text.
    edited: a bare query while edits are live; None is as `bare`.
    precompute_seconds, precompute_bytes: of the first edit beyond those of the others.

    Raises `BadInput` for a negative number.
    """

    edit_seconds: float
    edit_bytes: float
    update_seconds: float
    update_bytes: float
    bare: Query
    retrieved: Query
    edited: Query | None = None
    precompute_seconds: float = 0.0
    precompute_bytes: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        _check_numbers(self)

    def __str__(self) -> str:
        """One line a price."""
        queries = {"bare": self.bare, "edited": self.edited, "retrieved": self.retrieved}
        rows = [["", "seconds", "bytes", "tokens"]]
        for name in ("edit", "update", "precompute"):
            seconds, kept = (getattr(self, f"{name}_{unit}") for unit in ("seconds", "bytes"))
            rows.append([name, f"{seconds:.4g}", f"{kept:,.0f}", ""])
        for name, query in queries.items():
            if query is not None:
                shown = [f"{query.amount.seconds:.4g}", "", f"{query.tokens:.1f}"]
                rows.append([f"query, {name}", *shown])
        return "\n".join(aligned(rows))


@dataclass(frozen=True, slots=True)
class Mix:
    """Which queries come: the share about updated facts, and the share of others retrieved for.

    Raises `BadInput` for a share that is not in [0, 1].
    """

    updated: float
    retrieved: float = 0.0

    def __post_init__(self) -> None:
        """Check the shares."""
        for name in ("updated", "retrieved"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise BadInput(
                    f"Mix.{name} is {share!r}; allowed: 0 to 1, a share of queries. Divide by the "
                    "number of queries."
                )


@dataclass(frozen=True, slots=True)
class Rates:
    """What an amount is worth, in one unit of your choice; the default counts seconds alone.

    Raises `BadInput` for a negative number, or if all are 0.
    """

    second: float = 1.0
    token: float = 0.0
    byte: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        _check_numbers(self)
        if not any(astuple(self)):
            raise BadInput(
                "Rates are all 0; allowed: at least one above 0. Say what a second, a token or a "
                "byte is worth."
            )

    def of(self, amount: Amount) -> float:
        """What the amount is worth."""
        return self.second * amount.seconds + self.token * amount.tokens + self.byte * amount.bytes


@dataclass(frozen=True, slots=True)
class Road:
    """The three parts of a road's cost."""

    once: Amount
    fact: Amount
    query: Amount

    def after(self, queries: float, facts: float) -> Amount:
        """The cost after so many queries and facts."""
        return self.once + self.fact * facts + self.query * queries


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Where an edit becomes cheaper than retrieving.

    `queries` is the number of queries from which the road "edit" costs less: 0 where it does from
    the start, None where it never does. `until` is where it no longer does; None: never.
    """

    queries: float | None
    until: float | None
    prices: Prices
    mix: Mix
    facts: float
    update_rate: float
    rates: Rates

    def costs(self, queries: float) -> Mapping[RoadName, float]:
        """What each road has cost after so many queries, by the rates."""
        found = predict(
            self.prices, self.mix, queries, facts=self.facts, update_rate=self.update_rate
        )
        return {road: self.rates.of(amount) for road, amount in found.items()}

    def __str__(self) -> str:
        """The finding in a sentence, and the prices."""
        mix = (
            f"{self.mix.updated:.0%} of queries about updated facts, {self.mix.retrieved:.0%} of "
            f"the others retrieved for; {self.facts:g} facts, then {self.update_rate:g} a query"
        )
        found = "an edit is never cheaper than retrieving"
        if self.queries is not None:
            found = f"an edit is cheaper from {self.queries:,.1f} queries on"
            if self.until is not None:
                found = f"an edit is cheaper up to {self.until:,.1f} queries"
        return "\n".join([found, mix, "", str(self.prices)])

    def plot(self, path: str | os.PathLike[str], queries: float | None = None) -> None:
        """Write a picture (PNG or SVG, by the name) of both roads' costs up to so many queries.

        None is twice the point where they cross, or 100 where they do not.
        """
        from matplotlib.figure import Figure

        crossing = self.until if self.until is not None else self.queries
        last = queries or 2 * (crossing or 50)
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes: Any = figure.subplots()
        at = [last * n / POINTS for n in range(POINTS + 1)]
        curves = [self.costs(n) for n in at]
        for road in ("edit", "retrieve"):
            axes.plot(at, [cost[road] for cost in curves], label=road)
        if crossing and crossing <= last:
            axes.axvline(crossing, color="#888888", linestyle=":", linewidth=1)
            axes.annotate(f"{crossing:,.0f}", (crossing, 0), (3, 3), textcoords="offset points")
        seconds = self.rates == Rates()
        axes.set(xlabel="queries", ylabel="seconds" if seconds else "cost", xlim=(0, last))
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        figure.savefig(path, dpi=160)


def predict(
    prices: Prices, mix: Mix, queries: float, *, facts: float = 1, update_rate: float = 0.0
) -> Mapping[RoadName, Amount]:
    """What each road will have cost after so many queries.

    `facts` come before the first query, `update_rate` with each query.

    Raises `BadInput` for a negative number.
    """
    for name, value in {"queries": queries, "facts": facts, "update_rate": update_rate}.items():
        check_number(name, value)
    come = facts + update_rate * queries
    return {name: road.after(queries, come) for name, road in _roads(prices, mix).items()}


def break_even(
    prices: Prices,
    mix: Mix,
    *,
    facts: float = 1,
    update_rate: float = 0.0,
    rates: Rates | None = None,
) -> BreakEven:
    """The number of queries at which an edit is cheaper than retrieving, as the module says.

    `facts` come before the first query, `update_rate` with each query; `rates` None counts seconds.

    Raises `BadInput` for a negative number.
    """
    rates = rates or Rates()
    for name, value in {"facts": facts, "update_rate": update_rate}.items():
        check_number(name, value)
    start, slope = {}, {}
    for name, road in _roads(prices, mix).items():
        start[name] = rates.of(road.after(0, facts))
        slope[name] = rates.of(road.after(1, update_rate) + road.once * -1)
    behind, gain = (way["edit"] - way["retrieve"] for way in (start, slope))
    gain = -gain if abs(gain) > ROUNDING * slope["edit"] else 0.0
    queries, until = None, None
    if gain > 0:
        queries = max(0.0, behind / gain)
    elif behind < 0:
        queries, until = 0.0, (behind / gain if gain < 0 else None)
    return BreakEven(queries, until, prices, mix, facts, update_rate, rates)


def _roads(prices: Prices, mix: Mix) -> Mapping[RoadName, Road]:
    bare, text = prices.bare.amount, prices.retrieved.amount
    edited = bare if prices.edited is None else prices.edited.amount
    slower = Amount(edited.seconds - bare.seconds)
    p, r = mix.updated, mix.retrieved
    return {
        "edit": Road(
            Amount(prices.precompute_seconds, 0, prices.precompute_bytes),
            Amount(prices.edit_seconds, 0, prices.edit_bytes),
            edited * p + (edited * (1 - r) + (text + slower) * r) * (1 - p),
        ),
        "retrieve": Road(
            Amount(),
            Amount(prices.update_seconds, 0, prices.update_bytes),
            text * p + (bare * (1 - r) + text * r) * (1 - p),
        ),
    }


def _check_numbers(values: Any) -> None:
    """Raise `BadInput` unless all numbers of a dataclass are finite and at least 0."""
    for each in fields(values):
        value = getattr(values, each.name)
        if value is not None and not isinstance(value, Query):
            check_number(f"{type(values).__name__}.{each.name}", value)


def check_number(name: str, value: float) -> None:
    """Raise `BadInput` unless the number is finite and at least 0."""
    if not (math.isfinite(value) and value >= 0):
        raise BadInput(
            f"{name} is {value!r}; allowed: a finite number of at least 0. Measure it again, or "
            "correct it."
        )
