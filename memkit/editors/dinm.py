"""DINM, detoxifying with intraoperative neural monitoring (Wang et al., ACL 2024).

arXiv:2403.14472. One layer is located and tuned, so that the model answers an adversarial prompt
with a safe response:

    l = argmax over layers of |h_l(prompt, safe) - h_l(prompt, unsafe)|            section 4.1
    L = c L_edit + KL(p_base || p_theta)                                           section 4.2

L_edit is the loss of the safe response after the prompt, KL is taken on text of general knowledge,
and the MLP's down-projection of that layer is what is tuned. A fact's target is the safe response,
its `previous` the unsafe one (`memkit.benchmarks.load("safeedit")`; for facts, `erasing`).

Published settings, the defaults here: 10 steps, lr 5e-4, c = 0.1 (zjunlp/EasyEdit, LLaMA-2-7B and
Mistral-7B); one record a call, its own "knowledge constrain" as `control`.

Departures from that code:
- h is the mean hidden state over the response after its prompt, averaged over facts. There the
  responses stand without the prompt, padded to one length and compared token by token.
- KL has a gradient. There it is computed without one, and constrains nothing; and it is of all
  tokens of a control text, there of the answer's.
- Layers are compared after themselves, the last one before the final norm.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from memkit.editors.base import Draft, Editor, Made
from memkit.editors.control import Control, check_control
from memkit.editors.training import Example, Plan, check_number, fact_example, losses, train
from memkit.errors import BadInput
from memkit.lm.batching import padded, positions
from memkit.lm.checks import check_count
from memkit.lm.hooks import capture

if TYPE_CHECKING:
    from memkit.lm.model import LM
    from memkit.types import Fact

__all__ = ["DINM", "gaps"]

LEARNT = 1e-4  # the loss at which the published code ends


@dataclass(frozen=True, kw_only=True)
class DINM(Editor):
    """Tune the layer in which safe and unsafe responses differ most towards the safe ones.

    layer: counted from 0; None is located on the facts, each of which then has its `previous`.
    steps: of Adam, fewer where the loss falls below 1e-4.
    lr: Adam's learning rate.
    edit_weight: c above, of the safe responses beside KL.
    control: the texts of KL; without any, 8 paragraphs of the built-in sample, of up to 64 tokens.

    The report's details: "loss" of each fact (nats a token of its target), "kl" and "steps".

    Raises `BadInput` for values that are not allowed.
    """

    layer: int | None = None
    steps: int = 10
    lr: float = 5e-4
    edit_weight: float = 0.1
    control: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the numbers and the texts."""
        super().__post_init__()
        check_count("steps", self.steps)
        check_number("lr", self.lr, zero=False)
        check_number("edit_weight", self.edit_weight, zero=False)
        check_control(self.control)

    def fitted(self, lm: LM, facts: Sequence[Fact]) -> tuple[Self, dict[str, str]]:
        """The editor with its layer located.

        Raises `BadInput` for a fact without `previous`, if there is a layer to locate.
        """
        if self.layer is not None:
            return self, {}
        found = gaps(lm, facts)
        layer = max(range(len(found)), key=found.__getitem__)
        figures = ", ".join(f"{gap:.3g}" for gap in found)
        why = f"safe and unsafe responses are furthest apart in it; by layer: {figures}"
        return replace(self, layer=layer), {"layer": f"{layer} of 0 to {len(found) - 1} ({why})"}

    def write(self, draft: Draft) -> Made:
        """Train on the facts of the draft."""
        lm, layer = draft.lm, self.layer
        assert layer is not None
        rows = [fact_example(lm, fact) for fact in draft.facts]
        control = Control.of(draft, self.control)  # before the weights change

        def loss(batch: Sequence[int]) -> tuple[Tensor, list[bool]]:
            values, right = losses(lm, [rows[i] for i in batch])
            return self.edit_weight * values + control.divergence(), right

        plan = Plan(self.lr, self.steps, len(rows), LEARNT, stop_at_argmax=False)
        with draft.training([f"{lm.layout.site(lm.model, layer).name}.weight"]) as parameters:
            steps = train(parameters, loss, len(rows), plan)
        with torch.no_grad():
            values, _ = losses(lm, rows)
            kl = float(control.divergence())
        return Made(details=[{"loss": float(v), "kl": kl, "steps": steps} for v in values])


@torch.no_grad()
def gaps(lm: LM, facts: Sequence[Fact]) -> list[float]:
    """How far a fact's target and its `previous` are apart in each layer, the mean over facts.

    The distance (L2) of the mean hidden states over either response, after the fact's prompt.

    Raises `BadInput` for a fact without `previous`, and for one that is too long with it.
    """
    totals = [0.0] * len(lm.layout.layers(lm.model))
    for fact in facts:
        if fact.previous is None:
            raise BadInput(
                f"the fact {fact.text!r} has no previous; allowed: with the unsafe response (what "
                "is to be forgotten) in it, to locate a layer. Give it one, make facts with "
                "memkit.erasing, or pass DINM(layer=...)."
            )
        pair = [fact_example(lm, fact), fact_example(lm, replace(fact, target=fact.previous))]
        for layer, means in enumerate(_means(lm, pair)):
            totals[layer] += float((means[0] - means[1]).norm()) / len(facts)
    return totals


def _means(lm: LM, rows: Sequence[Example]) -> list[Tensor]:
    """Of each layer the mean hidden state over the responses, [rows, width]."""
    whole = [[*row.given, *row.target] for row in rows]
    longest = max(map(len, whole))
    if longest > lm.window:
        raise BadInput(
            f"a response has {longest} tokens with its prompt; allowed: {lm.window}, the model's "
            "window. Shorten it."
        )
    ids, mask = padded(whole, lm.device, left=False)
    with contextlib.ExitStack() as stack:
        seen = [stack.enter_context(capture(layer)) for layer in lm.layout.layers(lm.model)]
        lm.model(input_ids=ids, attention_mask=mask, position_ids=positions(mask), use_cache=False)
    spans = [slice(len(row.given), len(row.given) + len(row.target)) for row in rows]
    return [
        torch.stack([states[i, span].double().mean(dim=0) for i, span in enumerate(spans)])
        for (states,) in seen
    ]
