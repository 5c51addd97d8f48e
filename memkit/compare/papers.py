"""A paper's file: the editors of its table with their settings, and the figures that it printed.

    [settings]                          # of every editor
    on_guard = "warn"

    [editors.FT]                        # the key is the row, `type` the method, as in a comparison
    type = "ft"
    lr = 1e-2

    [run]                               # what the paper's script takes by default
    edits = 1000

    [variants.T5.FT]                    # what else holds for an editor when it is asked for
    end = true

    [published.zsre]
    tag = "recalled"                    # or "verified": read in the paper or its code
    of = "T5, token F1"
    columns = ["TRR", "ERR"]

    [published.zsre.rows]
    FT = [0.56, 0.82]

The scripts of docs/comparisons read such files, and print what they measured beside what was
published.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from memkit.compare.settings import made
from memkit.compare.spec import Part, near
from memkit.editors import EDITORS
from memkit.editors.base import Editor
from memkit.errors import BadInput

__all__ = ["Paper", "Published", "read_paper"]


class Published(BaseModel):
    """A published table: of what, how far it was checked, and a row of figures for each method.

    `tag` is "verified" where the figures were read in the paper or its code, else "recalled". A
    figure that the paper does not give is "".
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tag: Literal["verified", "recalled"]
    of: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[float | str, ...]]

    @model_validator(mode="after")
    def _fit(self) -> Published:
        for name, row in self.rows.items():
            if len(row) != len(self.columns):
                raise ValueError(
                    f"the row {name} has {len(row)} figures; allowed: {len(self.columns)}, one a "
                    'column. Write "" for what is not given'
                )
        return self

    def beside(self, table: Sequence[Sequence[str]]) -> list[list[str]]:
        """A table in text, header and rule first, with these figures in columns at its end.

        Rows go together by their first cells; what was published and not measured comes last.
        """
        header, rule, *rows = table
        width = len(self.columns)
        found = [[*header, *(f"{self.tag}: {name}" for name in self.columns)]]
        found.append([*rule, *["---"] * width])
        texts = {name: [_text(value) for value in row] for name, row in self.rows.items()}
        found += [[*row, *texts.pop(row[0], [""] * width)] for row in rows]
        blank = [""] * (len(header) - 1)
        return found + [[name, *blank, *row] for name, row in texts.items()]


class Paper(BaseModel):
    """The file's tables; see the module."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: dict[str, Any] = {}
    parts: dict[str, Part] = Field(default={}, alias="editors")
    run: dict[str, Any] = {}
    variants: dict[str, dict[str, dict[str, Any]]] = {}
    published: dict[str, Published] = {}

    @model_validator(mode="after")
    def _known(self) -> Paper:
        for variant, parts in self.variants.items():
            for name in parts:
                if name not in self.parts:
                    raise ValueError(f"variants.{variant}.{name}: {near(name, self.parts)}")
        return self

    def editors(self, *variants: str) -> dict[str, Editor]:
        """The editors, by their rows' names; of variants a later one goes before an earlier one.

        Raises `BadInput` for what is not allowed, with its place.
        """
        for variant in variants:
            if variant not in self.variants:
                raise BadInput(f"variants has no {variant!r}; {near(variant, self.variants)}")
        return {name: self._editor(name, part, variants) for name, part in self.parts.items()}

    def _editor(self, name: str, part: Part, variants: Sequence[str]) -> Editor:
        known = part.type or name
        if known not in EDITORS:
            raise BadInput(f"editors.{name} is {known!r}, no editor; {near(known, EDITORS)}")
        settings = {**self.settings, **part.settings}
        for variant in variants:
            settings |= self.variants[variant].get(name, {})
        return made(EDITORS[known], settings, f"editors.{name}")


def read_paper(path: str | os.PathLike[str]) -> Paper:
    """The file of a paper.

    Raises `BadInput` for one that cannot be read or has what is not allowed, with its place.
    """
    try:
        values: Mapping[str, Any] = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        return Paper(**values)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise BadInput(
            f"{str(path)!r} cannot be read as a paper's file ({error}); allowed: tables settings, "
            "editors, run and published, as docs/comparisons/grace.toml has them. Correct it."
        ) from error


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"
