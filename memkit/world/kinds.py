"""The kinds of model that a world has: one literal, one line a kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memkit.benchmarks import miniworld
from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.opinions import Opinion
from memkit.errors import BadInput
from memkit.world import bert, gpt2, t5
from memkit.world.bert import BERTRecipe
from memkit.world.gpt2 import GPT2Recipe
from memkit.world.t5 import T5Recipe

__all__ = ["KINDS", "Kind", "Material", "Recipe", "find_kind", "shipped", "train"]

Recipe = GPT2Recipe | T5Recipe | BERTRecipe
Material = Benchmark | Sequence[Opinion]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of model: its recipe, its trainer, its folder within a world's, and what it learns."""

    recipe: type[Recipe]
    train: Callable[..., tuple[Any, Any]]
    folder: str
    reads: str = "facts"


KINDS: Mapping[str, Kind] = {
    "gpt2": Kind(GPT2Recipe, gpt2.train, "model"),
    "t5": Kind(T5Recipe, t5.train, "t5"),
    "bert": Kind(BERTRecipe, bert.train, "bert", reads="opinions"),
}


def train(material: Material, recipe: Recipe | None = None) -> tuple[Any, Any]:
    """Train the kind of model that the recipe is for; returns the model and its tokenizer.

    A GPT-2 (None: the default recipe) and a T5 learn the facts of a benchmark, a BERT the split
    "train" of opinions. The model comes back on the CPU, in single precision, in evaluation mode.

    Raises `BadInput` for a recipe on the wrong material, and if there is nothing to learn.
    """
    recipe = recipe or GPT2Recipe()
    kind = KINDS[find_kind(recipe)]
    given = "facts" if isinstance(material, Benchmark) else "opinions"
    if given != kind.reads:
        raise BadInput(
            f"a {type(recipe).__name__} was given {given}; allowed: {kind.reads}. Pass "
            + ("a Benchmark, such as generate(seed)." if given != "facts" else "opinions(seed).")
        )
    return kind.train(material, recipe)


def find_kind(recipe: Recipe) -> str:
    """The name in `KINDS` of what a recipe makes."""
    return next(name for name, kind in KINDS.items() if isinstance(recipe, kind.recipe))


def shipped(kind: str = "gpt2") -> Path:
    """The folder of a model that memkit ships, for `LM.load`; `kind` is a name in `KINDS`.

    Raises `BadInput` for another kind, and if this memkit has none.
    """
    if kind not in KINDS:
        names = ", ".join(map(repr, KINDS))
        raise BadInput(f"kind is {kind!r}; allowed: {names}. Choose one of these.")
    folder = miniworld.shipped() / KINDS[kind].folder
    if not folder.is_dir():
        raise BadInput(
            f"{str(folder)!r} is absent; allowed: an installed memkit, or a whole checkout. "
            f"Install memkit again, or make a model: `memkit world train FOLDER --kind {kind}`."
        )
    return folder
