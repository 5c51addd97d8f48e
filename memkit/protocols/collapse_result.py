"""What the collapse protocol looks at and found: vital signs, bounds, the trace of a stream."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memkit.errors import BadInput
from memkit.protocols.cells import aligned
from memkit.types import Fact

__all__ = ["Alarm", "CollapseResult", "Looked", "Vitals"]


@dataclass(frozen=True, slots=True)
class Vitals:
    """A model's vital signs.

    `perplexity` is that of the watched texts. `norms` and `conditions` are, by the name of each
    edited tensor, the ratios to the model without the edit. `canaries` is the share right of the
    canaries that were known before; None without any.
    """

    perplexity: float
    norms: Mapping[str, float]
    conditions: Mapping[str, float]
    canaries: float | None

    def worst(self, name: str) -> float | None:
        """The largest of "norms" or "conditions"; infinity if one is no number; None: no tensor."""
        values: Mapping[str, float] = getattr(self, name)
        if not values:
            return None
        return max(math.inf if math.isnan(value) else value for value in values.values())


@dataclass(frozen=True, slots=True)
class Alarm:
    """Bounds beyond which the alarm rings; infinity (for canaries 0) switches one off.

    perplexity: of the watched texts, relative to that without the edit.
    norm, condition: of an edited tensor, relative to that without the edit.
    canaries: least share right.

    The defaults are memkit's own choice, for streams that should keep a model of use; they are no
    published figures. Raises `BadInput` for a value that is not allowed.
    """

    perplexity: float = 5.0
    norm: float = 4.0
    condition: float = 100.0
    canaries: float = 0.5

    def __post_init__(self) -> None:
        """Check the bounds."""
        for name in ("perplexity", "norm", "condition", "canaries"):
            bound = getattr(self, name)
            if not bound >= 0 or (name == "canaries" and bound > 1):
                allowed = "0 to 1" if name == "canaries" else "a number of at least 0, or infinity"
                raise BadInput(f"Alarm.{name} is {bound!r}; allowed: {allowed}. Choose one.")

    def rings(self, vitals: Vitals, base: Vitals) -> tuple[str, ...]:
        """What is beyond its bound, in words; nothing if the model is healthy."""
        found = []
        rise = vitals.perplexity / base.perplexity
        if not rise <= self.perplexity:
            found.append(
                f"perplexity {vitals.perplexity:.4g} is {rise:.3g} times that without the edit, "
                f"allowed: {self.perplexity:g}"
            )
        for name, bound in (("norm", self.norm), ("condition", self.condition)):
            for tensor, ratio in getattr(vitals, f"{name}s").items():
                if not (ratio <= bound or math.isinf(bound)):
                    found.append(
                        f"the {name} of {tensor} is {ratio:.3g} times that without the edit, "
                        f"allowed: {bound:g}"
                    )
        if vitals.canaries is not None and vitals.canaries < self.canaries:
            found.append(
                f"{vitals.canaries:.0%} of the canaries are right, allowed: {self.canaries:.0%}"
            )
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Looked:
    """One fact of the stream, and the model after it.

    `vitals` are those right after the edit, before it was undone if it was; None where a guard of
    the editor had refused it, with its message in `rejected`. `alarms` say what rang, `kept`
    whether the edit is still there when the next one comes. `edit_seconds` are the edit's (None if
    it was undone or refused), `seconds` those of looking.
    """

    place: int
    fact: Fact
    vitals: Vitals | None
    alarms: tuple[str, ...] = ()
    rejected: str | None = None
    kept: bool = True
    edit_seconds: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class CollapseResult:
    """What `memkit.protocols.collapse` found.

    `base` is the model without the edit, `trace` has a row for each fact that came, `left` is how
    many did not since the stream stopped. `canaries` is how many of them the model knew.
    """

    model: str
    editor: str
    alarm: Alarm
    on_alarm: str
    canaries: int
    base: Vitals
    trace: tuple[Looked, ...]
    left: int

    @property
    def rang(self) -> tuple[Looked, ...]:
        """The edits at which the alarm rang."""
        return tuple(row for row in self.trace if row.alarms)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """One row a fact; figures are ratios to the model without the edit."""
        kept = sum(row.kept for row in self.trace)
        lines = [
            f"{self.editor} on {self.model}",
            f"{len(self.trace)} facts came, {kept} edits kept, {len(self.rang)} alarms; on an "
            f"alarm: {self.on_alarm}; {self.left} facts not tried",
            f"perplexity without the edit {self.base.perplexity:.4g}; {self.canaries} canaries",
            f"bounds: {self.alarm}",
            "",
        ]
        rows = [["", "perplexity", "norm", "condition", "canaries", "s to look", "", "fact"]]
        for row in self.trace:
            state = "refused by a guard" if row.rejected else "ALARM" if row.alarms else ""
            state += ", undone" if row.alarms and not row.kept else ""
            fact = f"{row.fact.text} -> {row.fact.target}"
            rows.append([str(row.place + 1), *self._figures(row), state, fact[:60]])
        lines += aligned(rows)
        lines += [f"edit {row.place + 1}: {alarm}" for row in self.rang for alarm in row.alarms]
        return "\n".join(lines)

    def _figures(self, row: Looked) -> list[str]:
        if row.vitals is None:
            return [""] * 5
        vitals = row.vitals
        rise = vitals.perplexity / self.base.perplexity
        figures = (rise, vitals.worst("norms"), vitals.worst("conditions"), vitals.canaries)
        return [*("" if x is None else f"{x:.3g}" for x in figures), f"{row.seconds:.2f}"]

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Write a picture (PNG or SVG, by the name) of the vital signs over the stream."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes: Any = figure.subplots()
        seen = [(row.place + 1, row.vitals) for row in self.trace if row.vitals is not None]
        lines: Mapping[str, list[float | None]] = {
            "perplexity": [v.perplexity / self.base.perplexity for _, v in seen],
            "norm": [v.worst("norms") for _, v in seen],
            "condition": [v.worst("conditions") for _, v in seen],
        }
        for label, values in lines.items():
            shown = [
                (place, value)
                for (place, _), value in zip(seen, values, strict=True)
                if value is not None and math.isfinite(value)
            ]
            if shown:
                at, ratios = ([point[i] for point in shown] for i in (0, 1))
                axes.plot(at, ratios, marker="o", markersize=3, label=label)
        for row in self.rang:
            axes.axvline(row.place + 1, color="#d1495b", alpha=0.35, linewidth=3)
        axes.axhline(self.alarm.perplexity, color="#888888", linestyle=":", linewidth=1)
        axes.set_yscale("log")
        axes.set(xlabel="edits", ylabel="ratio to the model without the edit")
        axes.spines[["top", "right"]].set_visible(False)
        if seen:
            axes.legend(frameon=False)
        figure.savefig(path, dpi=160)
