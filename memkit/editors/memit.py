"""MEMIT (Meng, Sharma, Andonian, Belinkov and Bau, ICLR 2023, arXiv:2210.07229).

Many facts at once by regularised least squares, spread over several layers, so that the residual
stream after the last of them reaches its target; the algorithm stands in `memkit.editors.spread`,
with A_0 = weight * C, C the second moment of each layer's keys divided by their number.

Departures from the published code: later steps of a handle keep the keys of earlier ones in the
solve (`history`; the code forgets them, and with them the facts); contexts and moments are the
handle's; the stream's target is scored by the model's real logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from torch import Tensor

from memkit.editors.base import Draft, Editor, Made
from memkit.editors.choice import choose
from memkit.editors.contexts import memit_contexts
from memkit.editors.moments import Moments
from memkit.editors.reading import moments
from memkit.editors.rome import check_contexts, objective
from memkit.editors.spread import Inverse, spread
from memkit.editors.statistics import Statistics
from memkit.errors import BadInput
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["MEMIT"]


@dataclass(frozen=True, kw_only=True)
class MEMIT(Editor):
    """Write a batch of facts into the MLP down-projections of several layers.

    layers: ascending, counted from 0. None: of the known model's preset, else those that end at the
        best layer of a sweep on the first facts.
    weight: lambda, how much the keys of C count beside those of the facts. None: of the preset,
        else a tenth of d_in: k^T C^-1 k is about d_in, and a fact reaches
        k^T C^-1 k / (lambda + k^T C^-1 k) of its residual.
    history: keep the keys of this handle's earlier steps in the solve.
    steps, lr, clamp, decay, drift, stop: of the search for the targets, as `memkit.editors.values`
        says; the first four are those of the known model's preset where they are None.
    contexts: templates with one "{}", the first one "{}" itself, whose key counts half. None:
        MEMIT's own 6, sampled from the model.
    statistics: how C is estimated.
    """

    layers: tuple[int, ...] | None = None
    weight: float | None = None
    history: bool = True
    steps: int | None = None
    lr: float | None = None
    clamp: float | None = None
    decay: float | None = None
    drift: float = 0.0625
    stop: float = 0.05
    contexts: tuple[str, ...] | None = None
    statistics: Statistics = Statistics()

    def __post_init__(self) -> None:
        """Check layers, weight and contexts."""
        super().__post_init__()
        check_layers(self.layers)
        if self.weight is not None and not self.weight > 0:
            raise BadInput(
                f"weight is {self.weight!r}; allowed: a number above 0, or None. For the equality "
                "solution take a small one, such as 1e-9."
            )
        check_contexts(self.contexts)

    def fitted(self, lm: LM, facts: Sequence[Fact]) -> tuple[Self, dict[str, str]]:
        """Layers and settings chosen for the model."""
        width = lm.layout.site(lm.model, 0).weight.shape[1]
        return choose(self, lm, facts, "memit", weight=width / 10)

    def write(self, draft: Draft) -> Made:
        """Write the draft's facts, all at once."""
        assert self.layers is not None
        assert self.weight is not None
        lm, weight = draft.lm, self.weight
        sites = [lm.layout.site(lm.model, layer) for layer in self.layers]
        contexts = self.contexts or draft.once("contexts", lambda: memit_contexts(lm, self.seed))

        def inverse(second: Moments) -> Inverse:
            def apply(keys: Tensor) -> Tensor:
                return second.solve(keys) / weight

            return apply

        inverses = [inverse(second) for second in moments(draft, self.statistics, sites)]
        return spread(
            draft, sites, self.layers, contexts, objective(self), inverses, history=self.history
        )


def check_layers(layers: tuple[int, ...] | None) -> None:
    """Raise `BadInput` unless the layers are None, or some, each above the one before."""
    if layers is None:
        return
    numbers = isinstance(layers, tuple) and all(isinstance(layer, int) for layer in layers)
    if not numbers or not layers or list(layers) != sorted(set(layers)):
        raise BadInput(
            f"layers is {layers!r}; allowed: a tuple of at least one, in ascending order, or "
            "None. Name them."
        )
