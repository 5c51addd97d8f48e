"""The pages' code and commands run, and print what stands below them.

Blocks of one page run in order, in one folder, with one namespace. Numbers may differ by what
processors differ in, and times in whatever way.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from memkit.cli import main

from . import standins
from .checking import Unknown, check
from .pages import ROOT, RUN, TABLES, Block, blocks, commands, commands_of, name

KNOWN = ("python", "sh", "toml", "text", "bibtex")
TIME = re.compile(r"\d+(?:\.\d+)?(?= ?(?:s|ms|µs|min|seconds)\b)")
NUMBER = re.compile(r"\d+(?:\.\d+)?")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for all pages, as a reader has one."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("page", RUN, ids=name)
def test_a_page_does_what_it_says(page, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("MEMKIT_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    standins.files(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(page):
        assert block.language in KNOWN, f"{block} does not say what it is"
        if block.language == "python":
            said = run_python(block, names)
        elif block.language == "sh":
            said = run_commands(block)
        else:
            continue
        if block.shown is not None:
            compare(said, block)
        elif block.language == "python":
            assert not said or standins.substituted(block.text) != block.text, (
                f"{block} prints what the page does not show:\n{said}"
            )


def run_python(block: Block, names: dict[str, object]) -> str:
    """What the block prints; its lines are those of the page in a traceback."""
    text = "\n" * (block.line - 1) + standins.substituted(block.text)
    code = compile(text, str(ROOT / block.page), "exec")
    said = io.StringIO()
    if not any(line in block.text for line in standins.NOT_RUN_CODE):
        with contextlib.redirect_stdout(said):
            exec(code, names)
    return said.getvalue()


def run_commands(block: Block) -> str:
    """What the commands print on stdout; those that are not run have the options that they name."""
    said = io.StringIO()
    for words in commands(block.text):
        check(words)
        line = " ".join(words)
        if words[0] == "python" or line.startswith(tuple(standins.NOT_RUN)):
            continue  # the scripts themselves run in test_comparisons
        assert words[0] == "memkit", f"{block}: {line} is not run"
        with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as ended:
            main([standins.substituted(word) for word in words[1:]])
        assert ended.value.code == 0, f"{block}: {line} ended with {ended.value.code}"
    return said.getvalue()


def compare(said: str, block: Block) -> None:
    """Words are equal, times are times, and other numbers are close."""
    said, shown = TIME.sub("#", said), TIME.sub("#", block.shown or "")
    assert NUMBER.sub("#", said) == NUMBER.sub("#", shown), f"{block} prints something else"
    numbers = [float(number) for number in NUMBER.findall(said)]
    expected = [float(number) for number in NUMBER.findall(shown)]
    assert numbers == pytest.approx(expected, rel=0.1, abs=0.2), f"{block} prints other numbers"


def test_no_page_is_forgotten():
    pages = {*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")} - {ROOT / "CHANGELOG.md"}
    assert pages <= {*RUN, *TABLES}
    for page in TABLES:  # commands in them are checked, not run; code would not be
        assert [block for block in blocks(page) if block.language not in ("sh", "text")] == []


@pytest.mark.parametrize("page", [*RUN, *TABLES], ids=name)
def test_every_command_is_one(page):
    for words, whole in commands_of(page):
        check(words, whole)


@pytest.mark.parametrize(
    "command",
    [
        "memkit edit apply gpt2-xl facts.jsonl edits/mine --sett layer=17",
        "memkit edit apply gpt2-xl",
        "memkit edits show edits/mine",
        "python docs/comparisons/erasure.py --out runs/erasure --editors everything",
        "python docs/comparisons/gone.py",
        "pytest docs/benchmarks/test_qa_speed.py -k nothing_of_this_name",
        "make everything",
        "pip install memkit[everything]",
        "curl http://example.org",
    ],
)
def test_a_command_that_would_fail_is_found(command):
    with pytest.raises(Unknown):
        check(command.split())


def test_a_part_of_a_command_is_checked_too():
    check("memkit compare ... --dry-run".split(), whole=False)
    check("memkit index build".split(), whole=False)
    with pytest.raises(Unknown):
        check("memkit compare ... --dry".split(), whole=False)


def test_nothing_is_left_out_that_no_page_has():
    text = "\n".join(
        " ".join(words) for page in [*RUN, *TABLES] for words, _ in commands_of(page)
    ) + "".join(block.text for page in RUN for block in blocks(page))
    for start in (*standins.NOT_RUN, *standins.NOT_RUN_CODE, *standins.MODELS):
        assert start in text, f"no page has {start!r} any more"


def test_times_may_differ_and_words_may_not():
    block = Block("page.md", 1, "sh", "", "3 cells in 12.5 s\n")
    compare("3 cells in 700.1 s\n", block)
    for other in ("3 rows in 12.5 s\n", "4 cells in 12.5 s\n", "3 cells in 12.5 s\nmore\n"):
        with pytest.raises(AssertionError):
            compare(other, block)


def test_outputs_belong_to_the_block_above(tmp_path, monkeypatch):
    page = Path(tmp_path, "page.md")
    page.write_text("```python\nprint(1)\n```\n\n```\n1\n```\n\nText.\n\n```\nwhat?\n```\n")
    monkeypatch.setattr(f"{blocks.__module__}.ROOT", tmp_path)
    first, second = blocks(page)
    assert (first.line, first.language, first.shown) == (2, "python", "1\n")
    assert (second.language, second.shown) == ("", None)
