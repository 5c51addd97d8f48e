"""The upper layers of a decoder, run again and again from one column on.

What a change at a token of layer l can reach are the layers from l on and the columns from that
token on. Everything else (the layers below, the keys and values of the columns before) is computed
once, in one pass over the whole rows, whose calls of the layers are noted and made again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from memkit.errors import UnsupportedModel
from memkit.lm.batching import PAD, positions
from memkit.lm.hooks import calls, capture

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["Aligned", "Tail", "aligned"]


@dataclass(frozen=True, slots=True)
class Aligned:
    """Rows of ids [rows, length] with their mask and positions, and the column they are aligned at.

    Each row has its own token of interest in column `start`, with padding on both sides.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor
    start: int


def aligned(rows: Sequence[Sequence[int]], places: Sequence[int], device: torch.device) -> Aligned:
    """Rows of ids laid out so that each one's place is in the same column.

    There is padding somewhere, in a column of its own if need be, so that the model always builds
    its mask.
    """
    start = max(places)
    length = start + max(len(row) - place for row, place in zip(rows, places, strict=True))
    length += all(len(row) == length for row in rows)
    ids = torch.full((len(rows), length), PAD, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, (row, place) in enumerate(zip(rows, places, strict=True)):
        first = start - place
        ids[number, first : first + len(row)] = torch.tensor(row, dtype=torch.long)
        mask[number, first : first + len(row)] = 1
    ids, mask = ids.to(device), mask.to(device)
    return Aligned(ids, mask, positions(mask), start)


@dataclass(frozen=True, slots=True)
class Call:
    """How a layer was called, beside its hidden states."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    key: Tensor
    value: Tensor


@dataclass(frozen=True, slots=True)
class Tail:
    """The layers from `first` on and the columns from the aligned one on.

    `hidden` [rows, columns, width] are the clean hidden states that go into layer `first`; give
    `run` others of this shape.
    """

    lm: LM
    layers: Sequence[nn.Module]
    hidden: Tensor
    calls: Sequence[Call]

    @classmethod
    @torch.no_grad()
    def of(cls, lm: LM, rows: Aligned, first: int) -> Tail:
        """One clean pass over the rows. `first` may be the number of layers: no layer at all.

        Raises `UnsupportedModel` if an edit lies over a layer: what it does depends on the prompt;
        or if attention does not take the masks that can be cut to a part of the columns.
        """
        attention = lm.model.config.get_text_config()._attn_implementation
        if attention not in ("eager", "sdpa"):
            raise UnsupportedModel(
                f"this {type(lm.model).__name__} computes attention by {attention!r}, and part of "
                "the layers cannot be run alone; allowed: 'sdpa' or 'eager'. Switch it before: "
                "lm.model.set_attn_implementation('sdpa')."
            )
        over = [edit for edit in lm.edits if edit.adaptor is not None]
        if over:
            raise UnsupportedModel(
                f"{over[0]!r} lies over a layer, and part of the layers cannot be run alone; "
                "allowed: edits of weights. Roll it back, write into the weights, and lay it over "
                "them anew."
            )
        layers = list(lm.layout.layers(lm.model))
        # Full keys and values everywhere: windows are cut by the mask, not by the cache
        cache: Any = DynamicCache()
        with contextlib.ExitStack() as stack:
            noted = [stack.enter_context(calls(layer)) for layer in layers[first:]]
            ends = stack.enter_context(capture(layers[-1]))
            lm.model(
                input_ids=rows.ids,
                attention_mask=rows.mask,
                position_ids=rows.positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        start = rows.start
        hidden = noted[0][0].hidden if noted else ends[0]
        return cls(
            lm,
            layers[first:],
            hidden[:, start:],
            [
                Call(
                    tuple(_from(start, arg) for arg in seen[0].args),
                    {name: _from(start, value) for name, value in seen[0].kwargs.items()},
                    cache.layers[first + n].keys[:, :, :start],
                    cache.layers[first + n].values[:, :, :start],
                )
                for n, seen in enumerate(noted)
            ],
        )

    def run(self, hidden: Tensor) -> Tensor:
        """Hidden states after the last layer, [rows, columns, width], from those into the first."""
        for layer, call in zip(self.layers, self.calls, strict=True):
            prefix = _Prefix(call.key, call.value)
            args = [prefix if value is _CACHE else value for value in call.args]
            named = {k: prefix if v is _CACHE else v for k, v in call.kwargs.items()}
            output = layer(hidden, *args, **named)
            hidden = output[0] if isinstance(output, tuple) else output
        return hidden

    def select(self, rows: Tensor) -> Tail:
        """The tail of some of the rows (indices)."""
        count = len(self.hidden)

        def some(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(some(part) for part in value)
            if isinstance(value, Tensor) and value.dim() > 1 and len(value) == count:
                return value[rows]
            return value

        return replace(
            self,
            hidden=self.hidden[rows],
            calls=[
                Call(
                    some(call.args),
                    {name: some(value) for name, value in call.kwargs.items()},
                    call.key[rows],
                    call.value[rows],
                )
                for call in self.calls
            ],
        )


class _Prefix:
    """Keys and values of the columns before, which a layer's own are put after."""

    is_compileable = False

    def __init__(self, key: Tensor, value: Tensor) -> None:
        self.key, self.value = key, value

    def update(self, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return torch.cat([self.key, key], dim=2), torch.cat([self.value, value], dim=2)

    def get_seq_length(self, *_: Any) -> int:
        return self.key.shape[2]


_CACHE = object()  # stands for the cache in a noted call


def _from(start: int, value: Any) -> Any:
    """An argument of a layer cut to the columns from `start` on.

    Masks are [rows, heads, columns, all columns]; position ids [rows, columns]; rotary tables
    [rows, columns, width]; cache positions [columns].
    """
    if isinstance(value, DynamicCache):
        return _CACHE
    if isinstance(value, tuple):
        return tuple(_from(start, part) for part in value)
    if not isinstance(value, Tensor):
        return value
    if value.dim() == 4:
        return value[:, :, start:]
    return value[start:] if value.dim() == 1 else value[:, start:]
