"""NPO, negative preference optimization (Zhang, Lin, Bai and Mei, COLM 2024, arXiv:2404.05868).

Gradient ascent has no lower end, and a model that follows it falls apart. NPO is DPO of which only
the answer that is not wanted is left (section 3, equation 3):

    L = (2 / beta) mean log(1 + r^beta),   r = p_theta(y | x) / p_ref(y | x)

p is the probability of a fact's whole target y after its prompt x, p_ref that of the model before
the handle's first step. L is bounded from below by 0. Its gradient is that of ascent, in which each
fact's part is weighted by 2 r^beta / (1 + r^beta): 1 at the start, and ever less as the target gets
unlikely. For beta to 0 it is gradient ascent (proposition 1). With `kl_weight` it is NPO+KL of the
paper: L + w KL(p_ref || p_theta) on control texts.

Published settings (licong-lin/negative-preference-optimization, TOFU, LLaMA-2-7B): all weights,
AdamW with weight decay 0.01, lr 1e-5, 10 epochs in batches of 32, beta 0.1:

    NPO(parameters="all", lr=1e-5, epochs=10, batch_size=32, stop_loss=float("inf"))

Departures: one MLP matrix by default, as in `FineTune`, with Adam; NPO+RT, which adds the loss of
answers that are to stay, is left out: `control` holds what is to stay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memkit.editors.ascent_bounded import KLBoundedAscent
from memkit.editors.base import Draft
from memkit.editors.training import Example, Loss, Plan, check_number

__all__ = ["NPO"]


@dataclass(frozen=True, kw_only=True)
class NPO(KLBoundedAscent):
    """Gradient ascent that slows down by itself as the targets get unlikely (decoders).

    beta: how soon it slows down: the larger, the sooner. 0.1 is published for answers of some fifty
        tokens; of a few tokens r cannot fall as far, and about 1 does what 0.1 does there.
    stop_loss, stop_at_argmax: a fact is forgotten if the loss of its target is above `stop_loss`
        (nats a token) or, with `stop_at_argmax`, if some token of it is no longer the argmax. A
        batch of forgotten facts is skipped, and training ends when all are.
    kl_weight, kl_bound: as in `KLBoundedAscent`; 0 and infinity are NPO alone.

    The other fields are those of `KLBoundedAscent`.
    """

    beta: float = 0.1
    stop_loss: float = math.inf
    kl_weight: float = 0.0
    kl_bound: float = math.inf

    def __post_init__(self) -> None:
        """Check beta too."""
        super().__post_init__()
        check_number("beta", self.beta, zero=False)

    def _plan(self) -> Plan:
        return replace(super()._plan(), stop_loss=0.0, stop_at_argmax=True)  # see _away

    def _away(self, draft: Draft, rows: Sequence[Example]) -> Loss:
        lengths = torch.tensor([float(len(row.target)) for row in rows], device=draft.lm.device)
        read = draft.once(("NPO", tuple(rows)), lambda: self._read(draft, rows))
        before = torch.tensor(read, device=draft.lm.device)

        def preference(batch: Sequence[int]) -> tuple[Tensor, list[bool]]:
            losses, right = self._losses(draft.lm, [rows[i] for i in batch])
            places = list(batch)
            ratios = (before[places] - losses) * lengths[places]  # log r
            done = [
                loss > self.stop_loss or (self.stop_at_argmax and not said)
                for loss, said in zip(losses.tolist(), right, strict=True)
            ]
            return 2 / self.beta * torch.nn.functional.softplus(self.beta * ratios), done

        return preference

    @torch.no_grad()
    def _read(self, draft: Draft, rows: Sequence[Example]) -> list[float]:
        """The loss of each target before the handle's first step."""
        found: list[float] = []
        for start in range(0, len(rows), self.batch_size):
            found += self._losses(draft.lm, rows[start : start + self.batch_size])[0].tolist()
        return found
