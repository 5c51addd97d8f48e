"""The tensors that a handle has changed: their first bytes, what is in them, and the way back.

A weight is always written as saved bytes plus everything that the steps added, rounded once, so
that a step taken back leaves exactly the bytes that were there before it.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from memkit.editors.interrupts import ending_with, uninterrupted
from memkit.editors.steps import Change, Dense, LowRank, Step

__all__ = ["Touched", "Weights"]

MANY = 2**18  # bytes of left factors beyond which their sum is kept


@dataclass(slots=True)
class Touched:
    """A tensor that the handle has changed, with its bytes from before the first step.

    `turned` says that low-rank changes are meant for its transpose, as Conv1D stores weights.
    """

    parameter: nn.Parameter
    turned: bool
    saved: Tensor

    def view(self, stored: Tensor) -> Tensor:
        """A tensor as it is stored seen as [d_out, d_in], where there are low-rank changes."""
        return stored.T if self.turned else stored

    def restore(self) -> None:
        """Put the saved bytes back."""
        with torch.no_grad():
            self.parameter.copy_(self.saved)


class Weights:
    """The touched tensors of one handle, by name."""

    def __init__(self) -> None:
        self.touched: dict[str, Touched] = {}
        self._sums: dict[str, tuple[tuple[Step, ...], Tensor]] = {}  # of the steps, by tensor

    def touch(self, name: str, parameter: nn.Parameter, *, turned: bool = False) -> None:
        """Save a tensor's bytes before its first change."""
        if name not in self.touched:
            self.touched[name] = Touched(parameter, turned, parameter.detach().clone())
        self.touched[name].turned |= turned

    def value(self, name: str, steps: Sequence[Step], more: Sequence[Change] = ()) -> Tensor:
        """A touched tensor's view after all steps and `more`, one after the other, not rounded."""
        value = self._sum(name, steps)
        for change in more:
            value = self._with(name, value, change)
        return value

    def rewrite(self, name: str, steps: Sequence[Step], more: Sequence[Change] = ()) -> None:
        """Write a touched tensor as saved bytes plus all changes, rounded once."""
        touched = self.touched[name]
        touched.view(touched.parameter.detach()).copy_(self.value(name, steps, more))

    def restore(self, steps: Sequence[Step]) -> None:
        """Write every touched tensor as the steps want it; untouched by any: the saved bytes."""
        changed = {name for step in steps for name in step.changes}
        with torch.no_grad():
            for name, tensor in self.touched.items():
                if name in changed:
                    self.rewrite(name, steps)
                else:
                    tensor.restore()
        self.touched = {name: self.touched[name] for name in self.touched if name in changed}
        self._sums = {name: self._sums[name] for name in self._sums if name in changed}

    @contextlib.contextmanager
    def set_aside(self) -> Iterator[None]:
        """The saved bytes within the block, and what is there now after it."""
        now = {name: t.parameter.detach().clone() for name, t in self.touched.items()}

        @torch.no_grad()
        def back() -> None:
            for name, tensor in self.touched.items():
                tensor.parameter.copy_(now[name])

        with ending_with(back):
            with uninterrupted():
                for tensor in self.touched.values():
                    tensor.restore()
            yield

    def _sum(self, name: str, steps: Sequence[Step]) -> Tensor:
        """The view after all steps; kept for the next call where many factors are in it."""
        done, value = self._sums.get(name, ((), None))
        if value is None or any(map(operator.is_not, done, steps[: len(done)])):
            done, value = (), self._with(name, None, Dense(self.touched[name].saved))
        rows = [change for step in steps for change in step.changes.get(name, ())]
        for step in steps[len(done) :]:
            for change in step.changes.get(name, ()):
                value = self._with(name, value, change)
        if sum(change.left.nbytes for change in rows if isinstance(change, LowRank)) > MANY:
            self._sums[name] = (tuple(steps), value)
        return value

    def _with(self, name: str, value: Tensor | None, change: Change) -> Tensor:
        """A view in float64 (float32 on MPS) with one more change."""
        touched = self.touched[name]
        exact = torch.float32 if touched.saved.device.type == "mps" else torch.float64
        if isinstance(change, LowRank):
            assert value is not None
            return value + change.left.to(exact) @ change.right.to(exact).T
        if change.after is None:
            assert value is not None
            return value
        return touched.view(change.after).to(exact)
