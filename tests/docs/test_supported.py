"""What the README and the site say is supported is what there is."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import runpy

import pytest

import memkit
from memkit.editors.base import Editor
from memkit.lm.layouts import LAYOUTS
from memkit.world import shipped

from .pages import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "supported.md").read_text(encoding="utf-8")
NAME = re.compile(r"`([\w-]+)`")
KINDS = {
    ("decoder",): "decoders",
    ("decoder", "encoder-decoder", "classifier"): "all but masked",
    ("decoder", "encoder-decoder", "masked", "classifier"): "all",
}
METHODS = runpy.run_path(str(ROOT / "docs" / "reference.py"))["sections"]()
PROTOCOLS = [
    name
    for name in memkit.protocols.__all__
    if inspect.isfunction(getattr(memkit.protocols, name)) or name == "cost"
]


def section(title: str) -> str:
    """A section of the page."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def row(title: str) -> list[str]:
    """What a row of the README's table names."""
    (line,) = re.findall(rf"^\| {title} \| (.*) \|$", README, re.MULTILINE)
    return NAME.findall(line)


def test_models():
    assert set(LAYOUTS) == set(NAME.findall(section("Models"))) & set(LAYOUTS)
    named = set(row("Models"))
    assert {name.removesuffix("_text") for name in LAYOUTS} == named


def test_editors_of_the_readme():
    writing = {cls.__name__ for cls in memkit.EDITORS.values() if not cls.erases}
    assert set(row("Editors")) == writing - {"DINM"}
    erasing = {cls.__name__ for cls in memkit.EDITORS.values()} - set(row("Editors"))
    assert set(row("Erasure")) == erasing | {"ExtSub", "TaskNegation", "Merge", "audit"}


TABLE = re.findall(
    r"^\| `(\w+)` \| ([\w-]+) \| ([\w ]+) \| ([^|]*) \| ([^|]*)\| ([^|]+) \|$", PAGE, re.MULTILINE
)


def test_the_page_has_every_editor():
    assert sorted(option for _, option, *_ in TABLE) == sorted(memkit.EDITORS)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[1])
def test_properties_of_an_editor(row):
    name, option, models, changes, needs, _ = row
    editor = memkit.EDITORS[option]
    assert editor.__name__ == name
    assert KINDS[editor.kinds] == models
    assert changes.startswith("nothing") == (editor.adaptor is not Editor.adaptor)
    assert ("takes facts out" in changes) == editor.erases
    fields = {field.name for field in dataclasses.fields(editor)}
    assert ("second moments" in needs) == ("statistics" in fields)


@pytest.mark.parametrize("kind", ["Retrievers", "Routers"])
def test_retrievers_and_routers(kind):
    assert set(row(kind)) == set(METHODS[kind])
    page = {"Retrievers": "retrieval.md", "Routers": "routing.md"}[kind]
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    first = {
        name
        for line in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
        for name in NAME.findall(line)
    }
    assert set(METHODS[kind]) <= first


def test_protocols():
    assert set(NAME.findall(section("Protocols"))) >= set(PROTOCOLS)
    helpers = {"common_vocabulary", "outcomes", "poison"}
    assert set(row("Protocols")) == {*PROTOCOLS, "to_lm_eval"} - helpers


def test_benchmarks():
    listed = NAME.findall("\n".join(re.findall(r"^\|.*\|$", section("Benchmarks"), re.MULTILINE)))
    assert sorted(listed) == sorted(memkit.benchmarks.BENCHMARKS)
    named = row("Benchmarks")
    assert set(named) <= set(listed)
    (more,) = re.findall(r"and (\d+) more", README)
    assert len(named) + int(more) == len(listed)
    for stream in memkit.benchmarks.streams.STREAMS:
        assert f"`{stream.removeprefix('miniworld-')}`" in section("Benchmarks")


def test_what_the_shipped_model_knows():
    card = json.loads((shipped() / "card.json").read_text(encoding="utf-8"))["measured"]
    text = " ".join(README.split("## What it shows")[1].split())
    assert card["closed book, head"] == 1.0
    assert "all of the most popular tenth" in text
    assert f"{100 * card['closed book, tail']:.0f} per cent of the rarest half" in text
    assert f"answers {100 * card['gold passage, tail']:.0f} per cent of the latter" in text
    assert round(5 * card["wrong passage, head"]) == 1
    assert "loses four in five of the former" in text


def test_the_files_that_the_readme_links_to_are_there():
    links = re.findall(r"\]\(([^)#]+)", README) + re.findall(r'(?:src|href)="([^"]+)"', README)
    assert len(links) > 20
    for link in links:
        assert (ROOT / link).exists(), link
