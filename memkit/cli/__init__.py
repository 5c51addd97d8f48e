"""`memkit`: results on stdout, all else on stderr, status 2 for bad input."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from memkit.cli import ask, compare, demo, doctor, edit, index, world
from memkit.cli.output import complain
from memkit.errors import MemkitError

__all__ = ["main"]

app = typer.Typer(
    help="A language model's two memories, its weights and its prompt.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(demo.demo)
app.command()(ask.ask)
app.add_typer(index.app, name="index")
app.add_typer(edit.app, name="edit")
app.add_typer(world.app, name="world")
app.command()(compare.compare)
app.command()(compare.report)
app.command()(doctor.doctor)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; `arguments` default to those of the process.

    Ends with `SystemExit`: 0 if all went well, 2 for bad input (a memkit error, a file that cannot
    be used, a wrong option), 130 after Ctrl-C.
    """
    try:
        app(arguments, prog_name="memkit")
    except BrokenPipeError:  # the reader of the results has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (MemkitError, OSError) as error:
        complain(error)
        sys.exit(2)
