"""A specification is checked whole, and an error says where and what was meant."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from memkit.compare import read_spec
from memkit.compare.grid import grid
from memkit.compare.memories import memory
from memkit.editors import EDITORS
from memkit.errors import BadInput

PLACES = [
    (("modells",), {}, "modells is unknown", "Did you mean 'models'"),
    (("models", "tiny", "devise"), "cpu", "models.tiny.devise is unknown", "'device'"),
    (("models", "tiny", "shipped"), "gpt2", "models.tiny", "one of path and shipped"),
    (("benchmarks", "small", "question"), 3, "benchmarks.small.question", "'questions'"),
    (("edits", "counts"), [3], "edits", "counts has 3; allowed: 1 to 2"),
    (("edits", "schedules"), ["batches"], "edits.schedules.0 is 'batches'", "'batch'"),
    (("memories", "ft", "editor"), "gracee", "memories.ft.editor is 'gracee'", "'grace'"),
    (("memories", "ft", "editor"), "ROME", "memories.ft.editor is 'ROME'", "mean 'rome'"),
    (("memories", "ft", "editr"), "ft", "memories.ft.editr is unknown", "'editor'"),
    (("memories", "bm25", "retriever"), "bm52", "memories.bm25.retriever is 'bm52'", "'bm25'"),
    (("memories", "routed", "router"), "popular", "memories.routed.router", "'popularity'"),
    (("memories", "plain", "router"), "popularity", "memories.plain.router", "name a retriever"),
    (("editors", "ft", "epoch"), 3, "editors.ft.epoch is unknown", "'epochs'"),
    (("editors", "ft", "epochs"), "many", "editors.ft.epochs is 'many'", "integer"),
    (("editors", "ft", "guards", "sise"), 3, "editors.ft.guards.sise is unknown", "'size'"),
    (("editors", "ft", "on_guard"), "stop", "editors.ft.on_guard", "'reject'"),
    (("retrievers", "bm25", "engin"), "x", "retrievers.bm25.engin is unknown", "'engine'"),
    (("retrievers", "bm25", "path"), "/nowhere", "retrievers.bm25.path", "not there"),
    (("routers", "popularity", "rules"), 1, "routers.popularity.rules is unknown", "'rule'"),
    (("template",), {"sperator": " "}, "template.sperator is unknown", "'separator'"),
    (("seeds",), [], "seeds", "at least 1"),
    (("edits", "facts"), 50, "benchmarks.small: count is 50", "allowed: 1 to 2"),
    (("benchmarks", "small", "split"), "tests", "benchmarks.small: split is 'tests'", "'known'"),
    (("models", "tiny", "path"), "no-such/model", "models.tiny.path is 'no-such/model'", "Hub"),
    (("models", "tiny", "device"), "cudda", "models.tiny: device is 'cudda'", "cuda"),
    (("models", "tiny", "dtype"), "flaot16", "models.tiny: dtype is 'flaot16'", "float16"),
    (("seeds",), [1, 1], "seeds is [1, 1]", "each once"),
    (("edits", "schedules"), [], "edits: schedules is []", "one or more"),
    (("edits", "probes"), ["asked", "asked"], "edits: probes is", "each once"),
    (("benchmarks", "popQ"), {}, "benchmarks.popQ: no benchmark", "Did you mean 'popqa'"),
    (("editors", "unused"), {"lr": 1}, "editors.unused is 'unused', no editor", "'rome'"),
    (("editors", "rome"), {"lrr": 1}, "editors.rome.lrr is unknown", "'lr'"),
    (("retrievers", "h"), {"type": "hybrid", "of": ["bm25"]}, "retrievers.h", "at least 2"),
    (("retrievers", "bm25", "k1"), -1, "retrievers.bm25: k1 is -1", "at least 0"),
    (("retrievers", "dense"), {"query_batch_size": 0}, "retrievers.dense", "at least 1"),
    (("retrievers", "genread"), {"prompt": "x"}, "retrievers.genread", "{question}"),
    (("retrievers", "remote-lucene"), {"shards": []}, "retrievers.remote-lucene", "no shards"),
    (("routers", "always"), {}, "routers.always.source is missing", "'weights' or 'retrieval'"),
    (("memories", "all"), {"retriever": "*", "editor": "ft"}, "'all bm25'", "each name once"),
]


@pytest.mark.parametrize(("place", "value", "where", "hint"), PLACES, ids=lambda x: str(x)[:40])
def test_what_is_wrong_is_named_with_its_place(wanted, place, value, where, hint):
    wanted["memories"]["all bm25"] = {}
    grid(read_spec(wanted))  # the trivial case: without the change it is fine
    changed = copy.deepcopy(wanted)
    table = changed
    for name in place[:-1]:
        table = table[name]
    table[place[-1]] = value
    with pytest.raises(BadInput) as error:
        grid(read_spec(changed))
    assert where in str(error.value)
    assert hint in str(error.value)


def test_a_file_is_read_with_paths_of_its_own(tmp_path, small_world):
    (tmp_path / "world").symlink_to(small_world)
    path = tmp_path / "spec.toml"
    path.write_text(
        'name = "x"\n[models.m]\npath = "world/model"\n[benchmarks.miniworld]\npath = "world"\n'
        "[memories.none]\n",
        encoding="utf-8",
    )
    made = grid(read_spec(path))
    assert made.folders == {"m": str(tmp_path / "world" / "model")}
    assert len(made.cells) == 1


@pytest.mark.parametrize(("text", "said"), [("name = ", "no TOML"), (None, "cannot be read")])
def test_a_file_that_is_none(tmp_path, text, said):
    path = tmp_path / "spec.toml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=said):
        read_spec(path)


def test_a_star_stands_for_every_editor(wanted):
    del wanted["editors"]
    wanted["memories"] = {"all": {"editor": "*"}}
    spec = read_spec(wanted)
    assert list(spec.memories) == [f"all {name}" for name in EDITORS]
    for name in spec.memories:
        assert memory(spec, name).editor is not None


def test_a_star_for_no_retriever_is_refused(wanted):
    del wanted["retrievers"]
    wanted["memories"] = {"all": {"retriever": "*"}}
    with pytest.raises(BadInput, match="has no \\[retrievers\\]"):
        read_spec(wanted)


def test_the_published_specification_is_allowed():
    file = Path(__file__).resolve().parents[2] / "docs" / "comparisons" / "miniworld.toml"
    made = grid(read_spec(file))
    assert len({cell.id for cell in made.cells}) == len(made.cells)
    assert made.impossible == ()


def test_a_router_within_itself_is_refused(wanted):
    wanted["routers"]["loop"] = {"type": "cascade", "stages": ["loop"]}
    wanted["memories"]["routed"]["router"] = "loop"
    with pytest.raises(BadInput, match="within itself"):
        grid(read_spec(wanted))
