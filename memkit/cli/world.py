"""`memkit world generate` and `memkit world train`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memkit.cli.output import note, say, say_json
from memkit.errors import BadInput

if TYPE_CHECKING:
    from memkit.world.kinds import Material

__all__ = ["app"]

app = typer.Typer(
    help="Make worlds of facts, and small models that know them.", no_args_is_help=True
)

Out = Annotated[Path, typer.Argument(help="The folder to make.")]
Seed = Annotated[int, typer.Option(help="Equal seeds give equal data.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace a folder.")]


class ModelKind(StrEnum):
    """What is trained."""

    gpt2 = "gpt2"
    t5 = "t5"
    bert = "bert"


@app.command()
def generate(out: Out, seed: Seed = 0, replace: Replace = False) -> None:
    """Write the miniature world: questions, facts, passages, definitions, opinions; no model."""
    from memkit.files import building
    from memkit.world import generate as make
    from memkit.world import opinions, write

    with building(out, replace=replace) as folder:
        world = make(seed)
        write(world, folder)
        write(opinions(seed), folder)
    note(f"wrote {len(world.questions):,} questions, {len(world.passages):,} passages to {out}")


@app.command()
def train(
    out: Out,
    kind: Annotated[
        ModelKind,
        typer.Option(
            help="gpt2: reads and remembers; t5: question to answer; bert: court opinion to class."
        ),
    ] = ModelKind.gpt2,
    facts: Annotated[
        Path | None,
        typer.Option(
            help="Your own facts: .csv, .tsv or .jsonl with subject, relation, object, popularity "
            "and, if wanted, passage."
        ),
    ] = None,
    wordings: Annotated[
        Path | None,
        typer.Option(help='JSON for --facts: {relation: {"question": ..., "phrasings": [...]}}.'),
    ] = None,
    seed: Seed = 0,
    steps: Annotated[int | None, typer.Option(help="Steps of training.")] = None,
    replace: Replace = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Train a small model on the miniature world, or on your own facts."""
    from memkit.world import KINDS, make

    if steps is not None and steps < 1:
        raise BadInput(f"--steps is {steps!r}; allowed: at least 1. Thousands are usual.")
    material, what, origin = _material(kind, facts, wordings, seed)
    recipe = KINDS[kind].recipe(seed=seed, **({} if steps is None else {"steps": steps}))
    note(f"training on {what} for {recipe.steps:,} steps")
    card = make(material, out, recipe, origin=origin, replace=replace)
    if as_json:
        say_json(card)
        return
    for name, value in card["measured"].items():
        say(f"{name:<27} {value:.3f}")
    note(f"wrote the world and its model to {out}")


def _material(
    kind: ModelKind, facts: Path | None, wordings: Path | None, seed: int
) -> tuple[Material, str, dict[str, Any]]:
    """What to train on, how much that is, and where it comes from."""
    from memkit.world import from_table, generate, opinions, read_wordings

    if facts is None and wordings is not None:
        raise BadInput(
            f"--wordings is {str(wordings)!r} without --facts; allowed: both, or neither. "
            "Name the table of facts."
        )
    if kind is ModelKind.bert:
        if facts is not None:
            raise BadInput(
                f"--facts is {str(facts)!r} with --kind bert, which learns court opinions; "
                "allowed: --facts with --kind gpt2 or t5. Leave it out, or choose another kind."
            )
        made = opinions(seed)
        count = sum(opinion.split == "train" for opinion in made)
        return made, f"{count:,} opinions", {"generator": "memkit.world.opinions", "seed": seed}
    if facts is None:
        world, origin = generate(seed), {"generator": "memkit.world.generate", "seed": seed}
    else:
        words = read_wordings(wordings) if wordings is not None else None
        world, origin = from_table(facts, words), {"facts": facts.name}
    return world, f"{len(world.facts):,} facts", origin
