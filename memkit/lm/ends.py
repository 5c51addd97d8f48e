"""Where the prompt ends in each row of a forward pass: what a method that looks there must know.

The model's own callers (`LM.logprob`, fine-tuning) put targets behind prompts, so they say where
the prompts end. Where nobody says it, as with `lm.model.generate` or a bare call of the model, it
is the last real token of a row in a pass without a past, and nowhere in a pass that goes on from a
key-value cache: there the prompt has been read already.

Generating without a cache (`use_cache=False`) reads the prompt again with every token, so say it:

    with lm.ends.saying([ids.shape[1] - 1] * len(ids)):  # left-padded
        lm.model.generate(ids, attention_mask=mask, use_cache=False)

A prompt that is read in several passes (`prefill_chunk_size`, a cache that holds its beginning from
before) has no end that could be seen here: read it in one.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from memkit.errors import BadInput

__all__ = ["Ends"]


class Ends(threading.local):
    """Said columns, for whoever runs the model (`saying`), and those of the pass going on.

    Every thread has its own, so that several may run the model at once.

    `columns` is [rows], the column of each row's last prompt token; None in a pass that goes on
    from a cache, and outside of a pass. `continues` says which of the two. `rows` are those of the
    newest pass with columns that the passes after it go on with; None if all do.
    """

    def __init__(self) -> None:
        self.columns: Tensor | None = None
        self.continues = False
        self.rows: Tensor | None = None
        self._said: Sequence[int] | None = None

    def __reduce__(self) -> tuple[type[Ends], tuple[()]]:
        """A copy begins anew: nothing of a pass goes with it."""
        return Ends, ()

    @contextlib.contextmanager
    def saying(self, columns: Sequence[int]) -> Iterator[None]:
        """The columns of the passes within the block; rows may be repeated, as beams are."""
        before, self._said = self._said, columns
        try:
            yield
        finally:
            self._said = before

    def note(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Work out the columns of the pass that begins with these arguments.

        Raises `BadInput` if columns were said for another number of rows.
        """
        ids = args[0] if args else kwargs.get("input_ids")
        ids = kwargs.get("inputs_embeds") if ids is None else ids
        past = kwargs.get("past_key_values")
        self.columns = None
        self.continues = past is not None and bool(past.get_seq_length() > 0)
        if ids is None or self.continues:
            return
        self.rows = None
        rows, length = ids.shape[:2]
        mask = kwargs.get("attention_mask")
        if self._said is not None:
            if rows % len(self._said):
                raise BadInput(
                    f"the prompts' ends of {len(self._said)} rows were said, and the pass has "
                    f"{rows}; allowed: as many, or so many times each. Say those of this pass."
                )
            said = torch.tensor(self._said, device=ids.device)
            self.columns = said.repeat_interleave(rows // len(said))
        elif isinstance(mask, Tensor) and mask.dim() == 2:
            self.columns = length - 1 - mask.flip(1).long().argmax(dim=1)
        else:
            self.columns = torch.full((rows,), length - 1, device=ids.device)

    def over(self) -> None:
        """The pass is over."""
        self.columns, self.continues = None, False

    def keep(self, rows: Tensor) -> None:
        """Say that the passes to come go on with these rows (indices) only."""
        self.rows = rows if self.rows is None else self.rows[rows]
