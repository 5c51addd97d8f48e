"""`memkit ask`."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memkit.cli.demo import answered
from memkit.cli.output import note, say_json
from memkit.errors import BadInput

if TYPE_CHECKING:
    from memkit.qa import QA
    from memkit.types import Question

__all__ = ["ask"]

FITTING = 200  # questions of --fit that are asked on both roads


class Route(StrEnum):
    """How the road is chosen."""

    auto = "auto"
    weights = "weights"
    retrieval = "retrieval"


def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    model: Annotated[
        str | None, typer.Option(help="Folder or Hub id of a model; default: the miniature world.")
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(help="For --model: a folder, milvus:ADDRESS#NAME or opensearch:ADDRESS#NAME."),
    ] = None,
    fit: Annotated[
        Path | None,
        typer.Option(
            help="For --model and --index: a world's folder or a PopQA file to fit a "
            "popularity router on."
        ),
    ] = None,
    popularity: Annotated[
        Path | None, typer.Option(help="Page views by name (.csv, .tsv, .jsonl), for --fit.")
    ] = None,
    world: Annotated[Path | None, typer.Option(help="Another world's folder.")] = None,
    route: Annotated[
        Route, typer.Option(help="auto: as the router says, or with text if there is an index.")
    ] = Route.auto,
    k: Annotated[int, typer.Option("--k", "-k", help="How many passages are retrieved.")] = 1,
    prompt: Annotated[bool, typer.Option("--prompt", help="Print the prompt, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Answer a question, and say from which memory and why."""
    from memkit.types import Question

    asked = Question(question)
    if k < 1:
        raise BadInput(f"--k is {k!r}; allowed: at least 1. Ask for one passage or more.")
    if model is None:
        qa = _miniature(world, route, index, fit, popularity)
    else:
        qa = _own(model, index, fit, popularity, world, route)
    answer = replace(qa, k=k).ask(asked)
    if as_json:
        say_json(answer.to_dict())
    else:
        answered(answer, show_prompt=prompt)


def _miniature(
    world: Path | None, route: Route, index: str | None, fit: Path | None, table: Path | None
) -> QA:
    """The world's QA; its router is only fitted where it is asked."""
    from memkit.routing.baselines import Always
    from memkit.showcase import demo, opened

    for name, value in (("--index", index), ("--fit", fit), ("--popularity", table)):
        if value is not None:
            raise BadInput(
                f"{name} is {str(value)!r} without --model; allowed: with a model of your own. "
                "Name one: --model FOLDER."
            )
    if route == Route.auto:
        note("opening the world and fitting its router")
        return demo(world)
    note("opening the world")
    return replace(
        opened(world)[1], router=Always("weights" if route == Route.weights else "retrieval")
    )


def _own(
    model: str,
    index: str | None,
    fit: Path | None,
    table: Path | None,
    world: Path | None,
    route: Route,
) -> QA:
    """QA on the user's model, with an index and a router where they are given."""
    if world is not None:
        raise BadInput(f"--world is {str(world)!r} beside --model; allowed: one of the two.")
    if route == Route.retrieval and index is None:
        raise BadInput("--route is retrieval without --index; allowed: with one. Name an index.")
    if fit is not None and (index is None or route != Route.auto):
        raise BadInput(
            f"--fit is {str(fit)!r} without --index, or beside --route {route}; allowed: with an "
            "index and --route auto, where there is something to decide."
        )
    if table is not None and fit is None:
        raise BadInput(
            f"--popularity is {str(table)!r} without --fit; allowed: both. The threshold is learnt "
            "from questions whose answers are known: --fit FILE."
        )
    from memkit.cli.targets import open_index
    from memkit.lm.model import LM
    from memkit.qa import QA
    from memkit.routing.table import PopularityTable
    from memkit.showcase import fit_router, sample

    questions = _questions(fit) if fit is not None else ()
    views = PopularityTable.from_file(table) if table is not None else None
    retriever = open_index(index) if index is not None else None
    note(f"loading {model}")
    qa = QA(LM.load(model), None if route == Route.weights else retriever)
    if fit is None:
        return qa
    note("fitting the router")
    views = views or PopularityTable.from_questions(questions)
    return replace(qa, router=fit_router(qa, sample(questions, FITTING, seed=0), views))


def _questions(path: Path) -> tuple[Question, ...]:
    """The questions of a world's folder or of a PopQA file."""
    from memkit.benchmarks import load

    return load("miniworld" if path.is_dir() else "popqa", path).questions
