"""How MEND's networks are trained: to edit in one application, and to leave the rest alone.

Each batch edits `edits_per_batch` facts at once, by the networks' change of the base model, and
asks the edited model for each fact by its own prompt and by one of its paraphrases, and for as many
other things, which must stay:

    L = c_e mean NLL(target | asked; W') + c_loc mean KL(p_W || p_W')     (nats a token)

over the target tokens. Adam follows the gradient of a mean over `accumulate` batches, clipped. At
times the same is measured on facts that are held out, with those of the networks kept that had the
least L there.

Source: Mitchell et al., ICLR 2022, section 3.2. Departures from the published code: it asks for a
paraphrase only, and edits one fact at a time; the statistics of the z-scores are taken of the first
facts before training and stay, where there they move on while the networks train.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from memkit.editors.cache import writing
from memkit.editors.mend_network import Networks, edited, factors
from memkit.editors.training import Example, fact_example, target_logits
from memkit.errors import BadInput
from memkit.progress import track
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.lm.layouts import Site
    from memkit.lm.model import LM

__all__ = ["Course", "Lesson", "Measured", "lessons"]

WATCHED = 1_000  # facts of which the statistics are taken
VALIDATED = 64  # facts that are measured
STATE = "training.safetensors"


@dataclass(frozen=True, slots=True)
class Lesson:
    """A fact as examples: its own prompt, its paraphrases, and its locality, which must stay."""

    own: Example
    others: tuple[Example, ...]
    stay: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """What the held-out facts gave after so many steps, in nats a token: NLL, KL and L."""

    step: int
    edit: float
    locality: float
    total: float


def lessons(lm: LM, facts: Sequence[Fact]) -> list[Lesson]:
    """The facts as examples. Raises `BadInput` as `fact_example` does."""
    made = []
    for fact in facts:
        own = fact_example(lm, fact)
        texts = (text.replace("{}", fact.subject) for text in fact.paraphrases)
        others = tuple(dataclasses.replace(own, given=tuple(lm.codec.prompt(t))) for t in texts)
        near = (Fact(prompt, prompt, expected) for prompt, expected in fact.locality)
        made.append(Lesson(own, others, tuple(fact_example(lm, other) for other in near)))
    return made


@dataclass
class Course:
    """A training: what is learnt, by what, and how far it is."""

    lm: LM
    editor: Any  # MEND, with everything chosen
    sites: Sequence[Site]
    networks: Networks
    taught: Sequence[Lesson]
    held: Sequence[Lesson]
    locality: Sequence[Example]

    def __post_init__(self) -> None:
        """Nothing is learnt yet."""
        editor = self.editor
        self.step = 0
        self.curve: list[Measured] = []
        self.best = copy.deepcopy(self.networks)
        self.optimiser = torch.optim.Adam(
            [
                {"params": list(self.networks.weights()), "lr": editor.lr},
                {"params": list(self.networks.rates()), "lr": editor.lr_alpha},
            ]
        )

    def run(self, kept: Path) -> Networks:
        """The best networks. What is needed to go on is in the folder `kept`."""
        if not self._resume(kept / STATE):
            self._watch()
            self._measure(kept)
        steps = range(self.step, self.editor.steps)
        for step in track(steps, "training MEND", total=len(steps)):
            self._learn(step)
            self.step = step + 1
            if self.step % self.editor.evaluate == 0 or self.step == self.editor.steps:
                self._measure(kept)
                if self.step - self._best().step >= self.editor.patience:
                    break
        return self.best

    def figures(self) -> dict[str, Any]:
        """How long it took, and what was measured on the way."""
        return {"steps": self.step, "curve": [dataclasses.asdict(row) for row in self.curve]}

    def forget(self, kept: Path) -> None:
        """Delete what was kept to go on."""
        shutil.rmtree(kept, ignore_errors=True)

    def digest(self) -> str:
        """Of all that a training depends on but the weights."""
        parts = (self.editor, self.taught, self.held, self.locality)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _watch(self) -> None:
        """Take the statistics."""
        size = self.editor.edits_per_batch
        seen = self.taught[:WATCHED]
        for start in track(range(0, len(seen), size), "reading factors"):
            rows = [lesson.own for lesson in seen[start : start + size]]
            self.networks.watch(factors(self.lm, rows, self.sites))

    def _learn(self, step: int) -> None:
        """One step of Adam."""
        editor = self.editor
        for turn in range(editor.accumulate):
            rng = random.Random(f"{editor.seed}/{step}/{turn}")
            size = min(editor.edits_per_batch, len(self.taught))
            batch = _distinct(rng.sample(self.taught, size))
            edit, locality = self._losses(batch, rng)
            loss = editor.edit_weight * edit + editor.locality_weight * locality
            (loss / editor.accumulate).backward()
        torch.nn.utils.clip_grad_norm_(self.networks.parameters(), editor.clip)
        left = 1 - step / editor.steps if editor.schedule == "linear" else 1.0
        rates = zip(self.optimiser.param_groups, (editor.lr, editor.lr_alpha), strict=True)
        for group, rate in rates:
            group["lr"] = rate * left
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def _losses(self, batch: Sequence[Lesson], rng: random.Random) -> tuple[Tensor, Tensor]:
        """NLL of what was edited, and KL of what was not."""
        found = factors(self.lm, [lesson.own for lesson in batch], self.sites)
        asked = [lesson.own for lesson in batch]
        asked += [rng.choice(lesson.others) for lesson in batch if lesson.others]
        others = self._others(batch, rng)
        wanted = torch.tensor([t for row in asked for t in row.target], device=self.lm.device)
        with edited(self.sites, self.networks(found)):
            logits = target_logits(self.lm, [*asked, *others]).float().log_softmax(dim=-1)
        own, after = logits.split([len(wanted), len(logits) - len(wanted)])
        edit = torch.nn.functional.nll_loss(own, wanted)
        if not others:
            return edit, torch.zeros_like(edit)
        with torch.no_grad():
            before = target_logits(self.lm, others).float().log_softmax(dim=-1)
        locality = (before.exp() * (before - after)).sum(dim=-1).mean()
        return edit, locality

    def _others(self, batch: Sequence[Lesson], rng: random.Random) -> list[Example]:
        """What must stay when a batch is written: one of each fact's own, and as many others.

        Where that is nothing, it is what must stay for other facts; none if all of it is written.
        """
        written = {lesson.own.given for lesson in batch}
        rows = [rng.choice(lesson.stay) for lesson in batch if lesson.stay]
        rows += rng.sample(self.locality, min(len(batch), len(self.locality)))
        rows = [row for row in rows if row.given not in written]
        if not rows:
            lessons = (*self.taught, *self.held)
            rest = [*self.locality, *(row for lesson in lessons for row in lesson.stay)]
            rest = [row for row in rest if row.given not in written]
            rows = rng.sample(rest, min(len(batch), len(rest)))
        return rows

    @torch.no_grad()
    def _measure(self, kept: Path) -> None:
        """Measure on what is held out, keep the networks if they are the best, and save."""
        editor, size = self.editor, self.editor.edits_per_batch
        sums, count, rng = [0.0, 0.0], 0, random.Random(editor.seed)
        held = self.held[:VALIDATED]
        for start in range(0, len(held), size):
            batch = _distinct(held[start : start + size])
            both = self._losses(batch, rng)
            sums = [a + float(b) * len(batch) for a, b in zip(sums, both, strict=True)]
            count += len(batch)
        edit, locality = (total / count for total in sums)
        total = editor.edit_weight * edit + editor.locality_weight * locality
        better = not self.curve or total < self._best().total
        self.curve.append(Measured(self.step, edit, locality, total))
        if better:
            self.best = copy.deepcopy(self.networks)
        self._save(kept / STATE)

    def _best(self) -> Measured:
        return min(self.curve, key=lambda row: row.total)

    def _save(self, path: Path) -> None:
        """All that is needed to go on, whole or not at all."""
        tensors = {f"networks/{name}": t for name, t in self.networks.state_dict().items()}
        tensors |= {f"best/{name}": t for name, t in self.best.state_dict().items()}
        for number, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam/{number}/{name}": tensor for name, tensor in state.items()}
        card = self.figures()
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as temporary:
            save_file(
                {name: t.detach().cpu().contiguous() for name, t in tensors.items()},
                temporary,
                {"card": json.dumps(card)},
            )

    def _resume(self, path: Path) -> bool:
        """Take up what a killed training left; whether there was something."""
        from safetensors import safe_open

        if not path.is_file():
            return False
        try:
            with safe_open(path, "pt") as file:
                card = json.loads(file.metadata()["card"])
            tensors = load_file(path, device=str(self.lm.device))
        except (SafetensorError, ValueError, KeyError) as error:
            raise BadInput(
                f"{str(path)!r} cannot be read ({error}); allowed: what a killed training left. "
                "Delete its folder, and train anew."
            ) from error
        parts = _apart(tensors)
        self.networks.load_state_dict(parts["networks"])
        self.best.load_state_dict(parts["best"])
        self.step = card["steps"]
        self.curve = [Measured(**row) for row in card["curve"]]
        states: dict[int, dict[str, Tensor]] = {}
        for key, tensor in parts.get("adam", {}).items():
            number, _, name = key.partition("/")
            states.setdefault(int(number), {})[name] = tensor
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": states, "param_groups": groups})
        return True


def _distinct(batch: Sequence[Lesson]) -> list[Lesson]:
    """The lessons of a batch without those that contradict another one of it."""
    return list({lesson.own.given: lesson for lesson in batch}.values())


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Tensors by the first part of their names."""
    parts: dict[str, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        first, _, rest = key.partition("/")
        parts.setdefault(first, {})[rest] = tensor
    return parts
