"""FT+EWC: fine-tuning held back where past edits depend on a weight.

Elastic weight consolidation (Kirkpatrick et al., PNAS 2017, arXiv:1612.00796), the baseline of the
GRACE paper (Hartvigsen et al., NeurIPS 2023, arXiv:2211.11031):

    L = L_new + lambda sum_j F_j (theta_j - theta*_j)^2
    F = (1/m) sum_i (d L_i / d theta)^2                          elementwise, over m past facts

theta* are the weights before this step of the handle, and L_i is the loss of one fact there: one
backward pass a fact.

Departures from the paper's code (Thartvigsen/GRACE, which does not run): the past facts are those
before this step, F is divided by their true number and theta* is not divided at all; gradients are
taken of one fact at a time. As there, no factor 1/2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from memkit.editors.base import Draft
from memkit.editors.finetune import FineTune, history
from memkit.editors.training import Example, Hook, check_number, definition_example
from memkit.errors import BadInput
from memkit.lm.checks import check_count

__all__ = ["FineTuneEWC", "fisher"]


@dataclass(frozen=True, kw_only=True)
class FineTuneEWC(FineTune):
    """Fine-tuning with a quadratic pull to the weights before the step.

    ewc_lambda: how strong the pull is; 0 is `FineTune`.
    past: how many facts F is taken over, the newest of those that earlier steps of this handle
        wrote. Without any there is no pull.
    sample: texts to take F over instead (decoders); every token of them counts.

    The other fields are those of `FineTune`; the losses in the report and in the rules that end the
    training are without the pull.
    """

    ewc_lambda: float = 0.1
    past: int = 10
    sample: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the numbers and the sample."""
        super().__post_init__()
        check_number("ewc_lambda", self.ewc_lambda, zero=True)
        check_count("past", self.past)
        if not isinstance(self.sample, tuple):
            raise BadInput(
                f"sample is {self.sample!r:.80}; allowed: a tuple of texts. Write sample=(text, "
                "...)."
            )

    def _pull(self, draft: Draft, parameters: Sequence[nn.Parameter]) -> Hook | None:
        rows = self._protected(draft)
        if not rows or self.ewc_lambda == 0:
            return None
        lm = draft.lm
        weights = fisher(parameters, lambda i: self._losses(lm, [rows[i]])[0], len(rows))
        anchors = [_exact(parameter).clone() for parameter in parameters]

        def pull(masters: Sequence[Tensor]) -> None:
            for master, weight, anchor in zip(masters, weights, anchors, strict=True):
                if master.grad is not None:
                    master.grad.add_(weight * (master - anchor), alpha=2 * self.ewc_lambda)

        return pull

    def _protected(self, draft: Draft) -> list[Example]:
        """What the weights are to keep."""
        if not self.sample:
            return self._examples(draft.lm, history(draft)[-self.past :])
        return [
            definition_example(draft.lm, text, f"sample[{i}]") for i, text in enumerate(self.sample)
        ]


def fisher(
    parameters: Sequence[nn.Parameter], loss: Callable[[int], Tensor], count: int
) -> list[Tensor]:
    """Mean over `count` examples of the squared gradient of each one's loss, by parameter.

    `loss(i)` gives the loss of example i, of one element. The means are in float32 at least.
    """
    sums = [torch.zeros_like(_exact(parameter)) for parameter in parameters]
    for i in range(count):
        loss(i).sum().backward()
        for total, parameter in zip(sums, parameters, strict=True):
            if parameter.grad is not None:
                total += parameter.grad.to(total.dtype).square() / count
            parameter.grad = None
    return sums


def _exact(parameter: Tensor) -> Tensor:
    """The values in float32 at least, without a graph."""
    return parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32))
