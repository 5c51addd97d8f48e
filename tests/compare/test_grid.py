"""Cells: what their hashes depend on, and what cannot be."""

from __future__ import annotations

import copy
import shutil

import pytest

from memkit.compare import read_spec
from memkit.compare.grid import grid
from memkit.errors import BadInput
from memkit.testing.models import tiny_lm


def ids(wanted):
    return {cell.name: cell.id for cell in grid(read_spec(wanted)).cells}


def test_a_memory_that_takes_no_facts_in_has_one_cell(wanted):
    made = grid(read_spec(wanted))
    ways = {}
    for cell in made.cells:
        ways.setdefault(cell.memory, []).append((cell.count, cell.schedule))
    assert ways["plain"] == ways["bm25"] == [(0, "")]
    assert ways["ft"] == [(1, "batch"), (2, "batch"), (2, "sequential")]


def test_equal_specifications_have_equal_cells_wherever_they_stand(wanted):
    assert ids(wanted) == ids(copy.deepcopy(wanted))
    wanted["memories"] = dict(reversed(wanted["memories"].items()))
    assert set(ids(wanted).values()) == set(ids(copy.deepcopy(wanted)).values())


CHANGES = [
    (("editors", "ft", "epochs"), 3, {"ft", "routed"}),
    (("retrievers", "bm25", "k"), 2, {"bm25", "routed"}),
    (("routers", "popularity", "scope"), "global", {"routed"}),
    (("max_new_tokens",), 8, {"plain", "bm25", "ft", "routed"}),
    (("benchmarks", "small", "questions"), 11, {"plain", "bm25", "ft", "routed"}),
    (("benchmarks", "small", "fit"), 9, {"routed"}),
    (("template",), {"question": "{question}"}, {"plain", "bm25", "ft", "routed"}),
]


@pytest.mark.parametrize(
    ("place", "value", "memories"), CHANGES, ids=[".".join(place) for place, *_ in CHANGES]
)
def test_a_change_changes_the_cells_that_it_touches_and_no_others(wanted, place, value, memories):
    before = ids(wanted)
    table = wanted
    for name in place[:-1]:
        table = table[name]
    table[place[-1]] = value
    after = ids(wanted)
    assert before.keys() == after.keys()
    changed = {name.split(" on ")[0] for name, id in after.items() if before[name] != id}
    assert changed == memories


def test_other_weights_are_other_cells(wanted, small_world, tmp_path):
    before = ids(wanted)
    shutil.copytree(small_world / "model", tmp_path / "model")
    wanted["models"]["tiny"]["path"] = str(tmp_path / "model")
    assert ids(wanted) == before  # the same files elsewhere are the same model
    tiny_lm("gpt2", n_positions=512).save(tmp_path / "other")
    wanted["models"]["tiny"]["path"] = str(tmp_path / "other")
    assert not set(ids(wanted).values()) & set(before.values())


def test_impossible_pairs_are_listed_once(wanted, tmp_path):
    tiny_lm("bert", head="BertForMaskedLM").save(tmp_path / "bert")
    tiny_lm("t5").save(tmp_path / "t5")
    wanted["models"] |= {"bert": {"path": str(tmp_path / "bert")}}
    wanted["models"] |= {"t5": {"path": str(tmp_path / "t5")}}
    wanted["memories"] = {"plain": {}, "rome": {"editor": "rome"}}
    wanted["seeds"] = [0, 1]
    made = grid(read_spec(wanted))
    pairs = [(pair.model, pair.memory) for pair in made.impossible]
    assert pairs == [("bert", "plain"), ("bert", "rome"), ("t5", "rome")]
    assert "ROME edits decoder models, and this one is encoder-decoder" in made.impossible[-1].why
    assert not [cell for cell in made.cells if (cell.model, cell.memory) in pairs]
    wanted["on_impossible"] = "refuse"
    with pytest.raises(BadInput, match="3 pairs are impossible: plain on bert"):
        grid(read_spec(wanted))


def test_another_corpus_changes_the_memories_that_read_it(wanted, small_world, tmp_path):
    before = ids(wanted)
    shutil.copytree(small_world, tmp_path / "world")
    wanted["benchmarks"]["small"]["path"] = str(tmp_path / "world")
    assert ids(wanted) == before
    (file,) = (tmp_path / "world").glob("passages*")
    file.write_text(file.read_text(encoding="utf-8").replace("born", "bred"), encoding="utf-8")
    after = ids(wanted)
    changed = {name.split(" on ")[0] for name, id in after.items() if before[name] != id}
    assert changed == {"bm25", "routed"}


def test_a_corpus_of_statistics_is_known_by_its_content(wanted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the file's own folder is ".", too
    (tmp_path / "texts.txt").write_text("One text.\n", encoding="utf-8")
    wanted["editors"]["rome"] = {"statistics": {"corpus": "texts.txt"}}
    wanted["memories"] = {"rome": {"editor": "rome"}}
    before = ids(wanted)
    (tmp_path / "texts.txt").write_text("Another text.\n", encoding="utf-8")
    assert not set(before.values()) & set(ids(wanted).values())


def test_an_editor_without_its_networks_is_impossible(wanted):
    wanted["memories"]["mend"] = {"editor": "mend"}
    (pair,) = grid(read_spec(wanted)).impossible
    assert (pair.model, pair.memory, pair.benchmark) == ("tiny", "mend", None)
    assert "editors.mend.networks" in pair.why


def test_what_a_benchmark_lacks_is_said(wanted):
    del wanted["edits"]
    made = grid(read_spec(wanted))
    assert {pair.memory for pair in made.impossible} == {"ft", "routed"}
    assert "nothing to write" in made.impossible[0].why
