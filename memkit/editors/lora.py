"""LoRA (Hu et al., ICLR 2022, arXiv:2106.09685), through the library peft.

Idea. Instead of a weight W [d_out, d_in], learn a low-rank addition to it:

    W' = W + (alpha / rank) B A      A [rank, d_in] random, B [d_out, rank] zero

The gradient steps are those of fine-tuning (`memkit.editors.training`): the mean loss of the
targets, with Adam. peft puts A and B beside the maps while they are trained; then they are taken
out of its hands, added to the weights, and the modules are the ones that were there before.

Published settings: rank 16, alpha 32, dropout 0.05, targets ("q_proj", "v_proj"), lr 2e-5, 2 epochs
in batches of 128 (Ext-Sub, LLaMA-7B, instructions); rank 8, alpha 32, dropout 0.1, lr 5e-3, 70
steps (EasyEdit's AdaLoRA, LLaMA-2-7B, facts).

Departures from EasyEdit's: each step of a handle is a new adapter on top of what is merged, where
there an existing one is silently trained on; plain LoRA, not AdaLoRA. From Ext-Sub's training: no
warm-up, Adam without weight decay, and no token is added to the tokenizer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch

from memkit.editors.adapter import TASKS, Adapter, fingerprint_of
from memkit.editors.base import Draft, Editor, Made
from memkit.editors.interrupts import uninterrupted
from memkit.editors.peft_folder import import_peft
from memkit.editors.steps import LowRank
from memkit.editors.training import (
    Example,
    Plan,
    check_number,
    definition_example,
    fact_example,
    losses,
    pair_example,
    train,
)
from memkit.editors.untouched import untouched_state
from memkit.errors import BadInput
from memkit.lm.checks import check_count
from memkit.lm.linear import linear_maps
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.lm.layouts import Kind, Site
    from memkit.lm.model import LM

__all__ = ["LoRA"]

Lesson = Fact | tuple[str, str] | str
TARGETS = ("up", "down")


@dataclass(frozen=True, kw_only=True)
class LoRA(Editor):
    """Low-rank adaptation of linear maps; serves every kind of model.

    rank, alpha: of the addition, which is scaled by alpha / rank.
    targets: which linear maps: "up", "down" (of the MLP), "attention" (its output), or ends of
        module names as in PEFT ("q_proj", "c_attn"). None: both maps of the MLP, where facts are.
    layers: in which layers of each stack, counted from 0. None is all.
    dropout: of the inputs of A, while training.
    end, lr, epochs, batch_size, stop_loss, stop_at_argmax: as in `FineTune`.

    Each `apply` or `add` trains a new adapter. The report's details: "loss" of each fact at the
    end, and "steps" of Adam. Raises `BadInput` for values that are not allowed,
    `MissingDependency` without peft.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("decoder", "encoder-decoder", "masked", "classifier")

    rank: int = 8
    alpha: float = 32.0
    targets: tuple[str, ...] | None = None
    layers: tuple[int, ...] | None = None
    dropout: float = 0.0
    end: bool = False
    lr: float = 5e-3
    epochs: int = 70
    batch_size: int = 100
    stop_loss: float = 1e-2
    stop_at_argmax: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        for name in ("rank", "epochs", "batch_size"):
            check_count(name, getattr(self, name))
        for name, zero in {"alpha": False, "lr": False, "dropout": True, "stop_loss": True}.items():
            check_number(name, getattr(self, name), zero=zero)
        if self.dropout >= 1:
            raise BadInput(f"dropout is {self.dropout!r}; allowed: 0 to below 1. Choose one.")
        for name in ("targets", "layers"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, tuple) and value):
                raise BadInput(
                    f"{name} is {value!r}; allowed: a tuple that is not empty, or None. Name some."
                )

    def fitted(self, lm: LM, facts: Sequence[Fact]) -> tuple[Self, dict[str, str]]:
        """The editor with its targets."""
        if self.targets is not None:
            return self, {}
        return replace(self, targets=TARGETS), {
            "targets": f"{', '.join(TARGETS)} (default: both maps of the MLP)"
        }

    def write(self, draft: Draft) -> Made:
        """Train on the draft's facts, and add what was learnt."""
        rows = [fact_example(draft.lm, fact, end=self.end) for fact in draft.facts]
        sites = linear_maps(draft.lm, self.targets or TARGETS, self.layers)
        changes, steps = self._learnt(draft.lm, sites, rows)
        for site in sites:
            draft.add(site, changes[site.name].left, changes[site.name].right)
        figures: list[float] = []
        with torch.no_grad():
            for start in range(0, len(rows), self.batch_size):
                figures += losses(draft.lm, rows[start : start + self.batch_size])[0].tolist()
        return Made([{"loss": loss, "steps": steps} for loss in figures])

    def train(self, lm: LM, lessons: Sequence[Lesson]) -> Adapter:
        """Train on facts, instructions or texts, and give the adapter; the model is as it was.

        A lesson is a `Fact` (its target after its prompt), a pair (prompt, response), of which the
        response alone is learnt, or a text, of which every token is (decoders). With live edits
        the adapter is one of the edited model.

        Raises `BadInput` for lessons that are none, or longer than the model's window.
        """
        editor, _ = self.fitted(lm, ())
        rows = [_example(lm, lesson, self.end) for lesson in _several(lessons)]
        sites = linear_maps(lm, editor.targets or TARGETS, self.layers)
        with (
            untouched_state(lm, self.seed),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            changes, steps = editor._learnt(lm, sites, rows)
        return Adapter(
            {name: LowRank(c.left.cpu(), c.right.cpu()) for name, c in changes.items()},
            base=str(getattr(lm.model.config, "_name_or_path", "") or ""),
            fingerprint=fingerprint_of(lm, list(changes)),
            source=f"LoRA of {len(rows)} lessons",
            notes={"training": f"{steps} steps by {editor!r}"},
            task=TASKS[lm.kind],
            turned=any(site.turned for site in sites),
        )

    def _learnt(
        self, lm: LM, sites: Sequence[Site], rows: Sequence[Example]
    ) -> tuple[dict[str, LowRank], int]:
        """The changes of the maps that training finds, and the steps it took."""
        plan = Plan(self.lr, self.epochs, self.batch_size, self.stop_loss, self.stop_at_argmax)
        with _injected(lm, sites, self.rank, self.alpha, self.dropout) as layers:
            pairs = [(m.lora_A["default"].weight, m.lora_B["default"].weight) for m in layers]
            parameters = [part for pair in pairs for part in pair]
            steps = train(
                parameters, lambda batch: losses(lm, [rows[i] for i in batch]), len(rows), plan
            )
        scale = self.alpha / self.rank
        changes = {
            site.name: LowRank(b.detach() * scale, a.detach().T.contiguous())
            for site, (a, b) in zip(sites, pairs, strict=True)
        }
        return changes, steps


@contextlib.contextmanager
def _injected(
    lm: LM, sites: Sequence[Site], rank: int, alpha: float, dropout: float
) -> Iterator[list[Any]]:
    """peft's layers in the place of the maps within the block; afterwards there is no trace of it.

    Their factors are float32, whatever the model's; only the adapter's dropout is in training mode.
    """
    peft = import_peft()
    model = lm.model
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=[site.name for site in sites],
        fan_in_fan_out=sites[0].turned,
    )
    places = [(model.get_submodule(site.name.rpartition(".")[0]), site) for site in sites]
    known = set(vars(model))
    try:
        peft.LoraModel(model, config, "default")
        layers: list[Any] = [model.get_submodule(site.name) for site in sites]
        for layer in layers:
            layer.eval()
            layer.lora_dropout.train()
            for factor in (layer.lora_A["default"], layer.lora_B["default"]):
                factor.weight.data = factor.weight.data.float()
        yield layers
    finally:
        with uninterrupted():
            for parent, site in places:
                setattr(parent, site.name.rpartition(".")[2], site.module)
            for name in set(vars(model)) - known:
                delattr(model, name)


def _several(lessons: Sequence[Lesson]) -> list[Lesson]:
    """The lessons as a list. Raises `BadInput` if there is none, or it is one alone."""
    if isinstance(lessons, str | Fact) or not lessons:
        raise BadInput(
            f"lessons is {lessons!r:.80}; allowed: a list of at least one Fact, (prompt, response) "
            "or text. Put one into brackets."
        )
    return list(lessons)


def _example(lm: LM, lesson: Lesson, end: bool) -> Example:
    """A lesson as token ids that fit into the window."""
    if isinstance(lesson, Fact):
        made = fact_example(lm, lesson, end=end)
    elif isinstance(lesson, str):
        return definition_example(lm, lesson, "a lesson", end=end)
    elif len(lesson) == 2 and all(isinstance(part, str) for part in lesson):
        made = pair_example(lm, *lesson, end=end)
    else:
        raise BadInput(
            f"a lesson is {lesson!r:.80}; allowed: a Fact, (prompt, response) or a text."
        )
    length = len(made.given) + (0 if lm.kind == "classifier" else len(made.target))
    if length > lm.window:
        raise BadInput(
            f"the lesson {lesson!r:.80} has {length} tokens; allowed: {lm.window}, the model's "
            "window. Shorten it."
        )
    return made
