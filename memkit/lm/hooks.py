"""The only place that registers hooks; every hook lives as long as a `with` block.

Since transformers 5 some families' layers return a tensor and others a tuple that starts with it,
and sub-modules are called with keywords: both are settled here, at run time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

from torch import Tensor, nn

__all__ = ["capture"]


@contextlib.contextmanager
def capture(
    module: nn.Module, what: Literal["input", "output"] = "output"
) -> Iterator[list[Tensor]]:
    """Collect what goes into a module or comes out of it, one tensor a call, in order of calls.

    Good for reading keys (input of a `Site`) and values (output), or a layer's hidden states.
    The tensors are the model's own, with their graph: detach or clone what you keep.
    """
    seen: list[Tensor] = []

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if what == "input":
            seen.append(args[0] if args else next(iter(kwargs.values())))
        else:
            seen.append(output[0] if isinstance(output, tuple) else output)

    handle = module.register_forward_hook(hook, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()
