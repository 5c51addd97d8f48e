"""What an edit is made of: its steps, and what each of them changed.

These values hold no model: a step says what was added to which tensor, so that weights can be
computed from saved bytes and steps alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from memkit.types import EditReport, Fact

__all__ = [
    "Change",
    "Dense",
    "LowRank",
    "Made",
    "Step",
    "forget_states",
    "forget_weights",
    "is_lost",
    "joined",
    "moved",
    "stored_bytes",
]

KEPT_BYTES = 2**31  # of dense weights that are kept for `undo`; the oldest go first


@dataclass(frozen=True, slots=True)
class LowRank:
    """An addition to a weight [d_out, d_in]: left [d_out, r] times right [d_in, r] transposed."""

    left: Tensor
    right: Tensor

    def norm(self) -> float:
        """Frobenius norm, without making the matrix."""
        left, right = self.left.double(), self.right.double()
        return float(((left.T @ left) * (right.T @ right)).sum().clamp(min=0).sqrt())


@dataclass(frozen=True, slots=True)
class Dense:
    """A weight as a step left it, as stored; None once it was dropped to save memory."""

    after: Tensor | None


Change = LowRank | Dense


@dataclass(frozen=True, slots=True)
class Made:
    """What a method says of a step, beside what it wrote.

    `details` has one mapping a fact; `warnings` are what the method's own guards found; `chosen`
    says what was chosen for this model and why; `state` are tensors that later steps of the same
    handle build on (keys of past edits).
    """

    details: Sequence[Mapping[str, float]] = ()
    warnings: Sequence[str] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One `apply` or `add`: its facts, its changes by parameter, its part of the report."""

    facts: tuple[Fact, ...]
    changes: Mapping[str, tuple[Change, ...]]
    state: Mapping[str, Tensor]
    report: EditReport


def joined(editor: str, reports: Sequence[EditReport]) -> EditReport:
    """The reports of several steps as one."""
    return EditReport(
        editor=editor,
        facts=tuple(row for report in reports for row in report.facts),
        chosen={name: why for report in reports for name, why in report.chosen.items()},
        parameters=tuple(dict.fromkeys(name for report in reports for name in report.parameters)),
        warnings=tuple(dict.fromkeys(warning for report in reports for warning in report.warnings)),
        seconds=sum(report.seconds for report in reports),
        peak_bytes=max((report.peak_bytes for report in reports), default=0),
        stored_bytes=sum(report.stored_bytes for report in reports),
    )


def moved(step: Step, device: torch.device) -> Step:
    """A step with its tensors on a device."""

    def move(change: Change) -> Change:
        if isinstance(change, LowRank):
            return LowRank(change.left.to(device), change.right.to(device))
        return Dense(None if change.after is None else change.after.to(device))

    changes = {name: tuple(map(move, row)) for name, row in step.changes.items()}
    return replace(step, changes=changes)


def forget_weights(steps: Sequence[Step]) -> list[Step]:
    """The steps without the oldest dense weights beyond the bound; a tensor's newest stay."""
    done = list(steps)
    kept = sum(_dense_bytes(c) for step in done for row in step.changes.values() for c in row)
    for place, step in enumerate(done[:-1]):
        if kept <= KEPT_BYTES:
            break
        newer = {name for later in done[place + 1 :] for name in later.changes}
        changes = dict(step.changes)
        for name in newer & set(changes):
            kept -= sum(map(_dense_bytes, changes[name]))
            changes[name] = tuple(_dropped(change) for change in changes[name])
        done[place] = replace(step, changes=changes)
    return done


def forget_states(steps: Sequence[Step]) -> list[Step]:
    """The steps without the oldest states beyond the bound, where the newest one is enough."""
    done = list(steps)
    kept = 0
    for place, step in reversed(list(enumerate(done))):
        kept += sum(tensor.nbytes for tensor in step.state.values())
        if kept > KEPT_BYTES and place < len(done) - 1:
            done[place] = replace(step, state={})
    return done


def is_lost(steps: Sequence[Step]) -> bool:
    """Whether the newest dense weight of some tensor was dropped."""
    newest: dict[str, Dense] = {}
    for step in steps:
        for name, row in step.changes.items():
            for change in row:
                if isinstance(change, Dense):
                    newest[name] = change
    return any(change.after is None for change in newest.values())


def stored_bytes(change: Change) -> int:
    """Bytes of the tensors that a change keeps."""
    if isinstance(change, LowRank):
        return change.left.nbytes + change.right.nbytes
    return _dense_bytes(change)


def _dense_bytes(change: Change) -> int:
    return change.after.nbytes if isinstance(change, Dense) and change.after is not None else 0


def _dropped(change: Change) -> Change:
    return Dense(None) if isinstance(change, Dense) else change
