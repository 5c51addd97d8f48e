"""A paper's file: settings become editors, and published figures stand beside measured ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from memkit.compare import read_paper
from memkit.editors import EDITORS
from memkit.editors.base import Guards
from memkit.errors import BadInput

TEXT = """
paper = "A paper, 2023"

[every_editor]
on_guard = "warn"
guards = { perplexity = inf, size = inf }

[editors.FT]
type = "ft"
lr = 1e-2

[editors.grace]
on_guard = "reject"

[editors.ROME]
type = "rome"
contexts = ["{}"]

[editors.MEMIT]
type = "memit"

[run.small]
edits = 3
model = "gpt2"

[published.main]
of = "a large model, F1"
tag = "quoted"
columns = ["TRR", "ERR"]
rows.FT = [".56", ".82"]
"""


@dataclass(frozen=True)
class Run:
    edits: int
    model: str


def written(folder: Path, text: str) -> Path:
    path = folder / "paper.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_editors_have_the_files_settings_before_all_others(tmp_path):
    editors = read_paper(written(tmp_path, TEXT)).made_editors(contexts=("{}", "a{}"))
    assert list(editors) == ["FT", "grace", "ROME", "MEMIT"]
    assert isinstance(editors["grace"], EDITORS["grace"])
    assert (editors["FT"].lr, editors["FT"].on_guard) == (1e-2, "warn")
    assert editors["FT"].guards == Guards(perplexity=float("inf"), size=float("inf"))
    assert editors["grace"].on_guard == "reject"
    assert editors["ROME"].contexts == ("{}",)
    assert editors["MEMIT"].contexts == ("{}", "a{}")


def test_published_columns_stand_at_the_right(tmp_path):
    paper = read_paper(written(tmp_path, TEXT))
    table = [["method", "TRR"], ["---", "---"], ["unedited", "1.0"], ["FT", "0.2"]]
    assert paper.beside("main", table) == [
        ["method", "TRR", "TRR (quoted)", "ERR (quoted)"],
        ["---", "---", "---", "---"],
        ["unedited", "1.0", "", ""],
        ["FT", "0.2", ".56", ".82"],
    ]


def test_a_scripts_own_table_is_checked_as_a_dataclass(tmp_path):
    paper = read_paper(written(tmp_path, TEXT))
    assert paper.made(Run, "small") == Run(3, "gpt2")
    with pytest.raises(BadInput, match=r"run.smal is not there.*'small'"):
        paper.made(Run, "smal")
    worse = read_paper(written(tmp_path, TEXT.replace("edits = 3", "edit = 3")))
    with pytest.raises(BadInput, match=r"run.small.edit is unknown.*'edits'"):
        worse.made(Run, "small")


@pytest.mark.parametrize(
    ("found", "other", "said"),
    [
        ('tag = "quoted"', 'tag = "seen"', "published.main.tag is not allowed.*'verified'"),
        ('[".56", ".82"]', '[".56"]', r"rows.FT has 1 figures; allowed: 2"),
        ("columns =", "column =", "published.main.column is unknown.*Did you mean 'columns'"),
        ("paper =", "papers =", "papers is unknown.*Did you mean 'paper'"),
        ('type = "rome"', 'type = "romme"', "editors.ROME is 'romme', no editor.*'rome'"),
        ("lr = 1e-2", "rate = 1e-2", "editors.FT.rate is unknown.*'lr'"),
        ("lr = 1e-2", 'lr = "fast"', "editors.FT.lr is 'fast'"),
        ("[editors.FT]", "[editors.FT", "is no TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, found, other, said):
    assert TEXT.count(found) == 1
    with pytest.raises(BadInput, match=said):
        read_paper(written(tmp_path, TEXT.replace(found, other)))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        read_paper(tmp_path / "paper.toml")
