"""Gradient ascent: unlearning a fact by making its target less likely.

Source: Jang et al., ACL 2023 (Knowledge Unlearning, arXiv:2210.01504), which maximise the loss of
fine-tuning on what is to be forgotten; in "TOFU" (Maini et al., COLM 2024, arXiv:2401.06121) it is
the baseline "gradient ascent". Nothing holds it back: the longer it runs, the more goes with the
fact. `KLBoundedAscent` is held.

Published settings: Jang et al., all weights, lr 5e-5, until the text can no longer be extracted;
TOFU, all weights, lr 1e-5, 5 epochs, batches of 32:

    GradientAscent(parameters="all", lr=1e-5, epochs=5, batch_size=32, stop_loss=float("inf"))

Departures: one MLP matrix by default, as in `FineTune`, with Adam; and an ascent that ends, where
the target has become unlikely enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from memkit.editors.base import Draft
from memkit.editors.finetune import FineTune
from memkit.editors.training import Example, Loss, Plan
from memkit.errors import BadInput

__all__ = ["GradientAscent"]


@dataclass(frozen=True, kw_only=True)
class GradientAscent(FineTune):
    """Gradient steps away from the facts' targets: these are what the model is to say no longer.

    stop_loss, stop_at_argmax: a batch is forgotten, and skipped, if its mean loss is above
        `stop_loss` (nats a token) or, with `stop_at_argmax`, if of every fact some target token is
        no longer the argmax. Training ends when all batches of an epoch are forgotten, or their
        mean loss is above `stop_loss`. Infinity and False switch this off.

    The other fields are those of `FineTune`, without `end`. In the report a fact is `forget`: it is
    well if the target is no first choice any more. That is so of its own prompt alone;
    `memkit.protocols.erasure` says whether other ways still lead to it.
    """

    erases: ClassVar[bool] = True

    epochs: int = 25
    stop_loss: float = 10.0
    stop_at_argmax: bool = False

    def __post_init__(self) -> None:
        """Check that no end is to be learnt."""
        super().__post_init__()
        if self.end:
            raise BadInput(
                "end is True, and an ascent has no answer after which to end; allowed: False. "
                "Leave it out."
            )

    def _plan(self) -> Plan:
        return replace(super()._plan(), stop_loss=-self.stop_loss)

    def _objective(self, draft: Draft, rows: Sequence[Example]) -> Loss:
        return self._away(draft, rows)

    def _away(self, draft: Draft, rows: Sequence[Example]) -> Loss:
        """What is minimised to make the targets unlikely, and whether each fact is forgotten."""

        def ascent(batch: Sequence[int]) -> tuple[Tensor, list[bool]]:
            values, right = self._losses(draft.lm, [rows[i] for i in batch])
            return -values, [not said for said in right]

        return ascent
