"""A hook of mkdocs: the reference pages, made of the code's registries and docstrings.

One page for each method (editors, retrievers, routers, protocols), one for all metrics, one for all
benchmarks. A page holds what the module says of the method and its source, the hyper-parameters
with their defaults, and where the code is. Nothing is written by hand, so nothing is stale.
"""

from __future__ import annotations

import dataclasses
import html
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import memkit

PARAMETERS = re.compile(r"^(\w+(?:, \w+)*): (.*)$")  # "steps, lr: of the search"

ADAPTERS = ("Adapter", "ExtSub", "Merge", "TaskNegation", "audit", "load_adapter")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the made pages into the navigation, below "Reference"."""
    nav: list[Any] = list(config.nav or [])
    made: list[Any] = [{"Overview": "reference/index.md"}]
    for section, pages in sections().items():
        made.append({section: [{title: path(section, title)} for title in pages]})
    made += [{"Metrics": "reference/metrics.md"}, {"Benchmarks": "reference/benchmarks.md"}]
    config.nav = [*nav, {"Reference": made}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to what is built."""
    for place, text in pages().items():
        files.append(File.generated(config, place, content=text))
    return files


def pages() -> dict[str, str]:
    """Every page's Markdown by its path."""
    made = {"reference/index.md": overview()}
    for section, methods in sections().items():
        for title, method in methods.items():
            made[path(section, title)] = method_page(title, method)
    made["reference/metrics.md"] = functions_page("Metrics", memkit.metrics)
    made["reference/benchmarks.md"] = benchmarks_page()
    return made


def path(section: str, title: str) -> str:
    return f"reference/{section.lower()}/{title.lower()}.md"


def sections() -> dict[str, dict[str, Any]]:
    """The methods of each kind by their public names."""
    found: dict[str, dict[str, Any]] = {
        "Editors": {cls.__name__: cls for cls in memkit.EDITORS.values()},
        "Adapters": {name: getattr(memkit, name) for name in ADAPTERS},
        "Retrievers": {},
        "Routers": {},
        "Protocols": {name: getattr(memkit.protocols, name) for name in memkit.protocols.__all__},
    }
    rooms = {"memkit.retrieval": "Retrievers", "memkit.routing": "Routers"}
    for name in memkit.__all__:
        home = getattr(getattr(memkit, name), "__module__", "")
        section = rooms.get(".".join(home.split(".")[:2]))
        if section is not None and name not in ("Outcome", "PopularityTable"):
            found[section][name] = getattr(memkit, name)
    return {section: dict(sorted(methods.items())) for section, methods in found.items()}


def overview() -> str:
    """A table of all methods, each with its first sentence."""
    lines = ["# Reference", "", "Made of the code's docstrings; one page for each method."]
    for section, methods in sections().items():
        lines += ["", f"## {section}", "", "| method | what it does |", "|---|---|"]
        for title, method in methods.items():
            where = path(section, title).removeprefix("reference/")
            lines.append(f"| [{title}]({where}) | {escaped(first_sentence(method))} |")
    return "\n".join(lines) + "\n"


def first_sentence(thing: Any) -> str:
    text = inspect.getdoc(thing) or ""
    return " ".join(text.split("\n\n")[0].split()).split(". ")[0].rstrip(".") + "."


def method_page(title: str, method: Any) -> str:
    """What the module says of the method, then how it is called."""
    if inspect.ismodule(method):
        return functions_page(title, method)
    module = sys.modules[method.__module__]
    lines = [
        f"# {title}",
        "",
        prose(inspect.getdoc(module) or ""),
        "",
        f"## memkit.{name_of(method)}",
    ]
    lines += ["", *signature(method), "", docstring(method), "", f"Source: `{source(method)}`"]
    return "\n".join(lines) + "\n"


def name_of(method: Any) -> str:
    """The public name: `ROME`, `protocols.editing`."""
    inside = method.__module__.startswith("memkit.protocols")
    return f"protocols.{method.__name__}" if inside else method.__name__


def source(thing: Any) -> str:
    return thing.__module__.replace(".", "/") + ".py"


def signature(method: Any) -> list[str]:
    """The call as a block of code, one parameter a line."""
    try:
        parameters = inspect.signature(method).parameters.values()
    except ValueError:  # a class without any
        return []
    shown = "".join(f"    {declared(parameter)},\n" for parameter in parameters)
    return ["```text", f"memkit.{name_of(method)}(\n{shown})", "```"]


def declared(parameter: inspect.Parameter) -> str:
    """A parameter as it would be written: `steps: int = 100`."""
    kind = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
    value = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{parameter.name}{kind}{value}"


