"""A step being taken: what an editor sees of the handle, and the only way in which it may write."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor, nn

from memkit.editors.steps import Change, Dense, LowRank, Step

if TYPE_CHECKING:
    from memkit.editors.edit import Edit
    from memkit.lm.layouts import Site
    from memkit.types import Fact

__all__ = ["Draft"]

T = TypeVar("T")


class Draft:
    """A step being taken: what an editor sees, and the only way in which it may write.

    lm, facts: the model and what to write.
    past: the steps before this one, on the same handle.
    adaptor: the editor's, if it has one; it is installed and as the past steps made it.
    """

    def __init__(self, edit: Edit, facts: Sequence[Fact]) -> None:
        self.lm = edit.lm
        self.facts = tuple(facts)
        self.past: Sequence[Step] = tuple(edit.steps)
        self.adaptor = edit.adaptor
        self.changes: dict[str, list[Change]] = {}
        self._edit = edit

    def add(self, site: Site, left: Tensor, right: Tensor) -> LowRank:
        """Add left [d_out, r] @ right.T [r, d_in] to the weight of a site, at once.

        The factors are kept in float32. Gives the change as it is kept.
        """
        name = f"{site.name}.weight"
        change = LowRank(left.detach().float(), right.detach().float())
        self._edit.touch(name, site.parameter, turned=site.turned)
        self.changes.setdefault(name, []).append(change)
        self._edit.rewrite(name, self.changes[name])
        return change

    @contextlib.contextmanager
    def training(self, names: Sequence[str]) -> Iterator[list[nn.Parameter]]:
        """The parameters of these names, open for in-place training within the block."""
        parameters = []
        for name in names:
            parameter = self.lm.model.get_parameter(name)
            self._edit.touch(name, parameter)
            self.changes.setdefault(name, [])
            parameters.append(parameter.requires_grad_(True))
        try:
            yield parameters
            for name, parameter in zip(names, parameters, strict=True):
                self.changes[name] = [Dense(parameter.detach().clone())]
        finally:
            for parameter in parameters:
                parameter.requires_grad_(False)
                parameter.grad = None

    def once(self, key: object, make: Callable[[], T]) -> T:
        """What `make` gives of the model as it was before the handle's first step.

        It is made once a handle.
        """
        return self._edit.once(key, make)

    @contextlib.contextmanager
    def base(self) -> Iterator[None]:
        """The model without any live edit, this handle's and others', within the block."""
        live = list(self.lm.edits)
        others = [edit for edit in live if edit is not self._edit]
        with contextlib.ExitStack() as stack:
            for edit in reversed([*others, self._edit]):  # which is the newest
                stack.enter_context(edit.set_aside())
            stack.callback(self.lm.edits.__setitem__, slice(None), live)
            self.lm.edits.clear()  # they are no part of the fingerprint now
            yield

    def before(self, name: str) -> Tensor:
        """A touched tensor as it was at the start of this step, in float64 (float32 on MPS)."""
        return self._edit.value(name)

    def reset(self, name: str) -> None:
        """Put back the bytes of a tensor from before the first step of the handle, if touched."""
        if name in self._edit.touched:
            self._edit.touched[name].restore()
