"""v*: the vector at a subject that makes a model say a target. Shared by ROME and its kin.

For each fact a vector delta is added to what layer l gives at the subject's last token, in every
context c and in a drift prompt "{subject} is a", and is found by Adam on

    mean_c [ -(1/T) sum_t log p(y_t | c, prompt, y_<t) ]
        + drift * KL(p_delta || p_0) + decay * ||delta|| / ||v0||^2

(Meng et al. 2022, ROME, eq. 4; the KL at the subject's last token of the drift prompt and the norm
not squared, as in the published code). After a step delta is cut to clamp * ||v0||; a fact whose
loss is below `stop` is done. n steps are n evaluations and n - 1 updates.

The lower layers and the columns before the subject's end are computed once (`memkit.lm.tail`), all
facts and contexts go through the rest in one batch, the vocabulary head sees only the places that
the loss needs, and a fact that is done costs nothing more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from memkit.editors.tokens import Row, drift_row, row, target_ids
from memkit.editors.training import check_number
from memkit.lm.checks import check_count
from memkit.lm.hooks import add_to_output, capture
from memkit.lm.tail import Tail, aligned
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.lm.layouts import Site
    from memkit.lm.model import LM

__all__ = ["Objective", "Value", "find_values"]

Place = Literal["mlp", "stream"]
ROWS = 512  # that go through the model at once


@dataclass(frozen=True, slots=True)
class Objective:
    """The settings of the search; each has a sentence in the module's docstring."""

    steps: int = 20
    lr: float = 0.5
    clamp: float = 4.0
    decay: float = 0.5
    drift: float = 0.0625
    stop: float = 0.05

    def __post_init__(self) -> None:
        """Check that there is an evaluation, and that nothing is negative."""
        check_count("steps", self.steps)
        for name in ("lr", "clamp", "decay", "drift", "stop"):
            check_number(name, getattr(self, name), zero=True, infinite=True)


@dataclass(frozen=True, slots=True)
class Value:
    """What was found for a fact, in float32: the clean vector v0 [d_out] and delta [d_out].

    `first` and `last` are the losses (nats) of the first and the last evaluation, `steps` how many
    evaluations there were.
    """

    clean: Tensor
    delta: Tensor
    first: float
    last: float
    steps: int

    @property
    def target(self) -> Tensor:
        """v* = v0 + delta."""
        return self.clean + self.delta


