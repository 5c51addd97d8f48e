"""Pages as tests see them: blocks of code, the outputs shown below them, and commands.

A block that is executed says its language: ```python or ```sh. The output of a block stands right
below it, in a block without a language. ```toml, ```text and ```bibtex are shown, not run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SITE = [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/tutorials").glob("*.md"))]
RUN = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")), *SITE]
RUN.append(ROOT / "indexes/README.md")
TABLES = [*sorted((ROOT / "docs/comparisons").glob("*.md")), ROOT / "docs/benchmarks/README.md"]

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n)+")
INLINE = re.compile(r"`([^`]+)`")
STARTS = ("memkit", "python", "pytest", "make", "pip", "uv", "java")
COMMENT = re.compile(r"(?:^|\s)#.*")  # in mid-word it is none, which shlex does not know
VARIABLE = re.compile(r"[A-Z_]+=\S+")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code, the line of the page that it begins on, and the output shown below it."""

    page: str
    line: int
    language: str
    text: str
    shown: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page in order, outputs beside what they are the output of."""
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    ended = -1
    for match in FENCED.finditer(text):
        is_output = not match[1] and text[ended : match.start()] == "\n\n"
        if is_output and found and found[-1].shown is None:
            last = found.pop()
            found.append(Block(last.page, last.line, last.language, last.text, match[2]))
        else:
            line = text.count("\n", 0, match.start(2)) + 1
            found.append(Block(name(page), line, match[1], match[2], None))
        ended = match.end()
    return found


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command in a block for the shell, without variables and comments."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(COMMENT.sub("", line))
        while words and VARIABLE.fullmatch(words[0]):
            del words[0]
        if words:
            yield words


def commands_of(page: Path) -> Iterator[tuple[list[str], bool]]:
    """Every command on a page, and whether it is whole: what stands in a sentence may be a part."""
    text = page.read_text(encoding="utf-8")
    for block in blocks(page):
        if block.language == "sh":
            yield from ((words, True) for words in commands(block.text))
    prose = FENCED.sub("", text)
    for block in INDENTED.findall(prose):
        for words in commands(block):
            if words[0] in STARTS:
                yield words, True
    for line in INLINE.findall(INDENTED.sub("", prose)):
        with_variables = " ".join(line.split())
        if VARIABLE.sub("", with_variables).lstrip().startswith(tuple(f"{s} " for s in STARTS)):
            yield from ((words, False) for words in commands(with_variables))
