"""Arithmetic with adapters: Ext-Sub, plain subtraction and weighted sums.

Ext-Sub (Hu et al., AAAI 2024, arXiv:2308.08090) takes out of an expert what is wrong in an
anti-expert, and keeps what the two share: the general ability that both learnt. On matching rows
v+ and v- of the effective updates, each row in R^d_in:

    v_o    = v+/|v+| + v-/|v-|                 the direction that they share
    Ext(v-) = v- - ((v- . v_o) / |v_o|^2) v_o  what is the anti-expert's own
    theta'  = v+ - strength Ext(v-)

With unit rows u the projection has a closed form for every angle, Ext(v-) = |v-|/2 (u- - u+), so

    theta' = (1 + strength |v-| / (2 |v+|)) v+  -  (strength / 2) v-

which scales rows and adds: the result is a low-rank change, exactly, of rank r+ + r- at most.

Departures from the paper's code (HITsz-TMG/Ext-Sub):
- opposite rows, where v_o vanishes: Ext = v-, the closed form's value (there NaN);
- a zero row of the anti-expert: Ext = 0; one of the expert: the row stays zero (there NaN). The
  report counts both;
- each update with its own alpha / rank (there the expert's for both), float32 to the end;
- maps of any shape (there square ones of one size: the result was written as A = I, B = W).

Task negation is v+ - strength v- (Ilharco et al., ICLR 2023, arXiv:2212.04089; the paper's plain
subtraction).
"""

from __future__ import annotations

import abc
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from memkit.editors.adapter import Adapter
from memkit.editors.adapter_sources import Source, adapter_of
from memkit.editors.erasing import REVEALS
from memkit.editors.factors import row_norms, scaled_rows, summed
from memkit.editors.steps import LowRank
from memkit.errors import BadInput, FingerprintMismatch
from memkit.lm.checks import check_count

if TYPE_CHECKING:
    from memkit.editors.base import Edit
    from memkit.lm.model import LM

__all__ = ["ExtSub", "Merge", "TaskNegation", "extracted"]


@dataclass(frozen=True, slots=True)
class _Combination(abc.ABC):
    """What all combinations can do, once they can be computed."""

    @abc.abstractmethod
    def combined(self) -> Adapter:
        """The combination as one adapter."""

    def apply(self, lm: LM, **options: Any) -> Edit:
        """Put the combination on a model; options and errors are those of `Adapter.apply`."""
        return self.combined().apply(lm, **options)


@dataclass(frozen=True, slots=True)
class ExtSub(_Combination):
    """The expert without what is the anti-expert's own, see above.

    expert, anti_expert: each an `Adapter`, an edit, or the path or Hub id of a PEFT adapter or of a
        saved edit. They must change the same linear maps of one base model; ranks may differ.
    strength: how much of it is taken out; 1 in the paper, which also tries 2. 0 is the expert.
    rank: cut the result to this rank, by singular values; None keeps it exact. The error is noted.

    Raises `BadInput` if they do not go together or the strength is no number.
    """

    expert: Source
    anti_expert: Source
    strength: float = 1.0
    rank: int | None = None

    def __post_init__(self) -> None:
        """Check strength and rank."""
        _check([self.strength], "strength", self.rank)

    def combined(self) -> Adapter:
        """The combination as one adapter; `notes` count the zero rows."""
        expert, anti = _matching([self.expert, self.anti_expert])
        strength = self.strength
        changes, zero, empty, rows = {}, 0, 0, 0
        for name, plus in expert.changes.items():
            minus = anti.changes[name]
            plus_norms, minus_norms = row_norms(plus), row_norms(minus)
            zero += int((plus_norms == 0).sum())
            empty += int((minus_norms == 0).sum())
            rows += len(plus_norms)
            if strength == 0:
                changes[name] = plus
                continue
            own, other = _row_scales(plus_norms, minus_norms)
            changes[name] = summed(
                [scaled_rows(plus, 1 - strength * own), scaled_rows(minus, -strength * other)]
            )
        source = f"ExtSub({expert.source} | {anti.source}, strength={strength:g})"
        notes = {
            "zero rows": f"{zero} of {rows} of the expert, which stay zero; {empty} of the "
            "anti-expert, where nothing is taken out"
        }
        return _finished(expert, changes, source, self.rank, notes, erases=True)


@dataclass(frozen=True, slots=True)
class TaskNegation(_Combination):
    """The expert minus `strength` times the anti-expert: plain subtraction.

    The fields and errors are those of `ExtSub`. An expert of None leaves the base model minus the
    anti-expert, as Ilharco et al. do.
    """

    expert: Source | None
    anti_expert: Source
    strength: float = 1.0
    rank: int | None = None

    def __post_init__(self) -> None:
        """Check strength and rank."""
        _check([self.strength], "strength", self.rank)

    def combined(self) -> Adapter:
        """The combination as one adapter."""
        if self.expert is None:
            parts, weights = _matching([self.anti_expert]), (-self.strength,)
        else:
            parts = _matching([self.expert, self.anti_expert])
            weights = (1.0, -self.strength)  # type: ignore[assignment]
        names = " | ".join(part.source for part in parts)
        source = f"TaskNegation({names}, strength={self.strength:g})"
        return _finished(parts[0], _weighted(parts, weights), source, self.rank, {}, erases=True)