def find_values(
    lm: LM,
    facts: Sequence[Fact],
    contexts: Sequence[str],
    layer: int,
    objective: Objective,
    place: Place,
) -> list[Value]:
    """v* of each fact at a layer, at the MLP's output ("mlp") or the residual stream ("stream").

    v0 is the vector in the first context. The model is only read. Facts do not influence each
    other: the result is that of one fact at a time, up to floating point. Where the device's memory
    does not hold a batch of them, half of it is tried.
    """
    size = min(len(facts), max(1, ROWS // (len(contexts) + 1)))
    found: list[Value] = []
    while len(found) < len(facts):
        some = facts[len(found) : len(found) + size]
        try:
            found += _Search(lm, some, contexts, layer, objective, place).values()
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size = (size + 1) // 2
    return found


class _Search:
    """One batch of facts: rows are contexts, then the drift prompt, fact after fact."""

    def __init__(
        self,
        lm: LM,
        facts: Sequence[Fact],
        contexts: Sequence[str],
        layer: int,
        objective: Objective,
        place: Place,
    ) -> None:
        self.lm, self.objective = lm, objective
        rows: list[Row] = []
        for fact in facts:
            target = target_ids(fact, lm)
            rows += [row(lm, fact, context, target) for context in contexts]
            rows.append(drift_row(lm, fact))
        self.each = len(contexts) + 1
        layout = aligned([r.ids for r in rows], [r.subject for r in rows], lm.device)
        site = lm.layout.site(lm.model, layer)
        # Where a norm follows the MLP, the layer itself is run, with delta added inside
        self.inside: Site | None = None
        if place == "mlp" and not lm.layout.adds_last(lm.model):
            self.inside = site
        with capture(site.module) as outputs:
            self.tail = Tail.of(lm, layout, layer if self.inside else layer + 1)
        if place == "mlp":
            output = outputs[0].reshape(*layout.ids.shape, -1)
            clean = output[:: self.each, layout.start]
        else:
            clean = self.tail.hidden[:: self.each, 0]
        self.clean = clean.float()
        self._index_targets(rows)

    def _index_targets(self, rows: Sequence[Row]) -> None:
        """For each target token: its row, column in the tail, id, and weight in the loss."""
        picked = [
            (number, len(r.ids) - len(r.target) + t - r.subject, token, 1 / len(r.target))
            for number, r in enumerate(rows)
            for t, token in enumerate(r.target)
        ]
        device = self.lm.device
        owner, column, token, weight = zip(*picked, strict=True)
        self.owner, self.column = torch.tensor(owner).to(device), torch.tensor(column).to(device)
        self.token = torch.tensor(token).to(device)
        self.weight = torch.tensor(weight).to(device) / (self.each - 1)

    def values(self) -> list[Value]:
        """Run the search to its end."""
        count, goal = len(self.clean), self.objective
        delta = torch.zeros_like(self.clean, requires_grad=True)
        adam = torch.optim.Adam([delta], lr=goal.lr)
        limit = goal.clamp * self.clean.norm(dim=1, keepdim=True)
        live = torch.arange(count, device=delta.device)
        first, last = torch.zeros(count), torch.zeros(count)
        steps = torch.zeros(count, dtype=torch.long)
        clean_drift: Tensor | None = None
        state = self._view(live)
        for step in range(goal.steps):
            nll, drift = self._forward(state, delta[live])
            if clean_drift is None:
                clean_drift = drift.detach()
            divergence = (drift.exp() * (drift - clean_drift[live])).sum(dim=1)
            size = delta[live].norm(dim=1) / self.clean[live].norm(dim=1).square()
            loss = nll + goal.drift * divergence + goal.decay * size
            seen = loss.detach().cpu()
            at = live.cpu()
            last[at], steps[at] = seen, step + 1
            if step == 0:
                first[at] = seen
            going = (seen >= goal.stop).to(live.device)
            if step + 1 == goal.steps or not going.any():
                break
            held = delta.detach().clone()
            adam.zero_grad()
            loss[going].sum().backward(inputs=[delta])
            adam.step()
            with torch.no_grad():
                delta.mul_((limit / delta.norm(dim=1, keepdim=True).clamp(min=1e-30)).clamp(max=1))
                done = torch.ones(count, dtype=torch.bool, device=delta.device)
                done[live[going]] = False
                delta[done] = held[done]
            if not going.all():
                live = live[going]
                state = self._view(live)
        found = zip(self.clean, delta.detach(), first, last, steps, strict=True)
        return [Value(v0, d, float(f), float(z), int(n)) for v0, d, f, z, n in found]

    def _view(self, live: Tensor) -> _View:
        """What the next evaluations run: the rows and target places of the live facts."""
        offsets = torch.arange(self.each, device=live.device)
        rows = (live[:, None] * self.each + offsets).reshape(-1)
        renumbered = torch.full((len(self.tail.hidden),), -1, device=live.device)
        renumbered[rows] = torch.arange(len(rows), device=live.device)
        owner = renumbered[self.owner]
        kept = owner >= 0
        whole = len(rows) == len(self.tail.hidden)
        return _View(
            self.tail if whole else self.tail.select(rows),
            owner[kept],
            self.column[kept],
            self.token[kept],
            self.weight[kept],
        )

    def _forward(self, view: _View, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Mean target loss of each live fact, [live], and its drift log-probabilities."""
        layout, model = self.lm.layout, self.lm.model
        moved = delta.repeat_interleave(self.each, dim=0).to(view.tail.hidden.dtype)
        with self._moving(moved):
            hidden = view.tail.hidden
            if self.inside is None:
                first = hidden[:, :1] + moved[:, None]
                hidden = torch.cat([first, hidden[:, 1:]], dim=1)
            final = view.tail.run(hidden)
        wanted = torch.cat([final[view.owner, view.column], final[self.each - 1 :: self.each, 0]])
        logs = layout.logits(model, wanted).float().log_softmax(dim=-1)
        count = len(view.owner)
        terms = -logs[:count].gather(1, view.token[:, None])[:, 0] * view.weight
        nll = terms.new_zeros(len(delta)).index_add(0, view.owner // self.each, terms)
        return nll, logs[count:]

    @contextlib.contextmanager
    def _moving(self, moved: Tensor) -> Iterator[None]:
        if self.inside is None:
            yield
            return
        with add_to_output(self.inside.module, moved, 0):
            yield


@dataclass(frozen=True, slots=True)
class _View:
    """Some facts' rows, and the places where their targets are predicted."""

    tail: Tail
    owner: Tensor
    column: Tensor
    token: Tensor
    weight: Tensor
