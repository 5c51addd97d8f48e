"""The runs of causal tracing: clean, corrupted, and corrupted with some states restored.

One clean and one corrupted pass of each fact are kept. A restored run starts from the corrupted
states that go into the first restored layer, at the subject's first token (`memkit.lm.tail`): the
layers below and the columns before are not computed again. Noise draws and restored places are
rows of one batch.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from memkit.editors.tokens import Row
from memkit.lm.hooks import capture, put_into_output
from memkit.lm.tail import Aligned, Tail, aligned
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["KINDS", "LAST_SUBJECT", "POSITIONS", "ROWS", "Kind", "Runs", "deviation", "draw"]

Kind = Literal["stream", "mlp", "attention"]
Floats = npt.NDArray[np.float64]

KINDS: tuple[Kind, ...] = ("stream", "mlp", "attention")
POSITIONS = (
    "first subject token",
    "middle subject tokens",
    "last subject token",
    "first subsequent token",
    "further tokens",
    "last token",
)
LAST_SUBJECT = POSITIONS.index("last subject token")
ROWS = 256  # that go through the model at once


@torch.no_grad()
def deviation(lm: LM, rows: Sequence[Row]) -> float:
    """Standard deviation of the input embeddings' entries, over the rows' subject tokens."""
    subjects = [token for r in rows for token in r.ids[r.first : r.subject + 1]]
    embedded = lm.model.get_input_embeddings()(torch.tensor(subjects, device=lm.device))
    return float(embedded.float().std())


def draw(lm: LM, fact: Fact, tokens: int, samples: int, seed: int) -> Tensor:
    """Standard normal noise [samples, tokens, width], the same for a fact whatever is beside it."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {fact.text}".encode()))
    width = lm.model.get_input_embeddings().weight.shape[1]
    return torch.randn(samples, tokens, width, generator=generator)


