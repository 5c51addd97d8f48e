"""MEND, model editor networks with gradient decomposition (Mitchell, Lin, Bosselut, Finn and
Manning, ICLR 2022, arXiv:2110.11309).

Idea. The gradient of a fact's loss with respect to a weight is of low rank: a sum over tokens of
delta x^T. A small network, trained for the model, turns these factors into those of an edit that
generalises and leaves the rest alone (`memkit.editors.mend_network`, `mend_training`). There are no
networks to download: `MEND().train(lm, facts, locality=..., out=folder)` makes them.

Departures from the published code:
- The edit is W - alpha G, as in the paper; the code adds, and has to learn the sign.
- With `at="base"` the factors are always those of the model without live edits. Networks know
  nothing else: on a model that was edited before, the factors leave the range that they were
  trained on, and a sequence of edits blows up. n edits are then one sum, in whatever order they
  came. "current" takes the model as it is.
- Of a gated MLP the gate is not edited; EasyEdit's settings for LLaMA-2 have it too.
- See `mend_training` for the training.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch

from memkit.editors.base import Draft, Editor, Made
from memkit.editors.choice import choose
from memkit.editors.prompt_end import check_choice
from memkit.editors.tokens import check_facts
from memkit.editors.training import Example, check_number, fact_example, losses
from memkit.editors.untouched import untouched_state
from memkit.errors import BadInput, FingerprintMismatch, NotTrained
from memkit.lm.checks import check_count
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.editors.mend_network import Networks
    from memkit.lm.layouts import Kind, Projection, Site
    from memkit.lm.model import LM

__all__ = ["MEND"]

HELD = 0.1  # of the facts' subjects, for validation
ROWS = 32  # facts that go through the model at once
CHOSEN = ("rank", "lr", "edit_weight", "steps")  # for the model, where they are None
TRAINED = ("layers", "projections", "stacks", "rank", "normalise")  # what networks are made for


@dataclass(frozen=True, kw_only=True)
class MEND(Editor):
    """Write facts by networks that were trained to edit; `train` comes first.

    networks: the folder of the trained networks, which `train` fills in.
    layers: of each stack, counted from 0. None: the known model's preset, else the last three, or
        in an encoder-decoder the last two, as in the published settings for BERT and T5.
    projections: maps of each of these layers' MLPs.
    stacks: of an encoder-decoder; None is both.
    at: "base" or "current", see above.

    Of the training; `rank`, `lr`, `edit_weight` and `steps` are the preset's where they are None:

    rank: of the networks' matrices, at most d_in + d_out.
    normalise: z-scores go into the networks, and stay in the edit.
    alpha: the first scale of an edit, learnt for each matrix.
    lr, lr_alpha: Adam's rates, of the networks and of the alphas.
    schedule: "linear": both fall to 0 at `steps`. "constant": both stay, as in the published code.
    edit_weight, locality_weight: c_e and c_loc.
    edits_per_batch: facts that are edited at once; each learns to leave the others' alone.
    accumulate: batches in a step of Adam.
    clip: bound on the gradient's norm.
    steps: of Adam, at most.
    evaluate: steps between two measurements on the held-out facts, which are saved too.
    patience: training ends after so many steps without a better one.

    Published settings: lr 1e-6, schedule "constant", edit_weight 0.1, edits_per_batch 1, accumulate
    10, up to 100,000 steps, patience 2,000 (of Adam); the presets are for minutes.

    The report's details: "loss" of each fact by the edited model, in nats a token. Raises
    `BadInput` for values that are not allowed.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("decoder", "encoder-decoder", "masked", "classifier")

    networks: str | None = None
    layers: tuple[int, ...] | None = None
    projections: tuple[Projection, ...] = ("up", "down")
    stacks: tuple[str, ...] | None = None
    at: Literal["base", "current"] = "base"
    rank: int | None = None
    normalise: bool = True
    alpha: float = 1e-4
    lr: float | None = None
    lr_alpha: float = 1e-4
    schedule: Literal["linear", "constant"] = "linear"
    edit_weight: float | None = None
    locality_weight: float = 1.0
    edits_per_batch: int = 8
    accumulate: int = 1
    clip: float = 100.0
    steps: int | None = None
    evaluate: int = 100
    patience: int = 1_000

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        check_choice("at", self.at, ("base", "current"))
        check_choice("schedule", self.schedule, ("linear", "constant"))
        counts = ("rank", "edits_per_batch", "accumulate", "steps", "evaluate", "patience")
        numbers = {"lr": False, "lr_alpha": False, "clip": False}
        numbers |= {"alpha": True, "edit_weight": True, "locality_weight": True}
        given = {name for name in CHOSEN if getattr(self, name) is not None}
        for name in counts:
            if name in given or name not in CHOSEN:
                check_count(name, getattr(self, name))
        for name, zero in numbers.items():
            if name in given or name not in CHOSEN:
                check_number(name, getattr(self, name), zero=zero)
        for name in ("layers", "projections", "stacks"):
            value, chosen = getattr(self, name), name != "projections"
            if not (isinstance(value, tuple) and value) and not (chosen and value is None):
                raise BadInput(
                    f"{name} is {value!r}; allowed: a tuple that is not empty"
                    f"{', or None' if chosen else ''}. Name some."
                )

    def train(
        self,
        lm: LM,
        facts: Sequence[Fact],
        *,
        locality: Sequence[Fact] = (),
        validation: Sequence[Fact] | None = None,
        out: str | os.PathLike[str],
        replace: bool = False,
    ) -> Self:
        """Train networks for a model, write them to the folder `out`, and give the editor with it.

        `facts` are edits like those that will be made, with paraphrases. What must stay is their
        own locality, and the prompts and targets of `locality`, of any kind. `validation` are facts
        that are held out; None: those of a tenth of the subjects. A training that was killed goes
        on from its last measurement when it is called again with the same arguments: the result is
        the same. The model is as it was.

        Raises `BadInput` for facts that cannot be written, too few of them, no locality, a model
        with live edits, or if `out` exists and `replace` is false.
        """
        from memkit.editors.mend_network import placed, write
        from memkit.editors.mend_training import Course, lessons

        editor, _ = self._fitted(lm)
        taught, held = _divided(lm, facts, validation, self.seed)
        stay = [fact_example(lm, fact) for fact in locality]
        _check_training(lm, [*taught, *held], stay, Path(out), replace)
        sites = editor._sites(lm)
        with untouched_state(lm, self.seed), torch.inference_mode(False), torch.enable_grad():
            networks = placed(editor._fresh(sites), lm.device)
            course = Course(
                lm, editor, sites, networks, lessons(lm, taught), lessons(lm, held), stay
            )
            base = lm.fingerprint()
            digest = hashlib.sha256(f"{course.digest()} {base}".encode()).hexdigest()
            kept = Path(out).with_name(f".{Path(out).name}.{digest[:16]}")
            best = course.run(kept)
            card = {"editor": repr(editor), "base": base, **course.figures()}
            write(out, best, card, replace=replace)
            course.forget(kept)
        return dataclasses.replace(editor, networks=str(out))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> MEND:
        """The editor that `train` gave when it wrote this folder.

        Raises `BadInput` if that cannot be read.
        """
        from memkit.editors.mend_network import read_card
        from memkit.editors.rebuilding import rebuilt

        editor = rebuilt(read_card(Path(folder))["editor"])
        if not isinstance(editor, MEND):
            raise BadInput(
                f"{str(folder)!r} was written by {editor!r:.80}; allowed: a folder that MEND.train "
                "wrote. Check the path."
            )
        return dataclasses.replace(editor, networks=str(folder))

    def fitted(self, lm: LM, facts: Sequence[Fact]) -> tuple[Self, dict[str, str]]:
        """The editor with its layers. Raises `NotTrained` before `train`."""
        if self.networks is None:
            raise NotTrained(
                "MEND has no networks yet; allowed: an editor that train() returned, or MEND.load. "
                "Call MEND(...).train(lm, facts, locality=..., out=folder) and apply the result."
            )
        return self._fitted(lm)

    def write(self, draft: Draft) -> Made:
        """Write the draft's facts, all at once."""
        from memkit.editors.mend_network import factors

        lm = draft.lm
        sites = self._sites(lm)
        networks = draft.once(("networks", self.networks), lambda: self._load(draft, sites))
        rows = [fact_example(lm, fact) for fact in draft.facts]
        parts = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
        with draft.base() if self.at == "base" else contextlib.nullcontext():
            found = [factors(lm, part, sites) for part in parts]
        with torch.no_grad():
            changes = [networks(part) for part in found]
            for site, made in zip(sites, zip(*changes, strict=True), strict=True):
                left = torch.cat([change.gradients for change in made]).T
                right = torch.cat([change.inputs for change in made]).T
                draft.add(site, left, right)
            figures = [float(value) for part in parts for value in losses(lm, part)[0]]
        return Made([{"loss": figure} for figure in figures])

    def _fitted(self, lm: LM) -> tuple[Self, dict[str, str]]:
        """The editor with everything that is None chosen, and why."""
        editor = replace(self, stacks=self.stacks or tuple(lm.layout.stacks))
        assert editor.stacks is not None
        count = min(len(lm.layout.layers(lm.model, stack)) for stack in editor.stacks)
        last = 3 if len(lm.layout.stacks) == 1 else 2
        return choose(editor, lm, (), "mend", layers=tuple(range(count))[-last:])

    def _sites(self, lm: LM) -> list[Site]:
        """The maps, in the order in which the networks know them."""
        assert self.layers is not None
        assert self.stacks is not None
        return [
            lm.layout.site(lm.model, layer, projection, stack)
            for stack in self.stacks
            for layer in self.layers
            for projection in self.projections
        ]

    def _fresh(self, sites: Sequence[Site]) -> Networks:
        from memkit.editors.mend_network import Networks, shape_of

        assert self.rank is not None
        shapes = [shape_of(site) for site in sites]
        return Networks(shapes, self.rank, self.alpha, self.normalise)

    def _load(self, draft: Draft, sites: Sequence[Site]) -> Networks:
        """The trained networks; kept with the model for as long as it stays the same.

        Raises `BadInput` if they cannot be read or were trained with other settings,
        `FingerprintMismatch` if they are of another model.
        """
        from memkit.editors.mend_network import placed, read_card, read_tensors

        lm, folder = draft.lm, Path(str(self.networks))
        card, trained = read_card(folder), MEND.load(folder)
        for name in TRAINED:
            if getattr(self, name) != getattr(trained, name):
                raise BadInput(
                    f"{name} is {getattr(self, name)!r}, and the networks in {str(folder)!r} were "
                    f"trained for {getattr(trained, name)!r}; allowed: the same. Take the editor "
                    "that MEND.load gives, or train again."
                )

        def load() -> Networks:
            networks = self._fresh(sites)
            networks.load_state_dict(read_tensors(folder, card["sha256"]))
            return placed(networks, lm.device).requires_grad_(False)

        with draft.base():
            if lm.fingerprint() != card["base"]:
                raise FingerprintMismatch(
                    f"the networks in {str(folder)!r} were trained for a model with fingerprint "
                    f"{card['base']}, and this {type(lm.model).__name__} has {lm.fingerprint()}; "
                    "allowed: the same base model. Load that model, or train networks for this one."
                )
            return lm.keep(("MEND", card["sha256"], card["editor"]), load)


