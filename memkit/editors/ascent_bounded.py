"""Gradient ascent within bounds: what the model says of control texts may only change so much.

    maximise  L(facts) - w KL(p_base || p_theta)     subject to   KL(p_base || p_theta) <= bound

L is the loss of the facts' targets (`memkit.editors.training`), KL the mean over all tokens of the
control texts (`memkit.editors.control`). The weighted term is the "KL" baseline of Maini et al.,
COLM 2024 (TOFU, arXiv:2401.06121) on the retain set. It alone bounds nothing, since L has no upper
end; so a step of Adam that leaves the bound is halved back towards the last weights within it until
it is inside, or undone. KL <= bound then holds of the weights as they are stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from memkit.editors.ascent import GradientAscent
from memkit.editors.base import Draft, Made
from memkit.editors.control import Control, check_control
from memkit.editors.training import Example, Hook, Loss, check_number

if TYPE_CHECKING:
    from memkit.lm.layouts import Kind

__all__ = ["KLBoundedAscent"]

HALVINGS = 6


@dataclass(frozen=True, kw_only=True)
class KLBoundedAscent(GradientAscent):
    """Gradient ascent with KL to the model before the edit bounded on control texts (decoders).

    control: the texts; without any, 8 paragraphs of the built-in sample, of up to 64 tokens. Text
        of the kind that the model is to stay good at serves better.
    kl_bound: the most KL, in nats a token, and above 0; infinity is no bound.
    kl_weight: of KL beside the loss of the facts.

    The other fields are those of `GradientAscent`; its rules that end the training look at the loss
    of the facts less the weighted KL. The report's details have "kl", as it is in the end.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("decoder",)

    control: tuple[str, ...] = ()
    kl_bound: float = 0.1
    kl_weight: float = 1.0

    def __post_init__(self) -> None:
        """Check the texts and the numbers."""
        super().__post_init__()
        check_control(self.control)
        check_number("kl_bound", self.kl_bound, zero=False, infinite=True)
        check_number("kl_weight", self.kl_weight, zero=True)

    def write(self, draft: Draft) -> Made:
        """Train on the facts of the draft."""
        rows = self._examples(draft.lm, draft.facts)
        control = Control.of(draft, self.control)  # before the weights change
        steps = self._fit(draft, rows)
        with torch.no_grad():
            kl = float(control.divergence())
        return self._made(draft.lm, rows, steps, kl=kl)

    def _objective(self, draft: Draft, rows: Sequence[Example]) -> Loss:
        away = self._away(draft, rows)
        if not self.kl_weight:
            return away
        control = Control.of(draft, self.control)

        def held(batch: Sequence[int]) -> tuple[Tensor, list[bool]]:
            values, done = away(batch)
            return values + self.kl_weight * control.divergence(), done

        return held

    def _bound(self, draft: Draft, names: Sequence[str]) -> Hook | None:
        if math.isinf(self.kl_bound):
            return None
        control = Control.of(draft, self.control)
        parameters = [draft.lm.model.get_parameter(name) for name in names]
        inside: list[Tensor] = [parameter.detach().clone() for parameter in parameters]

        def allowed(values: Sequence[Tensor]) -> bool:
            """Whether the model keeps the bound with these values, as they are stored."""
            for parameter, value in zip(parameters, values, strict=True):
                parameter.copy_(value)
            return float(control.divergence()) <= self.kl_bound

        def back(masters: Sequence[Tensor]) -> None:
            for _ in range(HALVINGS):
                if allowed(masters):
                    break
                for master, value in zip(masters, inside, strict=True):
                    master.lerp_(value.to(master.dtype), 0.5)
            else:
                for master, value in zip(masters, inside, strict=True):
                    master.copy_(value)
            for value, master in zip(inside, masters, strict=True):
                value.copy_(master)

        return back
