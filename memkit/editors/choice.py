"""What is None in an editor, chosen for the model at hand: presets of known models, and a sweep.

The presets are those of the published code (rome, memit, AlphaEdit, mend, EasyEdit's for LLaMA-2).
Where there is none, numbers that are relative to the model are the same for all, and the layer is
found by a sweep: a few facts are written into each layer in turn and taken out again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from memkit.editors.guards import Guards
from memkit.editors.tokens import target_text
from memkit.errors import BadInput
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.lm.layouts import Site
    from memkit.lm.model import LM

__all__ = ["PRESETS", "Swept", "choose", "sweep"]

FACTS = 4  # that the sweep writes
CANDIDATES = 12  # layers that it tries, of the lower three quarters where there are more
SHARE = 0.15  # of the layers, for methods that take several: five of 32
MEMORY = 2**33  # bytes of second moments that are collected at once
E = TypeVar("E")
OPEN = Guards(perplexity=math.inf, size=math.inf, divisor=0.0)

_SPREAD = {"steps": 25, "lr": 0.5, "clamp": 0.75, "decay": 0.5}
_SMALL = {"steps": 200, "clamp": 4.0, "decay": 1e-3}  # harder to move, and quick

# method: model: values; "" holds what all other models get
PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "rome": {
        "": {"steps": 20, "lr": 0.5, "clamp": 4.0, "decay": 0.5},
        "gpt2-medium": {"layer": 8, "clamp": 3.0},
        "gpt2-large": {"layer": 12},
        "gpt2-xl": {"layer": 17},
        "gpt-j-6b": {"layer": 5},
        "gpt-neox-20b": {"layer": 15},
        "llama-2-7b": {"layer": 5, "steps": 25, "decay": 1e-3},
        "miniworld": {"layer": 0, **_SMALL},
    },
    "memit": {
        "": _SPREAD,
        "gpt2-xl": {"layers": (13, 14, 15, 16, 17), "weight": 20_000.0, "steps": 20},
        "gpt-j-6b": {"layers": (3, 4, 5, 6, 7, 8), "weight": 15_000.0},
        "llama-2-7b": {
            "layers": (4, 5, 6, 7, 8),
            "weight": 15_000.0,
            "clamp": 4.0,
            "decay": 1e-3,
        },
        "llama-3-8b": {"layers": (4, 5, 6, 7, 8), "weight": 15_000.0, "lr": 0.1},
        "miniworld": {"layers": (0, 1), **_SMALL},
    },
    "alphaedit": {
        "": {**_SPREAD, "threshold": 2e-2, "ridge": 10.0},
        "gpt2-xl": {"layers": (13, 14, 15, 16, 17), "steps": 20},
        "gpt-j-6b": {"layers": (3, 4, 5, 6, 7, 8)},
        "llama-3-8b": {"layers": (4, 5, 6, 7, 8), "lr": 0.1},
        "miniworld": {"layers": (0, 1), **_SMALL, "null_share": 0.7, "ridge": 0.1},
    },
    "mend": {  # of its training
        "": {"rank": 1920, "lr": 5e-4, "edit_weight": 0.1, "steps": 2_000},
        "gpt2-xl": {"layers": (45, 46, 47)},
        "gpt-j-6b": {"layers": (25, 26, 27)},
        "llama-2-7b": {"layers": (29, 30, 31)},
        "miniworld": {
            "layers": (1, 2, 3),
            "rank": 256,
            "lr": 1e-3,
            "edit_weight": 0.7,
            "steps": 1_200,
        },
    },
}


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep saw at one candidate: means over its facts, each from 0 to 1.

    `efficacy` is the probability of the target after the fact's prompt and paraphrases, `locality`
    the share of other prompts whose next token stays the same. `problem` says why a candidate
    cannot be taken (its second moment is singular, say); both are 0 then.
    """

    candidate: int | tuple[int, ...]
    efficacy: float = 0.0
    locality: float = 0.0
    problem: str = ""

    @property
    def score(self) -> float:
        """Harmonic mean of the two; 0 if a model came out that gives no numbers."""
        both = self.efficacy + self.locality
        mean = 2 * self.efficacy * self.locality / both if both else 0.0
        return mean if math.isfinite(mean) else 0.0

    def __str__(self) -> str:
        if self.problem:
            return f"{self.candidate} (skipped: {self.problem})"
        return f"{self.candidate} (efficacy {self.efficacy:.2f}, locality {self.locality:.2f})"