@dataclass(frozen=True, slots=True)
class Merge(_Combination):
    """The weighted sum of adapters.

    parts: as the expert of `ExtSub`, at least one. weights: as many numbers; None is their mean.
    rank: as in `ExtSub`.
    """

    parts: Sequence[Source]
    weights: Sequence[float] | None = None
    rank: int | None = None

    def __post_init__(self) -> None:
        """Check that there are as many weights as parts, and that they are numbers."""
        if isinstance(self.parts, str | os.PathLike | Adapter) or not self.parts:
            raise BadInput(
                f"parts is {self.parts!r:.80}; allowed: a list of at least one adapter. Put one "
                "into brackets."
            )
        if self.weights is not None and len(self.weights) != len(self.parts):
            raise BadInput(
                f"weights are {len(self.weights)} numbers for {len(self.parts)} adapters; allowed: "
                "as many, or None for their mean."
            )
        _check(self.weights or (), "a weight", self.rank)

    def combined(self) -> Adapter:
        """The combination as one adapter."""
        parts = _matching(self.parts)
        weights = self.weights or [1 / len(parts)] * len(parts)
        terms = ", ".join(f"{w:g} {part.source}" for w, part in zip(weights, parts, strict=True))
        changes = _weighted(parts, weights)
        return _finished(
            parts[0], changes, f"Merge({terms})", self.rank, {}, erases=min(weights) < 0
        )


def extracted(expert: LowRank, anti_expert: LowRank) -> LowRank:
    """Ext(v-) of matching rows: what is the anti-expert's own."""
    own, other = _row_scales(row_norms(expert), row_norms(anti_expert))
    return summed([scaled_rows(expert, own), scaled_rows(anti_expert, other)])


def _row_scales(plus: torch.Tensor, minus: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """With which Ext(v-) is a sum of the rows v+ and v-, from their norms [d_out]."""
    both = (plus > 0) & (minus > 0)
    own = torch.where(both, -minus / (2 * torch.where(both, plus, 1.0)), 0.0)
    return own, torch.where(both, 0.5, 0.0)


def _weighted(parts: Sequence[Adapter], weights: Sequence[float]) -> dict[str, LowRank]:
    """The weighted sum; a part of weight 1 keeps its factors, one of weight 0 is left out."""
    kept = [(part, w) for part, w in zip(parts, weights, strict=True) if w != 0]
    kept = kept or [(parts[0], 0.0)]
    return {
        name: summed(
            [p.changes[name] if w == 1 else scaled_rows(p.changes[name], w) for p, w in kept]
        )
        for name in parts[0].changes
    }


def _finished(
    first: Adapter,
    changes: dict[str, LowRank],
    source: str,
    rank: int | None,
    notes: dict[str, str],
    *,
    erases: bool,
) -> Adapter:
    """The adapter of these changes, cut to a rank if one is wanted."""
    made = replace(
        first, changes=changes, source=source, notes=notes, warnings=(REVEALS,) if erases else ()
    )
    if rank is None:
        return made
    made, errors = made.truncated(rank)
    worst = max(errors, key=lambda name: errors[name])
    said = f"{rank}, with an error of up to {errors[worst]:.3g} of the norm (in {worst})"
    return replace(made, notes={**notes, "rank": said})


def _matching(sources: Sequence[Source]) -> list[Adapter]:
    """The adapters, if they change the same maps of one base model."""
    first, *others = adapters = [adapter_of(source) for source in sources]
    for other in others:
        pair = f"{first.source!r:.80} and {other.source!r:.80}"
        hashed = first.fingerprint.keys() & other.fingerprint.keys()
        if not hashed and first.base and other.base and first.base != other.base:
            raise BadInput(
                f"{pair} are adapters of {first.base!r} and {other.base!r}; allowed: one base "
                "model. If it is one under two names, say so: dataclasses.replace(adapter, "
                "base=...)."
            )
        for name in sorted(hashed):
            if first.fingerprint[name] != other.fingerprint[name]:
                raise FingerprintMismatch(
                    f"{pair} were made on models whose {name} has fingerprints "
                    f"{first.fingerprint[name]} and {other.fingerprint[name]}; allowed: one base "
                    "model. Make them on the same one."
                )
        if odd := sorted(first.changes.keys() ^ other.changes.keys()):
            raise BadInput(
                f"{pair} change different maps: {len(odd)} are in one alone, {odd[0]!r} first; "
                "allowed: the same target modules. Train both with the same targets."
            )
        for name, shape in first.shapes.items():
            if other.shapes[name] != shape:
                raise BadInput(
                    f"{pair} change {name!r} in shapes {shape} and {other.shapes[name]} (d_out, "
                    "d_in); allowed: one shape. They belong to different base models."
                )
    known = next((one.fingerprint for one in adapters if one.fingerprint), {})
    return [replace(first, fingerprint=known, base=first.base or _base(others)), *others]


def _base(adapters: Sequence[Adapter]) -> str:
    return next((one.base for one in adapters if one.base), "")


def _check(numbers: Sequence[float], name: str, rank: int | None) -> None:
    """Raise `BadInput` unless the numbers are finite, and the rank is None or a count."""
    for value in numbers:
        known = isinstance(value, int | float) and not isinstance(value, bool)
        if not known or not math.isfinite(value):
            raise BadInput(f"{name} is {value!r}; allowed: a finite number. Choose one.")
    if rank is not None:
        check_count("rank", rank)
