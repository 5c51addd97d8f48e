"""`memkit world generate` and `memkit world train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memkit.cli.output import note, say, say_json
from memkit.errors import BadInput

if TYPE_CHECKING:
    from memkit.benchmarks.base import Benchmark

__all__ = ["app"]

app = typer.Typer(
    help="Make worlds of facts, and small models that know them.", no_args_is_help=True
)

Out = Annotated[Path, typer.Argument(help="The folder to make.")]
Seed = Annotated[int, typer.Option(help="Equal seeds give equal data.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace a folder.")]


@app.command()
def generate(out: Out, seed: Seed = 0, replace: Replace = False) -> None:
    """Write the miniature world: questions, facts, passages and definitions, no model."""
    from memkit.files import building
    from memkit.world import generate as make
    from memkit.world import write

    with building(out, replace=replace) as folder:
        world = make(seed)
        write(world, folder)
    note(f"wrote {len(world.questions):,} questions, {len(world.passages):,} passages to {out}")


@app.command()
def train(
    out: Out,
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
    from memkit.world import Recipe, make

    if steps is not None and steps < 1:
        raise BadInput(f"--steps is {steps!r}; allowed: at least 1. Thousands are usual.")
    benchmark, origin = _benchmark(facts, wordings, seed)
    recipe = Recipe(seed=seed) if steps is None else Recipe(seed=seed, steps=steps)
    note(f"training on {len(benchmark.facts):,} facts for {recipe.steps:,} steps")
    card = make(benchmark, out, recipe, origin=origin, replace=replace)
    if as_json:
        say_json(card)
        return
    for name, value in card["measured"].items():
        say(f"{name:<22} {value:.3f}")
    note(f"wrote the world and its model to {out}")


def _benchmark(
    facts: Path | None, wordings: Path | None, seed: int
) -> tuple[Benchmark, dict[str, Any]]:
    """What to train on, and where it comes from."""
    from memkit.world import from_table, generate, read_wordings

    if facts is None:
        if wordings is not None:
            raise BadInput(
                f"--wordings is {str(wordings)!r} without --facts; allowed: both, or neither. "
                "Name the table of facts."
            )
        return generate(seed), {"generator": "memkit.world.generate", "seed": seed}
    words = read_wordings(wordings) if wordings is not None else None
    return from_table(facts, words), {"facts": facts.name}
