"""The only place that registers hooks; every hook lives as long as a `with` block.

Since transformers 5 some families' layers return a tensor and others a tuple that starts with it,
and sub-modules are called with keywords: both are settled here, at run time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

__all__ = [
    "Called",
    "add_to_output",
    "around_each_pass",
    "calls",
    "capture",
    "capture_inputs",
    "put_into_output",
    "replacing",
]


class Called(NamedTuple):
    """How a module was called: its hidden states, and the other arguments."""

    hidden: Tensor
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


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
            seen.append(_first(args, kwargs))
        else:
            seen.append(output[0] if isinstance(output, tuple) else output)

    handle = module.register_forward_hook(hook, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


@contextlib.contextmanager
def capture_inputs(modules: Sequence[nn.Module]) -> Iterator[dict[int, Tensor]]:
    """Collect what first goes into each module, and end the block as soon as all are there.

    Good for reading keys without paying for what comes after the last of them: the forward pass in
    the block is left just before the last module computes, and the code after the block goes on.
    The result maps a module's place in `modules` to its input; a place is missing if the block
    ended without a call of that module. The tensors are the model's own, as in `capture`.
    """
    seen: dict[int, Tensor] = {}

    def hook(place: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.setdefault(place, _first(args, kwargs))
        if len(seen) == len(modules):
            raise _Done(seen)  # not kept in a variable: its traceback holds the pass's tensors

    with contextlib.ExitStack() as handles:
        for place, module in enumerate(modules):
            handle = module.register_forward_pre_hook(
                lambda _, args, kwargs, place=place: hook(place, args, kwargs), with_kwargs=True
            )
            handles.callback(handle.remove)
        try:
            yield seen
        except _Done as reached:
            if reached.args[0] is not seen:
                raise


@contextlib.contextmanager
def calls(module: nn.Module) -> Iterator[list[Called]]:
    """Note every call of a layer, so that it can be made again with other hidden states."""
    seen: list[Called] = []

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rest = dict(kwargs)
        hidden = args[0] if args else rest.pop("hidden_states")
        seen.append(Called(hidden, args[1:], rest))

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


@contextlib.contextmanager
def add_to_output(module: nn.Module, addition: Tensor, column: int) -> Iterator[None]:
    """Add `addition` [rows, width] to a module's output in one column, in every call.

    The output is [rows, columns, width], or flat [rows x columns, width].
    """

    def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        shaped = output.reshape(len(addition), -1, output.shape[-1])
        parts = [shaped[:, :column], shaped[:, column : column + 1] + addition[:, None]]
        return torch.cat([*parts, shaped[:, column + 1 :]], dim=1).reshape(output.shape)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def put_into_output(module: nn.Module, values: Tensor, where: Tensor) -> Iterator[None]:
    """Put `values` [rows, columns, width] into a module's output, in every call.

    Only the places change at which `where` [rows, columns] is true. The output is of the shape of
    the values, or flat [rows x columns, width], or a tuple that starts with such a tensor.
    """

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        tensor = output[0] if isinstance(output, tuple) else output
        put = torch.where(where[..., None], values, tensor.reshape(values.shape))
        put = put.reshape(tensor.shape)
        return (put, *output[1:]) if isinstance(output, tuple) else put

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def around_each_pass(
    module: nn.Module, before: Callable[..., None], after: Callable[[], None]
) -> Iterator[None]:
    """Call `before(args, kwargs)` when a module is about to run, and then `after()`."""
    handles = [
        module.register_forward_pre_hook(
            lambda _, args, kwargs: before(args, kwargs), with_kwargs=True
        ),
        module.register_forward_hook(lambda *_: after(), always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def replacing(module: nn.Module, change: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """Let `change(input, output)` say what comes out of a module with one input and one output.

    Where it gives back the output itself, nothing has changed, to the bit.
    """
    handle = module.register_forward_hook(
        lambda _, args, kwargs, output: change(_first(args, kwargs), output), with_kwargs=True
    )
    try:
        yield
    finally:
        handle.remove()


class _Done(Exception):
    """Leaves a forward pass whose rest nobody needs."""


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """A module's input, whether it was passed by place or by name."""
    tensor: Tensor = args[0] if args else next(iter(kwargs.values()))
    return tensor