def choose(
    editor: E, lm: LM, facts: Sequence[Fact], method: str, **defaults: Any
) -> tuple[E, dict[str, str]]:
    """The editor with everything that is None filled in, and for each of these why.

    `defaults` are further ones, for what depends on the model's size.

    Raises `BadInput` if the layer is to be found by a sweep, and none can be taken.
    """
    known = lm.layout.known(lm.model)
    general = {**PRESETS[method][""], **defaults}
    special = PRESETS[method].get(known or "", {})
    values: dict[str, Any] = {}
    chosen: dict[str, str] = {}
    place = "layer" if hasattr(editor, "layer") else "layers"
    for name in dict.fromkeys((place, *general, *special)):
        if getattr(editor, name) is not None:
            continue
        if known and name in special:
            values[name], why = special[name], f"preset of {known}"
        elif name in general:
            values[name], why = general[name], "default"
        else:
            continue
        chosen[name] = f"{values[name]} ({why})"
    editor = replace(editor, **values)  # type: ignore[type-var]
    if getattr(editor, place) is None:
        seen = sweep(editor, lm, facts[:FACTS])
        usable = [one for one in seen if not one.problem]
        if not usable:
            raise BadInput(
                f"{place} is None, and none can be taken: {'; '.join(map(str, seen))}; allowed: a "
                f"model and statistics with which one can. Correct these, or name {place}."
            )
        best = max(usable, key=lambda one: one.score)  # of equals the lowest layer
        editor = replace(editor, **{place: best.candidate})  # type: ignore[type-var]
        others = "; ".join(map(str, seen))
        chosen[place] = (
            f"{best.candidate} (best of a sweep over {len(facts[:FACTS])} facts: {others})"
        )
    return editor, chosen


def sweep(editor: Any, lm: LM, facts: Sequence[Fact]) -> list[Swept]:
    """Write each fact alone at each candidate and take it out again; the model is as before.

    Candidates are single layers, or for a method of several layers runs of them. Other prompts are
    the facts' locality prompts, or where they have none the prompts of the other facts. A candidate
    at which the method refuses to write is skipped, with the reason.
    """
    count = len(lm.layout.layers(lm.model))
    most = count if count <= CANDIDATES else math.ceil(0.75 * count)
    tried = sorted({round(i * (most - 1) / (CANDIDATES - 1)) for i in range(CANDIDATES)})
    tried = list(range(count)) if count <= CANDIDATES else tried
    single = hasattr(editor, "layer")
    run = 1 if single else max(1, round(SHARE * count))
    starts = [layer for layer in tried if single or layer + 1 >= run]
    used = range(count) if not single else tried
    for sites in _parts([lm.layout.site(lm.model, layer) for layer in used]):
        editor.statistics.collect(lm, sites)  # to disk, and few passes over the corpus
    seen = []
    for layer in starts:
        candidate = layer if single else tuple(range(layer - run + 1, layer + 1))
        named = {"layer" if single else "layers": candidate}
        trial = replace(editor, guards=OPEN, on_guard="warn", **named)
        try:
            pairs = [_tried(trial, lm, fact, facts) for fact in facts]
        except BadInput as error:  # the trial was taken back
            seen.append(Swept(candidate, problem=str(error).partition("; allowed")[0]))
            continue
        efficacy, locality = (sum(part) / len(pairs) for part in zip(*pairs, strict=True))
        seen.append(Swept(candidate, efficacy, locality))
    return seen


def _parts(sites: Sequence[Site]) -> list[list[Site]]:
    """The sites in parts whose second moments fit into memory together."""
    parts: list[list[Site]] = []
    room = 0.0
    for site in sites:
        size = 8 * site.weight.shape[1] ** 2
        if not parts or size > room:
            parts.append([])
            room = MEMORY
        parts[-1].append(site)
        room -= size
    return parts


def _tried(trial: Any, lm: LM, fact: Fact, facts: Sequence[Fact]) -> tuple[float, float]:
    """Efficacy and locality of one fact under one candidate."""
    prompts = [text.replace("{}", fact.subject) for text in (fact.text, *fact.paraphrases[:2])]
    others = [prompt for prompt, _ in fact.locality]
    others = others or [other.text for other in facts if other.subject != fact.subject]
    before = lm.generate(others, 1, stop=()) if others else []
    with trial.apply(lm, [fact]):
        scores = lm.logprob(prompts, [target_text(fact, lm)] * len(prompts))
        after = lm.generate(others, 1, stop=()) if others else []
    efficacy = sum(math.exp(score.total) for score in scores) / len(scores)
    same = [one == other for one, other in zip(before, after, strict=True)]
    return efficacy, sum(same) / len(same) if same else 1.0