def docstring(method: Any) -> str:
    """The docstring, with its parameters as a table that has their defaults.

    What only a base class explains comes last, in a table of its own.
    """
    lines, seen = with_tables(method, method)
    inherited: list[list[str]] = []
    for base in inspect.getmro(method)[1:] if inspect.isclass(method) else ():
        for names, meaning in with_tables(base, method)[1]:
            if not {*names.split(", ")} & {name for row in seen for name in row[0].split(", ")}:
                inherited.append([names, meaning])
        seen = [*seen, *inherited]
    if inherited:
        lines += ["", "Inherited:", *rows(inherited, dict(default_values(method)))]
    return prose("\n".join(lines))


def with_tables(owner: Any, method: Any) -> tuple[list[str], list[list[str]]]:
    """The lines of a docstring, parameters as tables; and these parameters with their meaning."""
    defaults, known = dict(default_values(method)), inspect.signature(method).parameters
    lines: list[str] = []
    table: list[list[str]] = []
    seen: list[list[str]] = []
    for line in [*inspect.cleandoc(owner.__doc__ or "").split("\n"), ""]:
        match = PARAMETERS.match(line)
        if match and set(match[1].split(", ")) <= set(known):
            table.append([match[1], match[2]])
        elif table and line.startswith("    "):
            table[-1][1] += " " + line.strip()
        else:
            lines += [*rows(table, defaults), line]
            seen += table
            table = []
    return lines, seen


def rows(table: list[list[str]], defaults: Mapping[str, str]) -> list[str]:
    """A Markdown table of parameters: names, defaults, meaning."""
    if not table:
        return []
    done = ["| parameter | default | |", "|---|---|---|"]
    for names, meaning in table:
        given = [defaults.get(name, "") for name in names.split(", ")]
        shown = ", ".join(f"`{value}`" for value in given if value)
        done.append(f"| `{names}` | {shown} | {escaped(meaning).replace('|', '&#124;')} |")
    return ["", *done, ""]


def default_values(method: Any) -> Iterator[tuple[str, str]]:
    """The defaults of a dataclass's fields, or of a function's parameters."""
    if dataclasses.is_dataclass(method):
        for field in dataclasses.fields(method):
            if field.default is not dataclasses.MISSING:
                yield field.name, repr(field.default)
    elif inspect.isfunction(method):
        for parameter in inspect.signature(method).parameters.values():
            if parameter.default is not inspect.Parameter.empty:
                yield parameter.name, repr(parameter.default)


def functions_page(title: str, module: Any) -> str:
    """All public functions and values of a module, with their docstrings."""
    lines = [f"# {title}", "", prose(inspect.getdoc(module) or "")]
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isfunction(thing) or dataclasses.is_dataclass(thing):
            shown = ", ".join(map(declared, inspect.signature(thing).parameters.values()))
            lines += ["", f"## {name}", "", f"```text\n{name}({shown})\n```", ""]
            lines.append(docstring(thing))
    return "\n".join(lines) + "\n"


def benchmarks_page() -> str:
    """All loaders by name, with what their modules say of the format."""
    lines = ["# Benchmarks", "", prose(inspect.getdoc(memkit.benchmarks.load) or "")]
    modules: dict[str, list[str]] = {}
    for name, loader in memkit.benchmarks.BENCHMARKS.items():
        modules.setdefault(loader.__module__, []).append(name)
    for module, names in modules.items():
        lines += [
            "",
            f"## {', '.join(names)}",
            "",
            prose(inspect.getdoc(sys.modules[module]) or ""),
        ]
    return "\n".join(lines) + "\n"


def prose(text: str) -> str:
    """A docstring as Markdown: indented blocks as code, all else escaped, lists set apart."""
    done: list[str] = []
    for line in text.split("\n"):
        inside = line.startswith(("    ", "| ", "|-"))
        is_item = line.startswith("- ")
        if is_item and done and done[-1].strip() and not done[-1].startswith(("- ", "  ")):
            done.append("")
        if (
            line.startswith("    ")
            and done
            and done[-1].strip()
            and not done[-1].startswith("    ")
        ):
            done.append("")
        done.append(line if inside else escaped(line))
    return "\n".join(done)


def escaped(text: str) -> str:
    """Text without Markdown's signs, but for what stands between backticks."""
    parts = text.split("`")
    parts[::2] = [
        re.sub(r"([*_\[\]])", r"\\\1", html.escape(part, quote=False)) for part in parts[::2]
    ]
    return "`".join(parts)
