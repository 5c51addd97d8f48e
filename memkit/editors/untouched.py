"""The state of torch and of a model that an editor's work leaves as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from memkit.editors.interrupts import ending_with
from memkit.lm.evaluation import evaluating

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["untouched_state"]


@contextlib.contextmanager
def untouched_state(lm: LM, seed: int) -> Iterator[None]:
    """Seeded random state, closed parameters and evaluation mode; all as found after the block."""
    flags = [(parameter, parameter.requires_grad) for parameter in lm.model.parameters()]
    grads = [(parameter, parameter.grad) for parameter, _ in flags]
    randoms = [(generator, generator.get_state()) for generator in _generators(lm.device)]

    def back() -> None:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for parameter, grad in grads:
            parameter.grad = grad
        for generator, state in randoms:
            generator.set_state(state)

    with evaluating(lm.model), ending_with(back):
        for generator, _ in randoms:
            generator.manual_seed(seed)
        for parameter, _ in flags:
            parameter.requires_grad_(False)
            parameter.grad = None
        yield


def _generators(device: torch.device) -> list[torch.Generator]:
    """Those that editors draw from: of the CPU and, where the model is there, of its CUDA device.

    `torch.manual_seed` would seed those of all other devices, too.
    """
    if device.type != "cuda":
        return [torch.default_generator]
    place = torch.cuda.current_device() if device.index is None else device.index
    return [torch.default_generator, torch.cuda.default_generators[place]]
