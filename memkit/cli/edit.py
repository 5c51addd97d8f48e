"""`memkit edit apply`, `memkit edit show` and `memkit edit score`."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memkit.cli.output import note, say, say_json
from memkit.errors import BadInput

if TYPE_CHECKING:
    from memkit.editors.base import Editor
    from memkit.types import Fact

__all__ = ["app"]

app = typer.Typer(
    help="Write facts into a model's weights, and score what that does.", no_args_is_help=True
)

Model = Annotated[str, typer.Argument(help="A model's folder or Hub id.")]
Facts = Annotated[
    Path,
    typer.Argument(
        help="JSON lines with subject, prompt ('{}' is the subject) and target, and if wanted "
        "paraphrases, locality, portability, previous, definition; or a benchmark's file."
    ),
]
Name = Annotated[str, typer.Option("--editor", help="See `memkit.EDITORS`.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="A parameter of the editor, such as layer=5. Repeat for more."),
]
Bench = Annotated[str | None, typer.Option(help="The benchmark whose file FACTS is.")]
Limit = Annotated[int | None, typer.Option(help="Take the first facts only.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def apply(
    model: Model,
    facts: Facts,
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    editor: Name = "rome",
    settings: Settings = None,
    benchmark: Bench = None,
    limit: Limit = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a folder.")] = False,
) -> None:
    """Write facts into a model, save the edit (not the model), and say what it did."""
    from memkit.lm.model import LM

    method, wanted = _editor(editor, settings), _facts(facts, benchmark, limit)
    with method.apply(LM.load(model), wanted) as edit:
        edit.save(out, replace=replace)
        say(str(edit.report))
    note(f"saved the edit in {out}; apply it with memkit.load_edit({str(out)!r}).apply(lm)")


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="A saved edit.")], as_json: Json = False
) -> None:
    """Say what a saved edit holds."""
    from memkit.editors.artefact import load_edit

    saved = load_edit(folder)
    if as_json:
        say_json({**dataclasses.asdict(saved.report), "fingerprint": dict(saved.fingerprint)})
        return
    say(str(saved.report))
    for name, value in {**saved.versions, **saved.fingerprint}.items():
        say(f"  {name}: {value}")


@app.command()
def score(
    model: Model,
    facts: Facts,
    editor: Name = "rome",
    settings: Settings = None,
    mode: Annotated[str, typer.Option(help="single, sequential or batch.")] = "single",
    benchmark: Bench = None,
    limit: Limit = None,
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 0,
    as_json: Json = False,
) -> None:
    """Score an editor on facts: reliability, generalisation, portability, locality and cost."""
    from memkit.lm.model import LM
    from memkit.protocols import editing

    method, wanted = _editor(editor, settings), _facts(facts, benchmark, limit)
    result = editing(LM.load(model), method, wanted, mode=mode, seed=seed)  # type: ignore[arg-type]
    if as_json:
        say_json(result.to_dict())
    else:
        say(str(result))


def _editor(name: str, settings: list[str] | None) -> Editor:
    """The editor of a name with its settings, whose values are Python literals or plain text."""
    from memkit.editors import EDITORS

    if name not in EDITORS:
        names = ", ".join(map(repr, EDITORS))
        raise BadInput(f"no editor is named {name!r}; allowed: {names}. Choose one of these.")
    kind = EDITORS[name]
    allowed = [field.name for field in dataclasses.fields(kind)]
    values: dict[str, Any] = {}
    for setting in settings or []:
        key, sign, text = setting.partition("=")
        if not sign or key not in allowed:
            raise BadInput(
                f"--set got {setting!r}; allowed: NAME=VALUE with a name of {', '.join(allowed)}."
            )
        try:
            values[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[key] = text
    try:
        return kind(**values)
    except TypeError as error:
        raise BadInput(f"{kind.__name__} cannot be made of {values} ({error}).") from error


def _facts(path: Path, benchmark: str | None, limit: int | None) -> list[Fact]:
    """The facts of a file; at least one."""
    if benchmark is None:
        from memkit.benchmarks.values import read_values
        from memkit.types import Fact

        facts = read_values(path, Fact)[:limit]
    else:
        from memkit.benchmarks import load

        facts = list(load(benchmark, path, limit=limit).facts)
    if not facts:
        raise BadInput(f"{str(path)!r} has no facts; allowed: at least one. Name another file.")
    return facts
