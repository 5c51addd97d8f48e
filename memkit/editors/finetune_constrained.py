"""FT-L: fine-tuning with a bound on every weight (Zhu et al. 2020, arXiv:2012.00363).

After each step of Adam every trained weight is put back into its interval:

    W := clamp(W, W0 - eps, W0 + eps)                                        elementwise

W0 are the weights before this step of the handle (this `apply` or `add`), so that n steps move a
weight by n eps at most. |W - W0| <= eps holds to the last bit, in the model's own precision too:
the ends of the interval are rounded inwards.

Published settings, from the code of ROME and MEMIT (kmeng01/rome, kmeng01/memit): layer 0,
lr 5e-4, 25 epochs; eps 5e-4 for GPT2-XL, 5e-5 for GPT-J, 2e-3 for GPT-2 medium, 1e-3 for GPT-2
large.

Departures from that code: the loss takes each target token where it is predicted. There all of them
are asked for at the last prompt position, where they compete for one place; `loss="last_position"`
is that loss, and with `eps=float("inf")` it is what is published as FT and as EasyEdit's
`prompt_last`. The weight alone is trained, not its bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from memkit.editors.base import Draft
from memkit.editors.finetune import FineTune
from memkit.editors.training import Example, Hook, check_number, losses
from memkit.errors import BadInput

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["FineTuneConstrained", "interval"]


@dataclass(frozen=True, kw_only=True)
class FineTuneConstrained(FineTune):
    """Fine-tuning within `eps` of the weights before the step (L-infinity norm).

    eps: how far each weight may move; infinity is no bound.
    loss: "target" is that of `FineTune`; "last_position" the published code's, for decoders.

    The other fields are those of `FineTune`; a layer that is None is the first, and 25 epochs are
    the most.
    """

    epochs: int = 25
    stop_at_argmax: bool = False
    eps: float = 5e-4
    loss: Literal["target", "last_position"] = "target"

    def __post_init__(self) -> None:
        """Check eps and the loss."""
        super().__post_init__()
        check_number("eps", self.eps, zero=False, infinite=True)
        if self.loss not in ("target", "last_position"):
            raise BadInput(
                f"loss is {self.loss!r}; allowed: 'target' or 'last_position'. Choose one."
            )
        if self.loss == "last_position" and self.text == "definition":
            raise BadInput(
                "loss is 'last_position' and text 'definition'; allowed: one of them, since a "
                "definition has no prompt. Take loss='target'."
            )

    def _pick_layer(self, count: int) -> tuple[int, str]:
        return 0, "the first, as in the published settings for GPT2-XL and GPT-J"

    def _losses(self, lm: LM, rows: Sequence[Example]) -> tuple[Tensor, list[bool]]:
        return losses(lm, rows, last_position=self.loss == "last_position")

    def _bound(self, draft: Draft, names: Sequence[str]) -> Hook | None:
        if math.isinf(self.eps):
            return None
        ends = [self._interval(draft, name) for name in names]

        def clamp(masters: Sequence[Tensor]) -> None:
            for master, (low, high) in zip(masters, ends, strict=True):
                master.clamp_(low.to(master.dtype), high.to(master.dtype))

        return clamp

    def _interval(self, draft: Draft, name: str) -> tuple[Tensor, Tensor]:
        """The ends for a parameter, where it is."""
        parameter = draft.lm.model.get_parameter(name)
        low, high = interval(draft.before(name), self.eps, parameter.dtype)
        return low.to(parameter.device), high.to(parameter.device)


def interval(start: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The least and the largest numbers of `dtype` within `eps` of `start`, elementwise.

    `start` holds numbers of `dtype`, in a type as wide or wider. On the CPU, which has float64 and
    `nextafter` for every type.
    """
    start = start.to("cpu", torch.float64)
    low, high = (start - eps).to(dtype), (start + eps).to(dtype)
    above, below = torch.tensor([math.inf, -math.inf], dtype=dtype)
    low = torch.where(start - low.double() > eps, torch.nextafter(low, above), low)
    high = torch.where(high.double() - start > eps, torch.nextafter(high, below), high)
    return low, high
