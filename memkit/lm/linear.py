"""The linear maps of a model by name: those that layouts name, and those that PEFT names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

from torch import nn
from transformers.pytorch_utils import Conv1D

from memkit.errors import BadInput
from memkit.lm.layouts import Projection, Site

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["linear_map", "linear_maps"]


def linear_map(model: Any, name: str) -> Site:
    """The linear map of this dotted name.

    Raises `BadInput` if there is none, if it is no linear map, or if its weight is the embedding's
    too.
    """
    module = dict(model.named_modules()).get(name)
    if not isinstance(module, nn.Linear | Conv1D):
        what = "is absent" if module is None else f"is a {type(module).__name__}"
        maps = [
            own for own, other in model.named_modules() if isinstance(other, nn.Linear | Conv1D)
        ]
        raise BadInput(
            f"{name!r} {what} in this {type(model).__name__}; allowed: one of its {len(maps)} "
            f"linear maps, such as {maps[0]!r}. Take a model of the family that this is for."
        )
    if module.weight is model.get_input_embeddings().weight:
        raise BadInput(
            f"{name!r} shares its weight with the embedding of this {type(model).__name__}, and "
            "both would change; allowed: a linear map with a weight of its own. Leave it out."
        )
    return Site(name, module)


def linear_maps(lm: LM, targets: Sequence[str], layers: Sequence[int] | None = None) -> list[Site]:
    """The linear maps of these kinds in the layers of all stacks, in the order of the model.

    A target is a projection that the layout knows ("up", "down" of the MLP, "attention": its
    output), or the end of a module's name, as PEFT's `target_modules` are ("q_proj", "mlp.c_fc").
    `layers` None are all, counted from 0 in each stack.

    Raises `BadInput` if a target is nowhere, or there is no such layer.
    """
    found: dict[str, Site] = {}
    missing = set(targets)
    for stack, names in lm.layout.stacks.items():
        blocks = lm.layout.layers(lm.model, stack)
        for layer in range(len(blocks)) if layers is None else layers:
            own = {lm.layout.site(lm.model, layer, p, stack).name: p for p in get_args(Projection)}
            for name, module in blocks[layer].named_modules(prefix=f"{names.layers}.{layer}"):
                if not isinstance(module, nn.Linear | Conv1D):
                    continue
                wanted = {t for t in targets if own.get(name) == t or f".{name}".endswith(f".{t}")}
                if wanted:
                    found[name] = Site(name, module)
                    missing -= wanted
    if missing or not found:
        raise BadInput(
            f"targets is {tuple(targets)!r}, and {sorted(missing)!r} are nowhere in this "
            f"{type(lm.model).__name__}; allowed: 'up', 'down', 'attention', or ends of names: "
            f"{', '.join(map(repr, _ends(lm)))}. Choose some."
        )
    return list(found.values())


def _ends(lm: LM) -> list[str]:
    """The last parts of the names of all linear maps in the layers."""
    ends = {
        name.rpartition(".")[2]
        for stack in lm.layout.stacks
        for name, module in lm.layout.layers(lm.model, stack).named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    }
    return sorted(ends)
