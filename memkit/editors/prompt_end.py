"""What GRACE, Defer and Memory share: they lie over one map and decide once a row.

The decision is made on the input of the map at the last token of the row's prompt, which is where
the first answer token is predicted from. In a decoder that token is found from the attention mask
or said by who runs the model (`memkit.lm.ends`); targets that stand behind it in training and
scoring do not move it, nor does left or right padding. In an encoder and a classifier it is the
last real token ([SEP] or the end token, if the tokenizer puts one), in the decoder of an
encoder-decoder the start token.

A pass that goes on from a key-value cache asks nothing anew. There the answer so far has no
prompt's end, and either nothing is done any more, or what was decided for the row holds on.
"""

from __future__ import annotations

import abc
import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from memkit.editors.base import Adaptor, Editor
from memkit.editors.training import check_number
from memkit.errors import BadInput
from memkit.lm.batching import padded, positions
from memkit.lm.checks import check_count
from memkit.lm.hooks import around_each_pass, capture_inputs, replacing

if TYPE_CHECKING:
    from memkit.lm.layouts import Kind, Site
    from memkit.lm.model import LM
    from memkit.types import Fact

__all__ = ["PromptEndAdaptor", "PromptEndEditor", "Replacement", "Row", "check_choice", "queries"]

Replacement = Literal["last", "prompt", "all"]
Row = tuple[Tensor, ...]  # what was decided, one or more tensors [rows, ...]

ROWS = 32  # that go through the model at once
# published settings of GRACE: its repository (GPT2-XL), EasyEdit (the others)
PRESETS: Mapping[str, tuple[int, Literal["up", "down"]]] = {
    "gpt2-xl": (35, "up"),
    "gpt-j-6b": (25, "down"),
    "llama-2-7b": (27, "down"),
}
DEPTHS: Mapping[str, tuple[float, str]] = {
    "decoder": (0.8, "the presets of GPT2-XL, GPT-J and LLaMA-2 are 0.73 to 0.89"),
    "encoder-decoder": (0.5, "as GRACE's setting for T5-small, 4 of 8"),
    "classifier": (0.83, "as GRACE's setting for BERT, 10 of 12"),
}


