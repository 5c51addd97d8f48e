"""Evaluation mode for as long as a model is asked: without dropout and gradient checkpointing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

__all__ = ["evaluating"]


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode within the block, and every module in its own after it.

    Whoever trains a model between two calls of memkit leaves it in training mode, where dropout
    draws random numbers and gradient checkpointing switches key-value caches off.
    """
    training = [module for module in model.modules() if module.training]
    if not training:
        yield
        return
    try:
        model.eval()
        yield
    finally:
        for module in training:
            module.training = True
