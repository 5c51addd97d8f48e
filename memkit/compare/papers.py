"""A paper's tables beside our own: settings of its methods, and the figures that it published.

    paper = "Hartvigsen et al., NeurIPS 2023"

    [every_editor]                      # holds for all editors that do not say otherwise
    on_guard = "warn"

    [editors.GRACE]                     # the key is a row's name, and the method unless `type` says
    type = "grace"                      # another
    replacement = "prompt"

    [run.zsre]                          # what the paper's own script asks for, checked by it
    edits = 100

    [published.zsre]                    # figures as the paper prints them, by row
    of = "google/t5-small-ssm-nq, token F1"
    tag = "quoted"
    columns = ["TRR", "ERR"]
    rows.GRACE = [".69", ".96"]

Unlike a comparison's specification (`memkit.compare.spec`) it does not say what is asked: a paper
has its own protocol. Tags: "verified" was read in the paper or its code, "quoted" in another
document that gives the source, "recalled" in neither.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from memkit.compare.settings import made
from memkit.compare.spec import Closed, Part, near
from memkit.editors import EDITORS
from memkit.editors.base import Editor
from memkit.errors import BadInput

__all__ = ["Paper", "Published", "read_paper"]

T = TypeVar("T")


class Published(Closed):
    """Figures of a paper: of which model, data and metric, and how they are known."""

    of: str
    tag: Literal["verified", "quoted", "recalled"]
    columns: tuple[str, ...] = Field(min_length=1)
    rows: dict[str, tuple[str, ...]]

    @model_validator(mode="after")
    def _even(self) -> Published:
        for name, cells in self.rows.items():
            if len(cells) != len(self.columns):
                raise ValueError(
                    f"rows.{name} has {len(cells)} figures; allowed: {len(self.columns)}, one for "
                    "each of columns. Write an empty one where there is none"
                )
        return self


class Paper(Closed):
    """The whole file; see the module."""

    paper: str
    every_editor: dict[str, Any] = Field(default={})
    editors: dict[str, Part] = Field(default={})
    run: dict[str, dict[str, Any]] = Field(default={})
    published: dict[str, Published] = Field(default={})

    def made_editors(self, **settings: Any) -> dict[str, Editor]:
        """Every editor of the file by its name.

        `settings` are those that no file can have, as texts of a world, for the editors that know
        them and have no own. Raises `BadInput` for what is not allowed, with its place.
        """
        editors: dict[str, Editor] = {}
        for name, part in self.editors.items():
            known = name if part.type is None else part.type
            if known not in EDITORS:
                raise BadInput(f"editors.{name} is {known!r}, no editor; {near(known, EDITORS)}")
            kind = EDITORS[known]
            fields = {field.name for field in dataclasses.fields(kind)}
            given = {key: value for key, value in settings.items() if key in fields}
            values = {**self.every_editor, **given, **part.settings}
            editors[name] = made(kind, values, f"editors.{name}")
        return editors

    def made(self, kind: type[T], name: str) -> T:
        """The table [run.NAME] as an instance of a dataclass. Raises `BadInput`."""
        if name not in self.run:
            raise BadInput(f"run.{name} is not there; {near(name, self.run)}")
        return made(kind, self.run[name], f"run.{name}")

    def beside(self, name: str, table: Sequence[Sequence[str]]) -> list[list[str]]:
        """A measured table with the columns of [published.NAME] at its right, by row.

        The table's first row is its header, the second one may be Markdown's rule, and a row's
        first cell is its name. Rows that the paper does not have get empty cells.
        """
        found = self.published[name]
        blank = [""] * len(found.columns)
        rows = []
        for number, (first, *cells) in enumerate(table):
            own: Sequence[str] = found.rows.get(first, blank)
            if not number:
                own = [f"{column} ({found.tag})" for column in found.columns]
            elif cells and set(cells) == {"---"}:
                own = ["---"] * len(found.columns)
            rows.append([first, *cells, *own])
        return rows


def read_paper(source: str | os.PathLike[str]) -> Paper:
    """The file, with all its editors' settings checked.

    Raises `BadInput` for what is not allowed, with its place in the file and the nearest name.
    """
    path = Path(source)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(
            f"{str(path)!r} cannot be read ({error.strerror}); allowed: a TOML file. Check the "
            "path; docs/comparisons/lifelong.toml is one to start from."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{str(path)!r} is no TOML: {error}. Correct that line.") from error
    try:
        paper = Paper(**values)
    except ValidationError as error:
        unknown = [one for one in error.errors() if one["type"] == "extra_forbidden"]
        first = [*unknown, *error.errors()][0]
        place = ".".join(map(str, first["loc"])) or "the file"
        if unknown:
            names = (Published if len(first["loc"]) > 1 else Paper).model_fields
            said = f"is unknown; {near(str(first['loc'][-1]), names)}"
        else:
            said = f"is not allowed: {first['msg'].removeprefix('Value error, ').rstrip('.')}."
        raise BadInput(f"{path}: {place} {said}") from error
    paper.made_editors()
    return paper
