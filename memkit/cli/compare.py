"""`memkit compare` and `memkit report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memkit.cli.output import note, say
from memkit.errors import BadInput, MemkitError

if TYPE_CHECKING:
    from memkit.compare.executors import Executor

__all__ = ["compare", "report"]


def compare(
    spec: Annotated[Path, typer.Argument(help="A specification in TOML, see docs/comparisons.")],
    out: Annotated[
        Path | None, typer.Option(help="The folder of the records; what is done there stays done.")
    ] = None,
    on: Annotated[str, typer.Option("--on", help="local, or ray: many processes or machines.")] = (
        "local"
    ),
    workers: Annotated[
        int | None, typer.Option(help="For ray: processes for a model; default: one a CPU.")
    ] = None,
    gpus: Annotated[float, typer.Option(help="For ray: GPUs of a process, such as 0.5.")] = 0.0,
    address: Annotated[
        str | None,
        typer.Option(help="For ray: a cluster's; default: RAY_ADDRESS, or this machine."),
    ] = None,
    track: Annotated[
        str | None, typer.Option(help="Send scores to wandb, trackio or mlflow, too.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check it, and estimate time and memory.")
    ] = False,
) -> None:
    """Run a comparison: models by memories by benchmarks by seeds by numbers of edits."""
    if dry_run:
        from memkit.compare.estimate import estimate

        for line in estimate(spec, announce=note).lines():
            say(line)
        return
    if out is None:
        raise BadInput("--out is missing; allowed: a folder for the records. Name one.")
    from memkit.compare.grid import Impossible
    from memkit.compare.run import run

    executor = _executor(on, workers, gpus, address)
    found = run(spec, out, executor=executor, track=track, announce=note)
    say(f"{len(found.done)} cells done, {len(found.failures)} failed, records in {out}")
    for row in found.manifest["impossible"]:
        note(f"left out: {Impossible(**row)}")
    if found.failures:
        names = "; ".join(outcome.cell.name for outcome in found.failures)
        raise MemkitError(
            f"{len(found.failures)} cells failed: {names}. Their tracebacks are in "
            f"{out / 'manifest.json'}; the same command tries them again."
        )


def _executor(on: str, workers: int | None, gpus: float, address: str | None) -> Executor:
    """Where the cells run."""
    from memkit.compare.executors import Serial

    if on == "ray":
        from memkit.compare.on_ray import OnRay

        return OnRay(workers, gpus, address)
    if on != "local":
        raise BadInput(f"--on is {on!r}; allowed: 'local', 'ray'. Choose one.")
    if workers is not None or gpus or address is not None:
        raise BadInput("--workers, --gpus and --address are given without --on ray; add it.")
    return Serial()


def report(
    runs: Annotated[list[Path], typer.Argument(help="A run's folder; two are set side by side.")],
    format: Annotated[str, typer.Option("--format", help="html, md, csv or latex.")] = "html",
    out: Annotated[Path | None, typer.Option(help="Write to this file, not to stdout.")] = None,
    metric: Annotated[
        str, typer.Option(help="Of the tables: exact_match, contains or token_f1.")
    ] = "exact_match",
    cards: Annotated[
        Path | None, typer.Option(help="Write an EvalCard for each memory into this folder, too.")
    ] = None,
) -> None:
    """The tables of a comparison: as one HTML file, or for a paper."""
    from memkit.compare.beside import beside
    from memkit.compare.cards import write_cards
    from memkit.compare.formats import FORMATS
    from memkit.compare.page import html
    from memkit.compare.results import results
    from memkit.compare.tables import tables
    from memkit.files import write_text

    if format not in ("html", *FORMATS):
        names = ", ".join(map(repr, ("html", *FORMATS)))
        raise BadInput(f"--format is {format!r}; allowed: {names}. Choose one.")
    if len(runs) > 2:
        raise BadInput(f"{len(runs)} runs are given; allowed: one, or two to set side by side.")
    found = [results(run) for run in runs]
    if cards is not None:
        files = [file for one in found for file in write_cards(one, cards)]
        note(f"wrote {len(files)} files to {cards}")
    more = beside(*found) if len(found) == 2 else []
    if format == "html":
        text = html(found, more, metric)
    else:
        text = FORMATS[format]([*more, *(table for run in found for table in tables(run, metric))])
    if out is None:
        say(text.rstrip("\n"))
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    note(f"wrote {out}")