def _divided(
    lm: LM, facts: Sequence[Fact], validation: Sequence[Fact] | None, seed: int
) -> tuple[list[Fact], list[Fact]]:
    """The facts to train on, and those to hold out."""
    for own in (facts, validation or ()):
        for fact in own:
            check_facts(lm, [fact])
    taught = list(facts)
    held = list(validation or ())
    if validation is None:
        names = sorted({fact.subject for fact in taught})
        out = set(random.Random(seed).sample(names, math.ceil(HELD * len(names))))
        held = [fact for fact in taught if fact.subject in out]
        taught = [fact for fact in taught if fact.subject not in out]
        random.Random(seed).shuffle(held)  # a part of them is measured
    if not taught or not held:
        raise BadInput(
            f"{len(taught)} facts are left to train on and {len(held)} to hold out; allowed: at "
            "least one of each, of different subjects; hundreds are usual. Give more facts."
        )
    return taught, held


def _check_training(
    lm: LM, facts: Sequence[Fact], stay: Sequence[Example], out: Path, replace: bool
) -> None:
    """Raise `BadInput` before anything is computed."""
    if lm.edits:
        raise BadInput(
            f"{lm.edits[-1]!r} is live, and networks are trained for a base model; allowed: a "
            "model without live edits. Roll it back, or pause it, and train then."
        )
    if not stay and not any(fact.locality for fact in facts):
        raise BadInput(
            "locality is empty, and the facts have none of their own; allowed: at least one prompt "
            "with its target. Pass locality=[Fact(...), ...]: what must not change."
        )
    if out.exists() and not replace:
        raise BadInput(
            f"{str(out)!r} exists; allowed: a folder that does not exist yet. Choose another, "
            "or pass replace=True."
        )
