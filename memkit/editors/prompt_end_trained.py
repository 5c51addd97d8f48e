"""What Defer and Memory share: tensors over a map, trained further with every step."""

from __future__ import annotations

import abc
import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memkit.editors.base import Draft, Made, Step
from memkit.editors.prompt_end import PromptEndAdaptor, PromptEndEditor
from memkit.editors.training import Example, Plan, fact_example, losses, train

__all__ = ["TrainedAdaptor", "TrainedEditor", "linear"]

BATCH = 100  # facts in a step of Adam


@dataclass(frozen=True, kw_only=True)
class TrainedEditor(PromptEndEditor):
    """An editor that trains its adaptor's tensors on the facts of a step, all together.

    Training ends when the facts are learnt by the adaptor as it is used afterwards: `stop_loss`.
    Each step goes on from the tensors of the one before it, with a new state of Adam, and keeps
    them whole, so that steps can be undone from the newest on and not removed from among others.
    The report's details: "loss" of each fact at the end, and "steps" of Adam.
    """

    lr: float = 0.1

    def write(self, draft: Draft) -> Made:
        """Train on the facts of the draft."""
        adaptor = draft.adaptor
        assert isinstance(adaptor, TrainedAdaptor)
        rows = [fact_example(draft.lm, fact, end=self.end) for fact in draft.facts]
        plan = Plan(self.lr, self.steps, BATCH, stop_loss=0.0, stop_at_argmax=True)
        with adaptor.training(self.seed) as tensors:
            steps = train(
                tensors,
                lambda batch: self._losses(adaptor, [rows[i] for i in batch]),
                len(rows),
                plan,
            )
        details: list[Mapping[str, float]] = []
        with torch.no_grad():
            for start in range(0, len(rows), BATCH):
                figures, _ = losses(draft.lm, rows[start : start + BATCH])
                details += [{"loss": figure, "steps": steps} for figure in figures.tolist()]
        return Made(details, state=dict(adaptor.tensors))

    def _losses(
        self, adaptor: TrainedAdaptor, rows: Sequence[Example]
    ) -> tuple[Tensor, list[bool]]:
        """The loss of each fact, and whether it is learnt."""
        values, learnt = losses(adaptor.lm, rows)
        if all(self._done(values, learnt)):
            with torch.no_grad(), adaptor.used():
                learnt = self._done(*losses(adaptor.lm, rows))
        else:
            learnt = [False] * len(rows)
        return values, learnt

    def _done(self, values: Tensor, right: Sequence[bool]) -> list[bool]:
        pairs = zip(values.tolist(), right, strict=True)
        return [first and value < self.stop_loss for value, first in pairs]


class TrainedAdaptor(PromptEndAdaptor):
    """Tensors by name, those of the newest step; none before the first one, which does nothing.

    `soft` is true while they are trained, for what is decided by a threshold afterwards.
    """

    whole: ClassVar[bool] = True
    soft = False
    tensors: Mapping[str, Tensor] = {}

    @abc.abstractmethod
    def initial(self, generator: torch.Generator) -> dict[str, Tensor]:
        """The tensors to start from, float32, on the CPU."""

    @contextlib.contextmanager
    def training(self, seed: int) -> Iterator[list[Tensor]]:
        """The tensors, open for training within the block."""
        start = self.tensors or self.initial(torch.Generator().manual_seed(seed))
        device = self.site.weight.device
        self.tensors = {
            name: tensor.detach().to(device, copy=True).requires_grad_(True)
            for name, tensor in start.items()
        }
        self.soft = True
        try:
            yield list(self.tensors.values())
        finally:
            self.soft, self.decided = False, None
            self.tensors = {name: tensor.detach() for name, tensor in self.tensors.items()}

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Within the block it does what it does after training."""
        self.soft, before = False, self.soft
        try:
            yield
        finally:
            self.soft = before

    @torch.inference_mode(False)
    def rebuild(self, steps: Sequence[Step]) -> None:
        """Take the tensors of the newest step."""
        device = self.site.weight.device
        self.tensors = {name: tensor.to(device) for name, tensor in steps[-1].state.items()}
        self.decided = None


def linear(generator: torch.Generator, d_out: int, d_in: int) -> tuple[Tensor, Tensor]:
    """Weight [d_out, d_in] and bias [d_out], uniform within 1/sqrt(d_in), as torch's own start."""
    bound = 1 / math.sqrt(d_in)
    weight = torch.empty(d_out, d_in).uniform_(-bound, bound, generator=generator)
    return weight, torch.empty(d_out).uniform_(-bound, bound, generator=generator)
