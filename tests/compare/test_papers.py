"""A paper's file: its editors, and its figures beside what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from memkit.compare import read_paper
from memkit.editors import EDITORS
from memkit.errors import BadInput

FILES = sorted((Path(__file__).resolve().parents[2] / "docs" / "comparisons").glob("*.toml"))
TEXT = """
[settings]
on_guard = "warn"

[editors.mine]
type = "ft"
lr = 0.5

[editors.grace]

[run]
edits = 3

[variants.large.mine]
lr = 0.1

[variants.late.mine]
epochs = 3

[published.all]
tag = "recalled"
of = "a model"
columns = ["TRR", "edits"]

[published.all.rows]
mine = [0.5, 1000]
theirs = [0.25, ""]
"""


@pytest.fixture
def paper(tmp_path):
    def write(text):
        path = tmp_path / "paper.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_editors_have_common_and_own_settings(paper):
    found = read_paper(paper(TEXT)).editors()
    assert list(found) == ["mine", "grace"]
    assert type(found["mine"]) is EDITORS["ft"]
    assert type(found["grace"]) is EDITORS["grace"]
    assert EDITORS["ft"]().on_guard != "warn"
    assert found["mine"].lr == 0.5
    assert read_paper(paper(TEXT)).run == {"edits": 3}
    assert {editor.on_guard for editor in found.values()} == {"warn"}


def test_variants_go_before_what_holds_without_them(paper):
    found = read_paper(paper(TEXT))
    assert found.editors()["mine"].lr == 0.5
    assert found.editors("large")["mine"].lr == 0.1
    both = found.editors("large", "late")["mine"]
    assert (both.lr, both.epochs, both.on_guard) == (0.1, 3, "warn")
    assert found.editors("late")["mine"].lr == 0.5
    with pytest.raises(BadInput, match=r"variants has no 'big'.*'large', 'late'"):
        found.editors("big")


def test_published_figures_stand_beside_their_rows(paper):
    published = read_paper(paper(TEXT)).published["all"]
    table = [["method", "TRR"], ["---", "---"], ["other", "0.1"], ["mine", "0.2"]]
    assert published.beside(table) == [
        ["method", "TRR", "recalled: TRR", "recalled: edits"],
        ["---", "---", "---", "---"],
        ["other", "0.1", "", ""],
        ["mine", "0.2", "0.5", "1000"],
        ["theirs", "", "0.25", ""],
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("lr = 0.5", "rate = 0.5", "editors.mine.rate is unknown"),
        ('type = "ft"', 'type = "fit"', "editors.mine is 'fit', no editor"),
        ('on_guard = "warn"', 'on_guard = "shout"', "editors.mine.on_guard is 'shout'"),
    ],
)
def test_an_editor_that_cannot_be_made_is_named(paper, old, new, said):
    assert old in TEXT
    with pytest.raises(BadInput, match=said):
        read_paper(paper(TEXT.replace(old, new))).editors()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[0.5, 1000]", "[0.5]", "the row mine has 1 figures; allowed: 2"),
        ('tag = "recalled"', 'tag = "sure"', "published.all.tag"),
        ("[published.all]", "[publish.all]", "publish"),
        ("[editors.grace]", "[editors.grace", "paper.toml"),
        ("[variants.large.mine]", "[variants.large.min]", "variants.large.min: allowed"),
    ],
)
def test_a_file_with_what_is_not_allowed_is_refused(paper, old, new, said):
    assert old in TEXT
    with pytest.raises(BadInput, match=said):
        read_paper(paper(TEXT.replace(old, new)))


def test_every_variant_of_the_entity_table_can_be_made():
    (path,) = (file for file in FILES if file.stem == "onoe")
    paper = read_paper(path)
    assert paper.published
    rates = {name: paper.editors(name)["FT full"].lr for name in paper.variants}
    assert rates == {"ECBD": 3e-6, "T5": 5e-4, "T5, ECBD": 1e-5, "miniworld": 5e-4}


@pytest.mark.parametrize("name", ["grace", "erasure", "extsub", "small"])
def test_the_papers_of_the_comparisons_can_be_read(name):
    (path,) = (file for file in FILES if file.stem == name)
    paper = read_paper(path)
    assert len(paper.editors()) == len(paper.parts) > 0
    assert bool(paper.published) == (name not in ("erasure", "small"))
