"""A look at the first token of an answer, before it is decided whether the answer goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from memkit.errors import BadInput, UnsupportedModel
from memkit.lm.generation import Completion
from memkit.lm.hooks import capture
from memkit.lm.layouts import Kind, Layout

__all__ = ["Admit", "Draft", "FirstPass", "FirstToken"]


@dataclass(frozen=True, slots=True)
class FirstToken:
    """What a model makes of an answer's first token, in nats.

    `margin` is log p(best) - log p(second best), `entropy` that of the distribution; `hidden` maps
    a layer to the hidden state [d] at the prompt's last token after that layer, float32.
    """

    margin: float
    entropy: float
    hidden: Mapping[int, npt.NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Draft:
    """An answer's first token, and the answer if it was let go on.

    `entropies` are those of all its tokens, in nats.
    """

    first: FirstToken
    completion: Completion | None
    entropies: tuple[float, ...]


Admit = Callable[[Sequence[int], Sequence[FirstToken]], Sequence[bool]]


class FirstPass:
    """Watches the first pass over each batch and asks `ask` which rows go on.

    Raises `BadInput` for a layer that is not there, `UnsupportedModel` for hidden states of a model
    that is no decoder.
    """

    def __init__(self, layout: Layout, model: Any, kind: Kind, layers: Sequence[int]) -> None:
        modules: list[Any] = list(layout.layers(model)) if layers else []
        if layers and kind != "decoder":
            raise UnsupportedModel(
                f"hidden states at the end of a prompt are those of a decoder; this model is a "
                f"{kind}. Choose a router that asks for none, such as MarginRouter."
            )
        for layer in layers:
            if not 0 <= layer < len(modules):
                raise BadInput(f"layer is {layer!r}; allowed: 0 to {len(modules) - 1}.")
        self.watched = {layer: modules[layer] for layer in layers}
        self.ask: Callable[[Sequence[FirstToken]], Sequence[bool]] = lambda firsts: []
        self.places: Sequence[int] = ()
        self.firsts: dict[int, FirstToken] = {}

    def first(self, run: Callable[[], Tensor]) -> tuple[Tensor, list[bool]]:
        """Run the pass; its logits, and which rows go on."""
        with contextlib.ExitStack() as hooks:
            seen = {
                layer: hooks.enter_context(capture(module))
                for layer, module in self.watched.items()
            }
            logits = run()
        hidden = {layer: _last(outputs[0], len(logits)) for layer, outputs in seen.items()}
        logprobs = logits.float().log_softmax(dim=-1)
        top = logprobs.topk(2, dim=-1).values
        margins = (top[:, 0] - top[:, 1]).tolist()
        entropies = torch.special.entr(logprobs.exp()).sum(dim=-1).tolist()
        firsts = [
            FirstToken(margin, entropy, {layer: states[row] for layer, states in hidden.items()})
            for row, (margin, entropy) in enumerate(zip(margins, entropies, strict=True))
        ]
        self.firsts.update(zip(self.places, firsts, strict=True))
        return logits, list(self.ask(firsts))


def _last(output: Tensor, rows: int) -> npt.NDArray[np.float32]:
    """Hidden states of the last column, [rows, d]: batches are padded on the left."""
    last = output.reshape(rows, -1, output.shape[-1])[:, -1]
    states: npt.NDArray[np.float32] = last.float().cpu().numpy()
    return states
