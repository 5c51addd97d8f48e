"""MEND, model editor networks with gradient decomposition (Mitchell, Lin, Bosselut, Finn and
Manning, ICLR 2022, arXiv:2110.11309).

Idea. The gradient of a fact's loss with respect to a weight is of low rank: a sum over tokens of
delta x^T. A small network, trained for the model, turns these factors into those of an edit that
generalises and leaves the rest alone (`memkit.editors.mend_network`, `mend_training`). There are no
networks to download: `MEND().train(lm, facts, locality=..., out=folder)` makes them.

Departures from the published code:
- The edit is W - alpha G, as in the paper; the code adds, and has to learn the sign.
- With `at="base"` the factors are always those of the model without this handle's edits. Networks
  know nothing else: on a model that was edited before, the factors leave the range that they were
  trained on, and a sequence of edits blows up. n edits are then one sum, in whatever order they
  came. "current" takes the model as it is.
- See `mend_training` for the training.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from memkit.editors.base import Draft, Editor, Made, original, untouched_state
from memkit.editors.tokens import check_facts
from memkit.editors.training import Example, check_number, fact_example, losses
from memkit.errors import BadInput, FingerprintMismatch, NotTrained
from memkit.files import building, sha256
from memkit.lm.checks import check_count
from memkit.lm.fingerprint import config_hash, tensor_hash
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.editors.mend_network import Networks
    from memkit.lm.layouts import Kind, Projection, Site
    from memkit.lm.model import LM

__all__ = ["MEND"]

FORMAT = 1
CARD, TENSORS = "mend.json", "networks.safetensors"
LAYERS = 3  # the last ones, as in most published settings
HELD = 0.1  # of the facts, for validation
# published: MEND's repository (GPT2-XL, GPT-J), EasyEdit (LLaMA-2)
PRESETS = {
    "gpt2-xl": (45, 46, 47),
    "gpt-j-6b": (25, 26, 27),
    "llama-2-7b": (29, 30, 31),
}


@dataclass(frozen=True, kw_only=True)
class MEND(Editor):
    """Write facts by networks that were trained to edit; `train` comes first.

    networks: the folder of the trained networks, which `train` fills in.
    layers: of each stack, counted from 0. None: the known model's preset, else the last three.
    projections: maps of each of these layers' MLPs.
    stacks: of an encoder-decoder; None is both.
    at: "base" or "current", see above.

    Of the training:

    rank: of the networks' matrices, at most d_in + d_out.
    normalise: z-scores go into the networks, and stay in the edit.
    alpha: the first scale of an edit, learnt for each matrix.
    lr, lr_alpha: Adam's rates, of the networks and of the alphas.
    edit_weight, locality_weight: c_e and c_loc.
    edits_per_batch: facts that are edited at once; as many as the edits will be used with is best.
    accumulate: batches in a step of Adam.
    clip: bound on the gradient's norm.
    steps: of Adam, at most.
    evaluate: steps between two measurements on the held-out facts, which are saved too.
    patience: training ends after so many steps without a better one.

    Published settings: lr 1e-6, edits_per_batch 1, up to 100,000 steps, patience 2,000 (of Adam);
    the defaults are for minutes.

    The report's details: "loss" of each fact by the edited model (nats a token), and "tokens", the
    rank of its change. Raises `BadInput` for values that are not allowed.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("decoder", "encoder-decoder", "masked", "classifier")

    networks: str | None = None
    layers: tuple[int, ...] | None = None
    projections: tuple[Projection, ...] = ("up", "down")
    stacks: tuple[str, ...] | None = None
    at: Literal["base", "current"] = "base"
    rank: int = 1920
    normalise: bool = True
    alpha: float = 1e-4
    lr: float = 5e-4
    lr_alpha: float = 1e-4
    edit_weight: float = 0.1
    locality_weight: float = 1.0
    edits_per_batch: int = 8
    accumulate: int = 1
    clip: float = 100.0
    steps: int = 2_000
    evaluate: int = 100
    patience: int = 1_000

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.at not in ("base", "current"):
            raise BadInput(f"at is {self.at!r}; allowed: 'base' or 'current'. Choose one.")
        counts = ("rank", "edits_per_batch", "accumulate", "steps", "evaluate", "patience")
        for name in counts:
            check_count(name, getattr(self, name))
        for name in ("lr", "lr_alpha", "clip"):
            check_number(name, getattr(self, name), zero=False)
        for name in ("alpha", "edit_weight", "locality_weight"):
            check_number(name, getattr(self, name), zero=True)
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
        locality: Sequence[Fact] | None = None,
        validation: Sequence[Fact] | None = None,
        out: str | os.PathLike[str],
        replace: bool = False,
    ) -> Self:
        """Train networks for a model, write them to the folder `out`, and give the editor with it.

        `facts` are edits like those that will be made, with paraphrases. `locality` is what must
        stay, prompts and targets of any kind; None: the facts' own locality. `validation` are facts
        that are held out; None: a tenth of the facts. A training that was killed goes on from its
        last measurement when it is called again with the same arguments: the result is the same.
        The model is as it was.

        Raises `BadInput` for facts that cannot be written, too few of them, no locality, or if
        `out` exists and `replace` is false.
        """
        from memkit.editors.mend_training import Course, lessons

        editor, _ = self._placed(lm)
        taught, held = _divided(lm, facts, validation, self.seed)
        examples = _locality(lm, taught if locality is None else locality, own=locality is None)
        if Path(out).exists() and not replace:
            raise BadInput(
                f"{str(out)!r} exists; allowed: a folder that does not exist yet. Choose another, "
                "or pass replace=True."
            )
        sites = editor._sites(lm)
        grads = torch.inference_mode(False), torch.enable_grad()
        with untouched_state(lm, self.seed), grads[0], grads[1]:
            networks = editor._fresh(sites).to(lm.device)
            course = Course(
                lm, editor, sites, networks, lessons(lm, taught), lessons(lm, held), examples
            )
            origin = _origin(lm, sites)
            digest = hashlib.sha256(f"{course.digest()} {origin}".encode()).hexdigest()
            kept = Path(out).with_name(f".{Path(out).name}.{digest[:16]}")
            best = course.run(kept)
        card = {
            "format": FORMAT,
            "editor": repr(editor),
            "base": origin,
            "steps": course.step,
            "curve": [dataclasses.asdict(row) for row in course.curve],
        }
        _write(out, best, card, replace)
        return dataclasses.replace(editor, networks=str(out))

    def fitted(self, lm: LM, facts: Sequence[Fact]) -> tuple[Self, dict[str, str]]:
        """The editor with its layers. Raises `NotTrained` before `train`."""
        if self.networks is None:
            raise NotTrained(
                "MEND has no networks yet; allowed: an editor that train() returned. Call "
                "MEND(...).train(lm, facts, locality=..., out=folder) and apply what it returns."
            )
        return self._placed(lm)

    def write(self, draft: Draft) -> Made:
        """Write the draft's facts, each by factors of its own."""
        from memkit.editors.mend_network import factors
        from memkit.editors.mend_training import lessons

        lm = draft.lm
        sites = self._sites(lm)
        networks: Networks = draft.once(("networks", self.networks), lambda: self._load(lm, sites))
        rows = [lesson.own for lesson in lessons(lm, draft.facts)]
        with draft.base(self.at == "base"):
            found = [factors(lm, [row], sites) for row in rows]
        counts = [0] * len(rows)
        for place, site in enumerate(sites):
            with torch.no_grad():
                changes = [networks(own)[place] for own in found]
            for number, change in enumerate(changes):
                counts[number] += len(change.inputs)
            left = torch.cat([change.gradients for change in changes]).T
            right = torch.cat([change.inputs for change in changes]).T
            draft.add(site, left, right)
        return Made(_details(lm, rows, counts))

    def _placed(self, lm: LM) -> tuple[Self, dict[str, str]]:
        """The editor with its layers and stacks, and why."""
        chosen: dict[str, str] = {}
        stacks = self.stacks or tuple(lm.layout.stacks)
        layers = self.layers
        if layers is None:
            known = lm.layout.known(lm.model) or ""
            count = min(len(lm.layout.layers(lm.model, stack)) for stack in stacks)
            layers = PRESETS.get(known, tuple(range(count))[-LAYERS:])
            why = f"preset of {known}" if known in PRESETS else f"the last {len(layers)}"
            chosen["layers"] = f"{layers} ({why})"
        return replace(self, layers=layers, stacks=stacks), chosen

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

        shapes = [shape_of(site) for site in sites]
        return Networks(shapes, self.rank, self.alpha, self.normalise)

    def _load(self, lm: LM, sites: Sequence[Site]) -> Networks:
        """The trained networks.

        Raises `BadInput` if they cannot be read, `FingerprintMismatch` if they are of another
        model.
        """
        folder = Path(str(self.networks))
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            if card["format"] != FORMAT:
                raise ValueError(f"format {card['format']!r}, and memkit reads {FORMAT}")
            found = sha256(folder / TENSORS)
            if found != card["sha256"]:
                raise ValueError(f"{TENSORS} has SHA-256 {found}, and {CARD} says {card['sha256']}")
            base = dict(card["base"])
            tensors = load_file(folder / TENSORS)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise BadInput(
                f"{str(folder)!r} cannot be read as MEND's networks ({type(error).__name__}: "
                f"{error}); allowed: a folder that train() wrote. Check the path, or train again."
            ) from error
        own = _origin(lm, sites)
        for name in {**own, **base}:
            if own.get(name) != base.get(name):
                raise FingerprintMismatch(
                    f"the networks in {str(folder)!r} were trained for a model whose {name} has "
                    f"fingerprint {base.get(name, 'none')}, and this {type(lm.model).__name__} has "
                    f"{own.get(name, 'none')}; allowed: the same base model and maps. Load that "
                    "model, or train networks for this one."
                )
        networks = self._fresh(sites)
        networks.load_state_dict(tensors)
        return networks.to(lm.device).requires_grad_(False)