@dataclass(frozen=True, kw_only=True)
class PromptEndEditor(Editor):
    """Fields of the editors of this kind.

    layer: counted from 0. None: the known model's preset, else a share of the depth, and below the
        last layer, so that attention can carry what changes to other tokens.
    projection: the MLP map that is replaced, "down" or "up". None: the preset's, else "down".
    stack: "encoder" or "decoder" of an encoder-decoder; None is the encoder.
    end: let the model learn to end after the target, where it generates.
    steps: of Adam at most.
    lr: Adam's learning rate.
    stop_loss: training ends when each target token is the argmax and the loss below this (nats a
        token); 0.0 switches that off.

    Raises `BadInput` for values that are not allowed.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("decoder", "encoder-decoder", "classifier")

    layer: int | None = None
    projection: Literal["up", "down"] | None = None
    stack: Literal["encoder", "decoder"] | None = None
    end: bool = False
    steps: int = 100
    lr: float = 1.0
    stop_loss: float = 0.05

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        check_choice("projection", self.projection, (None, "up", "down"))
        check_count("steps", self.steps)
        check_number("lr", self.lr, zero=False)
        check_number("stop_loss", self.stop_loss, zero=True)

    def fitted(self, lm: LM, facts: Sequence[Fact]) -> tuple[Self, dict[str, str]]:
        """The editor with layer, projection and stack chosen."""
        chosen: dict[str, str] = {}
        known = lm.layout.known(lm.model) or ""
        stack = self.stack
        if stack is None and len(lm.layout.stacks) > 1:
            stack = "encoder"
            chosen["stack"] = "encoder (the stack of GRACE's setting for T5)"
        layer, projection = self.layer, self.projection
        if layer is None and known in PRESETS:
            layer, chosen["layer"] = PRESETS[known][0], f"{PRESETS[known][0]} (preset of {known})"
        elif layer is None:
            count = len(lm.layout.layers(lm.model, stack))
            share, why = DEPTHS[lm.kind]
            layer = max(0, min(count - 2, round(share * count)))
            chosen["layer"] = f"{layer} of 0 to {count - 1} ({share} of the depth: {why})"
        if projection is None:
            projection, why = "down", "that of most published settings"
            if known in PRESETS:
                projection, why = PRESETS[known][1], f"preset of {known}"
            chosen["projection"] = f"{projection} ({why})"
        lm.layout.site(lm.model, layer, projection, stack)  # raises for what does not exist
        return replace(self, layer=layer, projection=projection, stack=stack), chosen

    def site(self, lm: LM) -> Site:
        """The map that is replaced, of an editor that is fitted."""
        assert self.layer is not None
        assert self.projection is not None
        return lm.layout.site(lm.model, self.layer, self.projection, self.stack)


class PromptEndAdaptor(Adaptor):
    """Puts other vectors in the place of a map's output, for the rows for which it decides so.

    `replacement` says where in a row. "last": at the prompt's last token. "prompt": at all tokens
    up to it. "all": at these and at all that follow, also in passes that go on from a cache; rows
    are then known by their order, so these passes have to follow the one that they go on from.
    Rows for which nothing is decided keep the map's own output, to the bit.
    """

    def __init__(
        self, lm: LM, site: Site, stack: str | None = None, replacement: Replacement = "all"
    ) -> None:
        self.lm = lm
        self.site = site
        self.stack = stack
        self.replacement = replacement
        self._newest = _Newest()

    @property
    def decided(self) -> Row | None:
        """What was decided for the rows of this thread's newest prompts; None: nothing to do."""
        return self._newest.decided

    @decided.setter
    def decided(self, decided: Row | None) -> None:
        self._newest.decided = decided

    @property
    def sites(self) -> Sequence[Site]:
        """The one map."""
        return (self.site,)

    @abc.abstractmethod
    def decide(self, queries: Tensor) -> Row | None:
        """What is to be done for each row, given its query, [rows, d_in]; None: nothing at all."""

    @abc.abstractmethod
    def change(self, decided: Row, hidden: Tensor, output: Tensor, where: Tensor) -> Tensor:
        """The output [rows, columns, d_out] for the input [rows, columns, d_in].

        Only places at which `where` [rows, columns] is true may differ from what came in.
        """

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """The hooks: one around each pass of the model or stack, one on the map."""
        model = self.lm.model
        if self.lm.kind == "encoder-decoder":
            model = model.get_decoder() if self.stack == "decoder" else model.get_encoder()
        passes = around_each_pass(model, self._begin, self.lm.ends.over)
        with passes, replacing(self.site.module, self._replace):
            yield

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note where the prompts end in the pass that begins."""
        ends = self.lm.ends
        ends.note(args, kwargs)
        if ends.columns is not None:
            self.decided = None
            if self.lm.kind == "encoder-decoder" and self.stack == "decoder":
                ends.columns = torch.zeros_like(ends.columns)

    def _replace(self, hidden: Tensor, output: Tensor) -> Tensor:
        """What comes out of the map."""
        columns, decided = self.lm.ends.columns, None
        if not self.enabled:
            return output
        if columns is not None:
            columns = columns.to(hidden.device)
            shaped = hidden.reshape(len(columns), -1, hidden.shape[-1])
            each = torch.arange(len(columns), device=hidden.device)
            self.decided = decided = self.decide(shaped[each, columns])
        elif self.lm.ends.continues and self.replacement == "all":
            decided = self._going_on()
        if decided is None:
            return output
        rows = len(decided[0])
        shaped = hidden.reshape(rows, -1, hidden.shape[-1])
        where = self._where(columns, rows, shaped.shape[1], hidden.device)
        changed = self.change(decided, shaped, output.reshape(*shaped.shape[:2], -1), where)
        return changed.reshape(output.shape)

    def _going_on(self) -> Row | None:
        """What was decided for the rows that are left."""
        rows = self.lm.ends.rows
        if self.decided is None or rows is None:
            return self.decided
        return tuple(part[rows.to(part.device)] for part in self.decided)

    def _where(
        self, columns: Tensor | None, rows: int, length: int, device: torch.device
    ) -> Tensor:
        """The places that are replaced, [rows, length]."""
        if columns is None or self.replacement == "all":
            return torch.ones(rows, length, dtype=torch.bool, device=device)
        places, ends = torch.arange(length, device=device)[None], columns[:, None]
        return places == ends if self.replacement == "last" else places <= ends


class _Newest(threading.local):
    """What was decided in the newest pass of each thread."""

    decided: Row | None = None


@torch.no_grad()
def queries(lm: LM, site: Site, stack: str | None, rows: Sequence[Sequence[int]]) -> Tensor:
    """Input of a map at the last token of each prompt, given as ids; [prompts, d_in]."""
    found = []
    for start in range(0, len(rows), ROWS):
        some = rows[start : start + ROWS]
        ids, mask = padded(some, lm.device, left=False)
        with capture_inputs([site.module]) as seen:
            _run(lm, stack, ids, mask)
        columns = [len(row) - 1 for row in some]
        if stack == "decoder" and lm.kind == "encoder-decoder":
            columns = [0] * len(some)
        shaped = seen[0].reshape(len(some), -1, seen[0].shape[-1])
        found.append(shaped[range(len(some)), columns])
    return torch.cat(found)


def check_choice(name: str, value: object, allowed: Sequence[object]) -> None:
    """Raise `BadInput` unless the value is one of those that are allowed."""
    if value not in allowed:
        raise BadInput(
            f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}. Choose one."
        )


def _run(lm: LM, stack: str | None, ids: Tensor, mask: Tensor) -> None:
    """One pass over right-padded prompts."""
    if lm.kind == "decoder":
        lm.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions(mask),
            use_cache=False,
            logits_to_keep=1,
        )
    elif lm.kind == "encoder-decoder" and stack == "encoder":
        lm.model.get_encoder()(input_ids=ids, attention_mask=mask)
    elif lm.kind == "encoder-decoder":
        start = ids.new_full((len(ids), 1), lm.model.config.decoder_start_token_id)
        lm.model(input_ids=ids, attention_mask=mask, decoder_input_ids=start, use_cache=False)
    else:
        lm.model(input_ids=ids, attention_mask=mask)
