"""Defer, a baseline of the GRACE paper after SERAC (Hartvigsen et al., NeurIPS 2023,
arXiv:2211.11031; Mitchell et al., ICML 2022, arXiv:2206.06520).

Idea. A learnt gate hands some prompts over to a learnt linear map:

    g = sigmoid(w . q + b)      q [d_in], the map's input at the prompt's last token
    z = A h + c                 h [d_in], its input at each token

In training the output is g z + (1 - g) y, with y [d_out] the map's own, afterwards z where g is at
least the threshold, and y to the bit where it is not.

Departures from the paper's code (Thartvigsen/GRACE): the gate is each row's own, where there one
row's is spread over the batch; the same tokens are replaced in training and afterwards, also in
passes that go on from a cache; the threshold is that of the field, where there the setting is not
read; the gate starts closed (w = 0, b = -1, so g = 0.27), where there it is random; training stops
when the facts are learnt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from memkit.editors.prompt_end import Row
from memkit.editors.prompt_end_trained import TrainedAdaptor, TrainedEditor, linear
from memkit.errors import BadInput

if TYPE_CHECKING:
    from memkit.lm.layouts import Site
    from memkit.lm.model import LM

__all__ = ["Defer", "DeferAdaptor"]

CLOSED = -1.0  # the gate's bias before training


@dataclass(frozen=True, kw_only=True)
class Defer(TrainedEditor):
    """A gate and a linear map over one map of a decoder, encoder-decoder or classifier.

    threshold: the gate's value, 0 to 1, from which on a prompt is handed over; at it, it is.

    The other fields, the report and what steps are: see `PromptEndEditor` and `TrainedEditor`.
    Raises `BadInput` for values that are not allowed.
    """

    threshold: float = 0.5

    def __post_init__(self) -> None:
        """Check the threshold."""
        super().__post_init__()
        if not 0 <= self.threshold <= 1:
            raise BadInput(f"threshold is {self.threshold!r}; allowed: 0 to 1. Choose one.")

    def adaptor(self, lm: LM) -> DeferAdaptor:
        """Gate and map, not yet there."""
        return DeferAdaptor(lm, self.site(lm), self.stack, self.threshold)


class DeferAdaptor(TrainedAdaptor):
    """The gate, and the map that takes over where it is open."""

    def __init__(self, lm: LM, site: Site, stack: str | None, threshold: float) -> None:
        super().__init__(lm, site, stack)
        self.threshold = threshold

    def initial(self, generator: torch.Generator) -> dict[str, Tensor]:
        """A closed gate, and a map that knows nothing."""
        d_out, d_in = self.site.weight.shape
        weight, bias = linear(generator, d_out, d_in)
        gate = {"gate.weight": torch.zeros(d_in), "gate.bias": torch.tensor([CLOSED])}
        return {**gate, "value.weight": weight, "value.bias": bias}

    def gates(self, queries: Tensor) -> Tensor:
        """The gate's value for each query [rows, d_in], [rows], in float32."""
        weight, bias = self.tensors["gate.weight"], self.tensors["gate.bias"]
        return torch.sigmoid(queries.to(weight) @ weight + bias)

    def decide(self, queries: Tensor) -> Row | None:
        """How much of each row is handed over, 0 to 1, [rows]."""
        if not self.tensors:
            return None
        share = self.gates(queries)
        if self.soft:
            return (share,)
        handed = share >= self.threshold
        return (handed.to(share),) if bool(handed.any()) else None

    def change(self, decided: Row, hidden: Tensor, output: Tensor, where: Tensor) -> Tensor:
        """The learnt map's output in place of the map's own, or a mixture of them in training."""
        (share,) = decided
        weight, bias = self.tensors["value.weight"], self.tensors["value.bias"]
        share = share[:, None, None]
        value = torch.nn.functional.linear(hidden.to(weight), weight, bias)
        if self.soft:
            value = share * value + (1 - share) * output.to(value)
        return torch.where(where[..., None] & (share > 0), value.to(output.dtype), output)
