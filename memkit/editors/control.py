"""Control texts: what a model says of them is to stay while something else is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from memkit.editors.corpora import sample
from memkit.editors.training import Example, definition_example, target_logits
from memkit.errors import BadInput

if TYPE_CHECKING:
    from memkit.editors.draft import Draft
    from memkit.lm.model import LM

__all__ = ["Control", "check_control"]

PARAGRAPHS = 8  # of the built-in sample
TOKENS = 64  # of each of them at most


def check_control(texts: object) -> None:
    """Raise `BadInput` unless it is a tuple."""
    if not isinstance(texts, tuple):
        raise BadInput(
            f"control is {texts!r:.80}; allowed: a tuple of texts. Write control=(text, ...)."
        )


@dataclass(frozen=True, slots=True)
class Control:
    """The texts as tokens, and what the model without the edit makes of them.

    `base` are log-probabilities [all predicted tokens, vocabulary].
    """

    lm: LM
    rows: Sequence[Example]
    base: Tensor

    @classmethod
    def of(cls, draft: Draft, texts: Sequence[str]) -> Control:
        """What the model made of the texts before the handle's first step, read once a handle.

        Without texts it is the built-in sample.

        Raises `BadInput` for a text that is empty or longer than the window.
        """
        lm = draft.lm
        if not texts:
            room = min(TOKENS, lm.window)
            texts = [lm.codec.shorten(text, room) for text in islice(sample(), PARAGRAPHS)]
        rows = [definition_example(lm, text, f"control[{i}]") for i, text in enumerate(texts)]
        return cls(lm, rows, draft.once(("control", tuple(rows)), lambda: _read(lm, rows)))

    def divergence(self) -> Tensor:
        """KL(base || now), nats, the mean over all predicted tokens of the texts; with its graph.

        0 for the model as it was.
        """
        now = _logprobs(self.lm, self.rows)
        each = (self.base.exp() * (self.base - now)).sum(dim=-1)
        return each.mean()


@torch.no_grad()
def _read(lm: LM, rows: Sequence[Example]) -> Tensor:
    return _logprobs(lm, rows)


def _logprobs(lm: LM, rows: Sequence[Example]) -> Tensor:
    logits = target_logits(lm, rows)
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
