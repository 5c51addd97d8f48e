"""Memory, a baseline of the GRACE paper (Hartvigsen et al., NeurIPS 2023, arXiv:2211.11031).

Idea. Soft attention over a fixed number m of learnt values stands in for a map of the model:

    out = V^T softmax(A q + a)      A [m, d_in], a [m], V [m, d_out]

with q [d_in] the map's input at the prompt's last token; out is put at every token of the row. It
does so for every prompt, edited or not: what the map knew is gone with the first edit. It is the
lower bound of the comparison, and nothing to use.

Departures from the paper's code (Thartvigsen/GRACE): each row has its own q, where there one row's
is spread over the batch; passes that go on from a cache keep their rows' output; training stops
when the facts are learnt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from memkit.editors.guards import Guards
from memkit.editors.prompt_end import Row
from memkit.editors.prompt_end_trained import TrainedAdaptor, TrainedEditor, linear
from memkit.lm.checks import check_count

if TYPE_CHECKING:
    from memkit.lm.layouts import Site
    from memkit.lm.model import LM

__all__ = ["Memory", "MemoryAdaptor"]


@dataclass(frozen=True, kw_only=True)
class Memory(TrainedEditor):
    """Attention over learnt values in the place of a map; it destroys what the model knew.

    size: m, how many values there are.
    guards: perplexity is not watched by default, since it always rises.

    The other fields, the report and what steps are: see `PromptEndEditor` and `TrainedEditor`.
    Raises `BadInput` for values that are not allowed.
    """

    guards: Guards = Guards(perplexity=math.inf)
    size: int = 100

    def __post_init__(self) -> None:
        """Check the size."""
        super().__post_init__()
        check_count("size", self.size)

    def adaptor(self, lm: LM) -> MemoryAdaptor:
        """The values and their attention, not yet there."""
        return MemoryAdaptor(lm, self.site(lm), self.stack, self.size)


class MemoryAdaptor(TrainedAdaptor):
    """The values, and the attention over them."""

    def __init__(self, lm: LM, site: Site, stack: str | None, size: int) -> None:
        super().__init__(lm, site, stack)
        self.size = size

    def initial(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Values uniform in [0, 1)."""
        d_out, d_in = self.site.weight.shape
        weight, bias = linear(generator, self.size, d_in)
        values = torch.rand(self.size, d_out, generator=generator)
        return {"attention.weight": weight, "attention.bias": bias, "values": values}

    def attention(self, queries: Tensor) -> Tensor:
        """How much of each value each query [rows, d_in] gets, [rows, m], in float32."""
        weight, bias = self.tensors["attention.weight"], self.tensors["attention.bias"]
        return torch.nn.functional.linear(queries.to(weight), weight, bias).softmax(dim=-1)

    def decide(self, queries: Tensor) -> Row | None:
        """The mixed value of each row, [rows, d_out]."""
        if not self.tensors:
            return None
        return (self.attention(queries) @ self.tensors["values"],)

    def change(self, decided: Row, hidden: Tensor, output: Tensor, where: Tensor) -> Tensor:
        """The values in the place of the output."""
        (values,) = decided
        return torch.where(where[..., None], values[:, None].to(output.dtype), output)