class Runs:
    """The clean and the corrupted run of some facts, from which restored runs start.

    `rows` are the facts with their targets, `noise` [samples, subject tokens, width] for each what
    is added to its subject's input embeddings. Columns count from a fact's first subject token.

    `clean` [facts] and `corrupted` [facts, samples] are the targets' probabilities.
    """

    @torch.no_grad()
    def __init__(self, lm: LM, rows: Sequence[Row], noise: Sequence[Tensor]) -> None:
        self.lm, self.rows, self.samples = lm, rows, len(noise[0])
        layout = aligned([r.ids for r in rows], [r.first for r in rows], lm.device)
        self._index_targets()
        self.layers = list(lm.layout.layers(lm.model))
        with contextlib.ExitStack() as stack:
            seen = {
                kind: [
                    stack.enter_context(capture(self._module(kind, layer)))
                    for layer in range(len(self.layers))
                ]
                for kind in KINDS
            }
            whole = Tail.of(lm, layout, 0)
        shape = (*layout.ids.shape, -1)
        self.states = {
            kind: [outputs[0].reshape(shape)[:, layout.start :] for outputs in of_kind]
            for kind, of_kind in seen.items()
        }
        entering = [whole.hidden, *self.states["stream"]]
        self.tails = [
            replace(whole, layers=whole.layers[n:], calls=whole.calls[n:], hidden=entering[n])
            for n in range(len(self.layers))
        ]
        every = torch.arange(len(rows), device=lm.device)
        self.clean = self._probability(entering[-1], every)
        self.entering, leaving = self._corrupt(layout, noise)
        owner = every.repeat_interleave(self.samples)
        self.corrupted = self._probability(leaving, owner).reshape(-1, self.samples)

    def effects(self, kind: Kind, window: int) -> Floats:
        """Indirect effects [facts, layers, positions], with positions as in `POSITIONS`.

        The window is that of the published code: layers l - window // 2 and up. An effect is a mean
        over the position's tokens, NaN where the fact has none.
        """
        tokens = [len(r.ids) - len(r.target) + 1 - r.first for r in self.rows]
        owners = np.repeat(np.arange(len(tokens)), tokens)
        columns = torch.cat([torch.arange(count) for count in tokens])
        where = functional.one_hot(columns, self.entering[0].shape[1]).bool().to(self.lm.device)
        owner = torch.from_numpy(owners).to(self.lm.device)
        depth = len(self.layers)
        restored = np.empty((depth, len(owners)))
        for layer in range(depth):
            low, high = layer - window // 2, layer + (window + 1) // 2
            layers = range(max(0, low), min(depth, high))
            restored[layer] = self.restored(kind, layers, owner, where).cpu()
        corrupted = self.corrupted.mean(dim=1).double().cpu().numpy()
        effects = np.full((len(tokens), depth, len(POSITIONS)), np.nan)
        for number, (r, count) in enumerate(zip(self.rows, tokens, strict=True)):
            own = restored[:, owners == number] - corrupted[number]
            for place, part in enumerate(_parts(r.subject - r.first + 1, count)):
                if part:
                    effects[number, :, place] = own[:, part].mean(axis=1)
        return effects

    @torch.no_grad()
    def restored(self, kind: Kind, layers: Sequence[int], owner: Tensor, where: Tensor) -> Tensor:
        """The targets' probabilities in restored runs, [runs], each a mean over the noise draws.

        Run r is of fact `owner[r]`, and gets the clean states of a kind in these layers (rising,
        without a gap) at the columns where `where[r]` [columns] is true.
        """
        found = []
        for some in torch.arange(len(owner), device=owner.device).split(
            max(1, ROWS // self.samples)
        ):
            draws = torch.arange(self.samples, device=owner.device).repeat(len(some))
            fact = owner[some].repeat_interleave(self.samples)
            place = where[some].repeat_interleave(self.samples, dim=0)
            hidden = self.entering[layers[0]][fact * self.samples + draws]
            with contextlib.ExitStack() as stack:
                for layer in layers:
                    values = self.states[kind][layer][fact]
                    stack.enter_context(put_into_output(self._module(kind, layer), values, place))
                leaving = self.tails[layers[0]].select(fact).run(hidden)
            found.append(self._probability(leaving, fact).reshape(-1, self.samples).mean(dim=1))
        return torch.cat(found)

    def _module(self, kind: Kind, layer: int) -> nn.Module:
        """What gives the states of a kind."""
        if kind == "stream":
            return self.layers[layer]
        projection: Literal["down", "attention"] = "down" if kind == "mlp" else "attention"
        return self.lm.layout.site(self.lm.model, layer, projection).module

    def _index_targets(self) -> None:
        """Each target token's column and id, [facts, tokens], and whether there is one."""
        rows, most = self.rows, max(len(r.target) for r in self.rows)
        columns = torch.zeros(len(rows), most, dtype=torch.long)
        tokens, there = torch.zeros_like(columns), torch.zeros(len(rows), most, dtype=torch.bool)
        for number, r in enumerate(rows):
            count = len(r.target)
            columns[number, :count] = torch.arange(count) + len(r.ids) - count - r.first
            tokens[number, :count] = torch.tensor(r.target)
            there[number, :count] = True
        device = self.lm.device
        self.columns, self.tokens = columns.to(device), tokens.to(device)
        self.there = there.to(device)

    def _corrupt(self, layout: Aligned, noise: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """The corrupted states that go into each layer, and those that leave the last one.

        [facts x samples, columns, width].
        """
        model, times, start = self.lm.model, self.samples, layout.start
        embedded = model.get_input_embeddings()(layout.ids).repeat_interleave(times, dim=0)
        for number, draws in enumerate(noise):
            rows = slice(number * times, (number + 1) * times)
            embedded[rows, start : start + draws.shape[1]] += draws.to(embedded)
        with contextlib.ExitStack() as stack:
            seen = [stack.enter_context(capture(layer, "input")) for layer in self.layers]
            leaving = stack.enter_context(capture(self.layers[-1]))
            model(
                inputs_embeds=embedded,
                attention_mask=layout.mask.repeat_interleave(times, dim=0),
                position_ids=layout.positions.repeat_interleave(times, dim=0),
                use_cache=False,
                logits_to_keep=1,
            )
        return [inputs[0][:, start:] for inputs in seen], leaving[0][:, start:]

    def _probability(self, leaving: Tensor, owner: Tensor) -> Tensor:
        """The targets' probabilities, [rows] in float32, from the states after the last layer."""
        rows = torch.arange(len(owner), device=owner.device)[:, None]
        states = leaving[rows, self.columns[owner]]
        logits = self.lm.layout.logits(self.lm.model, states).float()
        chosen = logits.gather(-1, self.tokens[owner][..., None])[..., 0]
        logs = (chosen - logits.logsumexp(dim=-1)) * self.there[owner]
        return logs.sum(dim=1).exp()


def _parts(subject: int, tokens: int) -> list[list[int]]:
    """The columns of each of `POSITIONS`, where the first `subject` ones are the subject's.

    A subject of one token is its own first and last; the token after it, or its own last, can be
    the prompt's last too. So in the published code.
    """
    columns = list(range(tokens))
    return [
        columns[:1],
        columns[1 : subject - 1],
        columns[subject - 1 : subject],
        columns[subject : subject + 1],
        columns[subject + 1 : -1],
        columns[-1:],
    ]
