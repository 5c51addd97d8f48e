"""Where the prompt ends in each row of a forward pass: what a method that looks there must know.

The model's own callers (`LM.logprob`, fine-tuning) put targets behind prompts, so they say where
the prompts end. Where nobody says it, as with `lm.model.generate` or a bare call of the model, it
is the last real token of a row in a pass without a past, and nowhere in a pass that goes on from a
key-value cache: there the prompt has been read already.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Ends"]


class Ends:
    """Said columns, for whoever runs the model (`saying`), and those of the pass going on.

    `columns` is [rows], the column of each row's last prompt token, and `mask` [rows, length] its
    real tokens (None if all are); both None outside of a pass, and `columns` in a pass that goes on
    from a cache.
    """

    def __init__(self) -> None:
        self.columns: Tensor | None = None
        self.mask: Tensor | None = None
        self._said: Sequence[int] | None = None

    @contextlib.contextmanager
    def saying(self, columns: Sequence[int]) -> Iterator[None]:
        """The columns of the passes within the block."""
        before, self._said = self._said, columns
        try:
            yield
        finally:
            self._said = before

    def note(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Work out the columns of the pass that begins with these arguments."""
        ids = kwargs.get("input_ids", args[0] if args else kwargs.get("inputs_embeds"))
        past = kwargs.get("past_key_values")
        self.columns, self.mask = None, None
        if ids is None or (past is not None and past.get_seq_length() > 0):
            return
        rows, length = ids.shape[:2]
        mask = kwargs.get("attention_mask")
        self.mask = mask if isinstance(mask, Tensor) and mask.dim() == 2 else None
        if self._said is not None:
            self.columns = torch.tensor(self._said, device=ids.device)
        elif self.mask is None:
            self.columns = torch.full((rows,), length - 1, device=ids.device)
        else:
            self.columns = length - 1 - self.mask.flip(1).long().argmax(dim=1)
