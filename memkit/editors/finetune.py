"""FT: gradient steps on the facts' targets, for a chosen set of weights.

Idea. Minimise the mean loss of the facts (`memkit.editors.training`) with Adam, over all weights, a
block, or one MLP matrix. It is the baseline of every editing paper; how well it does depends on
what is trained and on how the loss is made (Yang et al., ICLR 2026, arXiv:2509.22072).

Published settings, in the terms of this editor (layers count from 0):

    Onoe et al., ACL 2023 (arXiv:2305.01651), Entity Inferences, GPT; ECBD: "last", 3e-6, 5 epochs
        FineTune(parameters="all", text="definition", lr=5e-4, epochs=10, batch_size=1,
                 stop_loss=0.0, stop_at_argmax=False)
    Hartvigsen et al., NeurIPS 2023 (GRACE), FT on GPT2-XL; one fact an `add`
        FineTune(layer=35, projection="up", lr=1e-2, epochs=100, stop_loss=0.0)
    Meng et al., NeurIPS 2022 (ROME), FT on GPT2-XL (layer 21 in GPT-J)
        FineTune(layer=1, lr=5e-4, epochs=25, stop_at_argmax=False)
    EasyEdit (zjunlp/EasyEdit), FT-M on LLaMA-2-7B
        FineTune(layer=21, lr=5e-4, epochs=25, batch_size=1, stop_loss=0.0, stop_at_argmax=False)

Departures from their code:
- The loss is shifted right and takes each target token where it is predicted. ROME's code asks for
  all of them at the last prompt position (`FineTuneConstrained(loss="last_position")` does), and
  GRACE's compares unshifted logits of decoders.
- Weights are named by the layout: of an MLP matrix the weight alone and no bias, never every
  parameter whose name contains a string.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from memkit.editors.base import Draft, Editor, Made
from memkit.editors.training import (
    Example,
    Hook,
    Loss,
    Plan,
    check_number,
    definition_example,
    fact_example,
    losses,
    train,
)
from memkit.errors import BadInput
from memkit.lm.checks import check_count

if TYPE_CHECKING:
    from memkit.lm.layouts import Kind
    from memkit.lm.model import LM
    from memkit.types import Fact

__all__ = ["FineTune", "history"]

CHOICES: Mapping[str, tuple[str, ...]] = {
    "parameters": ("all", "last", "layer", "mlp"),
    "projection": ("up", "down"),
    "text": ("target", "definition"),
}


@dataclass(frozen=True, kw_only=True)
class FineTune(Editor):
    """Fine-tuning on the facts with Adam; serves every kind of model.

    parameters: what is trained. "all": every weight. "last": the last block (of each stack, in an
        encoder-decoder). "layer": one block. "mlp": the weight of one MLP projection.
    layer: for "layer" and "mlp", counted from 0; None is about 0.7 of the depth.
    projection: for "mlp", which one.
    stack: "encoder" or "decoder" of an encoder-decoder, for all but "all"; None is the encoder, and
        for "last" both.
    text: what is learnt. "target": the target after the prompt. "definition": every token of the
        facts' definitions (decoders).
    end: let the model learn to end after that. Models that do not generate have no end.
    lr: Adam's learning rate.
    epochs: at most so many passes over the facts of a step.
    batch_size: facts in a step of Adam, which follows the gradient of their mean loss.
    stop_loss, stop_at_argmax: a batch is learnt, and skipped, if its mean loss is below
        `stop_loss` (nats a token) or, with `stop_at_argmax`, if every target token is the argmax.
        Training ends when all batches of an epoch are learnt, or their mean loss is below
        `stop_loss`. 0.0 and False switch this off.

    Each `apply` or `add` trains anew, with a new state of Adam. The report's details: "loss" of
    each fact at the end, and "steps" of Adam.

    Raises `BadInput` for values that are not allowed, or do not go together.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("decoder", "encoder-decoder", "masked", "classifier")

    parameters: Literal["all", "last", "layer", "mlp"] = "mlp"
    layer: int | None = None
    projection: Literal["up", "down"] = "down"
    stack: Literal["encoder", "decoder"] | None = None
    text: Literal["target", "definition"] = "target"
    end: bool = False
    lr: float = 5e-4
    epochs: int = 100
    batch_size: int = 100
    stop_loss: float = 1e-2
    stop_at_argmax: bool = True

    def __post_init__(self) -> None:
        """Check the values, and that they go together."""
        super().__post_init__()
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise BadInput(
                    f"{name} is {getattr(self, name)!r}; allowed: "
                    f"{', '.join(map(repr, allowed))}. Choose one."
                )
        check_count("epochs", self.epochs)
        check_count("batch_size", self.batch_size)
        check_number("lr", self.lr, zero=False)
        check_number("stop_loss", self.stop_loss, zero=True, infinite=self.erases)
        ignored = {
            "layer": self.layer is not None and self.parameters not in ("layer", "mlp"),
            "stack": self.stack is not None and self.parameters == "all",
            "projection": self.projection != "down" and self.parameters != "mlp",
        }
        for name in [name for name, given in ignored.items() if given]:
            raise BadInput(
                f"{name} is {getattr(self, name)!r}, and parameters={self.parameters!r} takes no "
                "notice of it; allowed: the default. Leave it out, or choose other parameters."
            )

    def fitted(self, lm: LM, facts: Sequence[Fact]) -> tuple[Self, dict[str, str]]:
        """The editor with the layer chosen, and of an encoder-decoder the stack."""
        editor: Self = self
        chosen: dict[str, str] = {}
        if self.parameters not in ("layer", "mlp"):
            return editor, chosen
        if editor.stack is None and len(lm.layout.stacks) > 1:
            editor = replace(editor, stack="encoder")
            chosen["stack"] = "encoder (the stack of the GRACE paper's settings for T5)"
        if editor.layer is None:
            count = len(lm.layout.layers(lm.model, editor.stack))
            layer, why = self._pick_layer(count)
            editor = replace(editor, layer=layer)
            chosen["layer"] = f"{layer} of 0 to {count - 1} ({why})"
        return editor, chosen

    def write(self, draft: Draft) -> Made:
        """Train on the facts of the draft."""
        rows = self._examples(draft.lm, draft.facts)
        return self._made(draft.lm, rows, self._fit(draft, rows))

    def _pick_layer(self, count: int) -> tuple[int, str]:
        """The layer to train of so many, and why."""
        return min(count - 1, round(0.7 * count)), (
            "0.7 of the depth: published settings for GPT-J, LLaMA-2, LLaMA-3 and Mistral are 0.66 "
            "to 0.75"
        )

    def _examples(self, lm: LM, facts: Sequence[Fact]) -> list[Example]:
        if self.text == "target":
            return [fact_example(lm, fact, end=self.end) for fact in facts]
        return [
            definition_example(
                lm, fact.definition, f"the definition of {fact.text!r}", end=self.end
            )
            for fact in facts
        ]

    def _losses(self, lm: LM, rows: Sequence[Example]) -> tuple[Tensor, list[bool]]:
        return losses(lm, rows)

    def _fit(self, draft: Draft, rows: Sequence[Example]) -> int:
        """Train on the examples; gives the number of steps."""
        names = self._names(draft.lm)
        with draft.training(names) as parameters:
            return train(
                parameters,
                self._objective(draft, rows),
                len(rows),
                self._plan(),
                before_step=self._pull(draft, parameters),
                after_step=self._bound(draft, names),
            )

    def _plan(self) -> Plan:
        return Plan(self.lr, self.epochs, self.batch_size, self.stop_loss, self.stop_at_argmax)

    def _objective(self, draft: Draft, rows: Sequence[Example]) -> Loss:
        """What is minimised over examples of these numbers, and whether each is done."""
        return lambda batch: self._losses(draft.lm, [rows[i] for i in batch])

    def _pull(self, draft: Draft, parameters: Sequence[nn.Parameter]) -> Hook | None:
        """What adds to the gradients before each step."""
        return None

    def _bound(self, draft: Draft, names: Sequence[str]) -> Hook | None:
        """What bounds the weights after each step."""
        return None

    def _made(self, lm: LM, rows: Sequence[Example], steps: int, **more: float) -> Made:
        """The report of a step whose facts have these examples."""
        figures: list[float] = []
        with torch.no_grad():
            for start in range(0, len(rows), self.batch_size):
                values, _ = self._losses(lm, rows[start : start + self.batch_size])
                figures += values.tolist()
        return Made(details=[{"loss": loss, "steps": steps, **more} for loss in figures])

    def _names(self, lm: LM) -> list[str]:
        """Names of the parameters to train; one that several modules share stands once."""
        if self.parameters == "all":
            return [name for name, _ in lm.model.named_parameters()]
        if self.layer is None:
            stacks = [self.stack] if self.stack else list(lm.layout.stacks)
            blocks = [lm.layout.layers(lm.model, stack)[-1] for stack in stacks]
        else:
            site = lm.layout.site(lm.model, self.layer, self.projection, self.stack)
            if self.parameters == "mlp":
                return [f"{site.name}.weight"]
            blocks = [lm.layout.layers(lm.model, self.stack)[self.layer]]
        wanted = {id(parameter) for block in blocks for parameter in block.parameters()}
        return [name for name, value in lm.model.named_parameters() if id(value) in wanted]


def history(draft: Draft) -> list[Fact]:
    """Facts of the handle's past steps, the oldest first, without what was written anew since.

    A fact counts as written anew if a later one, of the draft too, has the same prompt.
    """
    newest: dict[str, Fact] = {}
    for fact in (fact for step in draft.past for fact in step.facts):
        newest.pop(fact.text, None)
        newest[fact.text] = fact
    for fact in draft.facts:
        newest.pop(fact.text, None)
    return list(newest.values())
