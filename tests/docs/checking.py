"""Does a command exist? Programs, scripts, options and values, without running anything."""

from __future__ import annotations

import ast
import re
import runpy
import tomllib
from functools import cache

import typer

from memkit.cli import app

from .pages import ROOT

OMITTED = ("...", "…")
PYTEST_OPTIONS = ("--benchmark-only", "--benchmark-timer=time.process_time")


class Unknown(AssertionError):
    """A command that would not run."""


def check(words: list[str], whole: bool = True) -> None:
    """Raise `Unknown` for a command whose program, script, option or value is not there.

    whole: every argument that it needs is there, too; else "..." may stand for some.
    """
    words = [word for word in words if whole or word not in OMITTED]
    try:
        CHECKS[words[0]](words[1:], whole)
    except (Exception, SystemExit) as error:
        raise Unknown(f"{' '.join(words)}: {error!r}") from error


def memkit(words: list[str], whole: bool) -> None:
    """Parse as `memkit` does, and stop there."""
    command = typer.main.get_command(app)
    while isinstance(command, typer.core.TyperGroup) and words:
        command, words = command.commands[words[0]], words[1:]
    if isinstance(command, typer.core.TyperGroup):
        if whole:
            raise Unknown(f"a command of {command.name} is missing")
    elif whole:
        command.make_context(command.name, list(words))
    else:
        known = {option for parameter in command.params for option in parameter.opts}
        check_options(words, known)


def check_options(words: list[str], known: set[str]) -> None:
    for word in words:
        if word.startswith("-") and word.partition("=")[0] not in known:
            raise Unknown(f"no option {word}; there are {sorted(known)}")


def python(words: list[str], whole: bool) -> None:
    """Parse as the script does: its `arguments()` make the parser."""
    if words[0] == "-m":  # a module of others
        return
    parser = arguments(words[0])
    if whole:
        parser.parse_args(words[1:])
    else:
        check_options(words[1:], {o for action in parser._actions for o in action.option_strings})


@cache
def arguments(script: str):
    return runpy.run_path(str(ROOT / script))["arguments"]()


def pytest(words: list[str], whole: bool) -> None:
    """The files are there, and `-k` selects a test."""
    names: list[str] = []
    selected = ""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == "-k":
            selected = after
        elif word.startswith("-"):
            if word not in PYTEST_OPTIONS:
                raise Unknown(f"no option {word}")
        elif word != selected:
            tree = ast.parse((ROOT / word).read_text(encoding="utf-8"))
            names += [n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    if selected and not any(name.startswith("test") and selected in name for name in names):
        raise Unknown(f"-k {selected} selects nothing")


def make(words: list[str], whole: bool) -> None:
    """The Makefile has the targets and variables."""
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        variable = word.partition("=")[0] if "=" in word else None
        rule = rf"^{variable} \?=" if variable else rf"^{word}:"
        if not re.search(rule, rules, re.MULTILINE):
            raise Unknown(f"no {word} in the Makefile")


def pip(words: list[str], whole: bool) -> None:
    """The extras that are installed are declared, and the constraints are a file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == "-c" and not (ROOT / after).is_file():
            raise Unknown(f"no file {after}")
        for extras in re.findall(r"^(?:\.|memkit)\[(.*)\]$", word):
            for extra in extras.split(","):
                if extra not in project["optional-dependencies"]:
                    raise Unknown(f"no extra {extra}")


def foreign(words: list[str], whole: bool) -> None:
    """A program of others: nothing of ours to check."""


CHECKS = {
    "memkit": memkit,
    "python": python,
    "pytest": pytest,
    "make": make,
    "pip": pip,
    "uv": foreign,
    "java": foreign,
}