def _origin(lm: LM, sites: Sequence[Site]) -> dict[str, str]:
    """What the networks belong to: the config, and each map's weight without any live edit."""
    names = (f"{site.name}.weight" for site in sites)
    return {"config": config_hash(lm.model)} | {
        name: tensor_hash(original(lm, name)) for name in names
    }


def _divided(
    lm: LM, facts: Sequence[Fact], validation: Sequence[Fact] | None, seed: int
) -> tuple[list[Fact], list[Fact]]:
    """The facts to train on, and those to hold out."""
    for own in (facts, validation):
        for fact in own if own is not None else ():
            check_facts(lm, [fact])
    taught = list(facts)
    if validation is not None:
        held = list(validation)
    else:
        random.Random(seed).shuffle(taught)
        count = round(HELD * len(taught)) or 1
        taught, held = taught[count:], taught[:count]
    if not taught or not held:
        raise BadInput(
            f"{len(taught)} facts are left to train on and {len(held)} to hold out; allowed: at "
            "least one of each, hundreds are usual. Give more facts."
        )
    return taught, held


def _locality(lm: LM, facts: Sequence[Fact], *, own: bool) -> list[Example]:
    """What must stay, as examples."""
    if own:
        pairs = [pair for fact in facts for pair in fact.locality]
        facts = [Fact(prompt, prompt, expected) for prompt, expected in pairs]
    found = [fact_example(lm, fact) for fact in facts]
    if not found:
        raise BadInput(
            "locality is empty, and the facts have none of their own; allowed: at least one prompt "
            "with its target. Pass locality=[Fact(...), ...]: what must not change."
        )
    return found


def _details(lm: LM, rows: Sequence[Example], counts: Sequence[int]) -> list[dict[str, float]]:
    with torch.no_grad():
        values: list[float] = []
        for row in rows:
            (value,), _ = losses(lm, [row])
            values.append(float(value))
    return [{"loss": v, "tokens": n} for v, n in zip(values, counts, strict=True)]


def _write(
    out: str | os.PathLike[str], networks: Networks, card: dict[str, Any], replace: bool
) -> None:
    """The folder of trained networks, whole or absent."""
    tensors: dict[str, Tensor] = networks.state_dict()
    with building(out, replace=replace) as folder:
        contiguous = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        save_file(contiguous, folder / TENSORS)
        card = {**card, "sha256": sha256(folder / TENSORS)}
        (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
