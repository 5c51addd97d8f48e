"""The state of torch and of a model's parameters that an editor's work leaves as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["untouched_state"]


@contextlib.contextmanager
def untouched_state(lm: LM, seed: int) -> Iterator[None]:
    """Seeded random state and closed parameters within the block; all as found after it."""
    flags = [(parameter, parameter.requires_grad) for parameter in lm.model.parameters()]
    grads = [(parameter, parameter.grad) for parameter, _ in flags]
    devices = [lm.device] if lm.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        try:
            for parameter, _ in flags:
                parameter.requires_grad_(False)
                parameter.grad = None
            yield
        finally:
            for parameter, flag in flags:
                parameter.requires_grad_(flag)
            for parameter, grad in grads:
                parameter.grad = grad
