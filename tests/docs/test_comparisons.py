"""The comparison scripts run, in a short form, on real records where a developer has them."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

import memkit

SCRIPTS = Path(__file__).resolve().parents[2] / "docs" / "comparisons"


def test_popqa_router(shared, tmp_path, capsys):
    script = runpy.run_path(str(SCRIPTS / "popqa_router.py"))
    data = shared / "data" / "popqa" / "neuropath" / "popqa.json"
    options = ["--limit", "24", "--steps", "2", "--out", str(tmp_path / "out")]
    script["main"](["--data", str(data), *options])
    printed = capsys.readouterr().out
    for row in ("closed book", "BM25", "gold passage", "random passage", "router", "oracle"):
        assert f"| {row}" in printed
    found = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert found["results"]["trained"]["EM"]["questions"] == 24
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8").startswith("<!")


def test_popqa_by_size(shared, tmp_path, capsys):
    from memkit.testing.models import tiny_lm

    models = []
    for name, layers in (("large", 3), ("small", 1)):
        tiny_lm("gpt2", n_positions=512, n_layer=layers).save(tmp_path / name)
        models.append(str(tmp_path / name))
    script = runpy.run_path(str(SCRIPTS / "popqa_router.py"))
    data = shared / "data" / "popqa" / "neuropath" / "popqa.json"
    options = ["--limit", "20", "--model", *models, "--out", str(tmp_path / "out")]
    script["main"](["--data", str(data), *options])
    for name in ("popularity", "adaptive", "scale"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    table = printed[printed.index("By size") :].splitlines()[2:]
    assert table[0].startswith("| model | parameters | closed book | rarest | most popular | r |")
    assert [Path(row.split(" | ")[0][2:]).name for row in table[1:3]] == ["small", "large"]
    (row,) = (line for line in table if line.startswith("| oracle |"))
    assert row.endswith(" | 51 |")
    assert row.count(" | ") == 3


def test_popqas_figures_on_the_miniature_world(tmp_path, capsys):
    script = runpy.run_path(str(SCRIPTS / "popqa_router.py"))
    script["main"](["--questions", "40", "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "miniworld: popqa-substring, 40 questions" in printed
    assert "| verified: davinci-003, all |" in printed
    assert printed.count("| Contriever |") == 1
    for name in ("deciles", "popularity", "adaptive"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "out" / "scale.png").exists()


def test_models_of_several_sizes_on_the_miniature_world(tmp_path, capsys):
    from memkit.testing.models import tiny_lm

    world = memkit.world.shipped().parent
    tiny_lm("gpt2", n_positions=512).save(tmp_path / "tiny")
    script = runpy.run_path(str(SCRIPTS / "popqa_router.py"))
    options = ["--world", str(world), "--model", str(tmp_path / "tiny"), str(world / "model")]
    script["main"]([*options, "--questions", "20", "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    table = printed[printed.index("By size") :].splitlines()[3:]
    assert [Path(row.split(" | ")[0][2:]).name for row in table[:2]] == ["tiny", "model"]
    assert (tmp_path / "out" / "scale.png").read_bytes().startswith(b"\x89PNG")


def test_editing_methods(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MEMKIT_CACHE", str(tmp_path / "cache"))
    script = runpy.run_path(str(SCRIPTS / "editing_methods.py"))
    options = ["--facts", "2", "--sequence", "2", "--editors", "FineTune", "ROME"]
    script["main"]([*options, "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    for table in ("single, 2 facts", "sequential, 2 facts"):
        assert table in printed
    assert printed.count("| unedited |") == 2
    found = json.loads((tmp_path / "out" / "single.json").read_text(encoding="utf-8"))
    assert set(found) == {"FineTune", "ROME"}
    assert len(found["ROME"]["records"]) == 2


def test_editing_methods_with_networks_that_are_there(tmp_path, capsys):
    world = memkit.benchmarks.load("miniworld")
    facts = memkit.world.practice(world)[:12]
    lm = memkit.LM.load(memkit.world.shipped(), device="cpu")
    memkit.MEND(rank=4, steps=1, edits_per_batch=2).train(lm, facts, out=tmp_path / "mend")
    script = runpy.run_path(str(SCRIPTS / "editing_methods.py"))
    with pytest.raises(SystemExit):
        script["main"](["--editors", "MEND"])
    assert "MEND needs --mend FOLDER" in capsys.readouterr().err
    options = ["--facts", "2", "--sequence", "2", "--mend", str(tmp_path / "mend")]
    script["main"]([*options, "--editors", "MEND"])
    assert capsys.readouterr().out.count("| MEND | ") == 2


def test_entity_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MEMKIT_CACHE", str(tmp_path / "cache"))
    script = runpy.run_path(str(SCRIPTS / "entity_table.py"))
    script["main"].__globals__["ROUTED"] = 8
    options = ["--probes", "2", "--others", "1", "--editors", "FT full", "--counts", "1", "2"]
    script["main"]([*options, "--overlap", "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    for row in ("base", "FT full", "Definition", "Random definition", "BM25, all", "Router"):
        assert f"| {row}" in printed
    assert printed.count("| all in the prompt |") == printed.count("| one retrieved |") == 2
    found = json.loads((tmp_path / "out" / "entities.json").read_text(encoding="utf-8"))
    assert len(found["probes"]) == 4
    assert (tmp_path / "out" / "entity_crowded.png").stat().st_size > 1000
    words = json.loads((tmp_path / "out" / "overlap.json").read_text(encoding="utf-8"))
    assert len(words["gains"]["FT full"]) == len(words["measures"]["rougeL"]) == 4


@pytest.mark.filterwarnings("ignore:.*do not name their entity:UserWarning")
@pytest.mark.parametrize("name", ["entity_inferences", "ecbd"])
@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_entity_table_on_the_papers_data(shared, tmp_path, capsys, name, family):
    from memkit.testing.models import tiny_lm

    lm = tiny_lm(family, n_positions=1024)
    if family == "t5":
        lm.tokenizer.add_tokens(["<extra_id_0>", "<extra_id_1>"])
        lm.model.resize_token_embeddings(len(lm.tokenizer))
    lm.save(tmp_path / "lm")
    script = runpy.run_path(str(SCRIPTS / "entity_table.py"))
    options = ["--data", str(shared / "data" / name), "--benchmark", name, "--probes", "1"]
    options += ["--model", str(tmp_path / "lm"), "--others", "1", "--editors", "FT last layer"]
    script["main"](options)
    printed = capsys.readouterr().out
    assert printed.count("| FT last layer |") == 1
    assert ("perplexity" in printed) == (name == "ecbd")


def test_edited_facts(tmp_path, capsys):
    script = runpy.run_path(str(SCRIPTS / "edited_facts.py"))
    script["main"].__globals__["STEPS"] = (1, 2)
    options = ["--facts", "2", "--fit", "20", "--editors", "FineTune"]
    script["main"]([*options, "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert printed.count("| edit scope, then popularity |") == 2
    assert printed.count("| keep |") + printed.count("| fit again |") == 2
    found = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert len(found["rows"]) == 8
    assert (tmp_path / "out" / "edited_facts.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_routers(tmp_path, capsys):
    script = runpy.run_path(str(SCRIPTS / "routers.py"))
    options = ["--questions", "80", "--every", "16", "--copies", "2"]
    script["main"]([*options, "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    names = list(script["routers"]())
    for row in ("closed book", "retrieval", "oracle", *names):
        assert f"| {row} |" in printed
    assert printed.count("| repeat |") == printed.count("| namesake |") == 10
    found = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert list(found["routers"]) == names
    assert len(found["attacks"]) == 30


def test_lifelong(tmp_path, capsys):
    script = runpy.run_path(str(SCRIPTS / "lifelong.py"))
    options = ["--edits", "2", "--every", "2", "--upstream-limit", "5", "--editors", "FT", "GRACE"]
    script["main"]([*options, "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    for stream in ("zsre: f1", "scotus: accuracy", "hallucination: perplexity"):
        assert f"miniworld-{stream}, 5 test cases" in printed
    assert printed.count("| unedited |") == 3
    assert printed.count("| GRACE |") == 3
    assert printed.count("recalled: ERR") == 3
    assert "| Defer |  |  |  |  |  |  |  | 0.72 | 0.31 | 0.52 |" in printed
    for name in ("zsre", "scotus", "hallucination"):
        for figure in (f"{name}.png", f"{name}_seconds.png"):
            assert (tmp_path / "out" / figure).read_bytes().startswith(b"\x89PNG")
    found = sorted(path.parent.name for path in (tmp_path / "out").glob("*/*/result.json"))
    assert found == ["FT"] * 3 + ["GRACE"] * 3


def test_what_mend_learns_from_does_not_come_in_the_stream(tmp_path):
    script = runpy.run_path(str(SCRIPTS / "lifelong.py"))
    from memkit.benchmarks import streams

    stream = streams.load("miniworld-zsre", upstream_limit=100)
    kept, lesson = script["divided"](stream, 0.2, 50, tmp_path)
    taught = {fact.id for fact in lesson.facts}
    come = {fact.id for fact in kept.edits} | {question.id for question in kept.holdout}
    assert len(taught) == len(lesson.facts) > 100
    assert not taught & come
    assert any(fact.paraphrases for fact in lesson.facts)
    assert [question.text for question in kept.upstream] == [
        question.text for question in stream.upstream[:50]
    ]
    assert {fact.text for fact in lesson.locality} == {q.text for q in stream.upstream[50:]}


def test_break_even(tmp_path, capsys):
    script = runpy.run_path(str(SCRIPTS / "break_even.py"))
    options = ["--facts", "4", "--first", "1", "--queries", "6", "--editors", "GRACE"]
    script["main"]([*options, "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert printed.count("| GRACE |") == 3
    found = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert len(found["GRACE"]["lived"]["costs"]["edit"]) == 7
    assert (tmp_path / "out" / "GRACE.png").is_file()


def test_audit(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MEMKIT_CACHE", str(tmp_path / "cache"))
    script = runpy.run_path(str(SCRIPTS / "audit.py"))
    options = ["--facts", "2", "--editors", "ROME", "FineTune", "--out", str(tmp_path / "out")]
    script["main"](options)
    printed = capsys.readouterr().out
    assert "| ROME | 2 | 2 |" in printed
    assert "| FineTune | 2 | none |" in printed
    rome, _ = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert rome["prompts"]["recall"] == 1


def test_unstructured(tmp_path, capsys):
    script = runpy.run_path(str(SCRIPTS / "unstructured.py"))
    script["main"](["--facts", "2", "--editors", "FT", "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "sub-question" in printed
    found = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert list(found["cells"]) == ["unedited", "FT", "in the prompt", "retrieval"]
    assert found["cells"]["in the prompt"]["sub-question contains"]["mean"] == 1


def test_erasure(tmp_path, capsys):
    script = runpy.run_path(str(SCRIPTS / "erasure.py"))
    options = ["--facts", "2", "--editors", "GRACE", "gradient ascent"]
    script["main"]([*options, "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    for row in ("unedited", "GRACE", "gradient ascent"):
        assert printed.count(f"| {row} |") == 1
    found = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert found["rows"][1]["verdicts"] == ["suppressed"] * 2


def test_ext_sub(tmp_path, capsys):
    script = runpy.run_path(str(SCRIPTS / "extsub.py"))
    options = ["--seeds", "1", "--taught", "20", "--questions", "4"]
    options += ["--out", str(tmp_path / "out")]
    script["main"](options)
    first = capsys.readouterr()
    assert first.out.count("| unedited |") == 2
    for row in ("anti-expert", "plain subtraction, 0.2", "Ext-Sub, 1", "merge"):
        assert first.out.count(f"| {row} |") == 2
    (expert,) = (row for row in first.out.splitlines() if row.startswith("| expert |"))
    assert expert.endswith("| 33.3 | 52.8 | 43.1 | 48.1 | 31.3 | 31.2 |")
    assert "seed 0: training" in first.err
    script["main"](options)  # from the adapters that are there
    again = capsys.readouterr()
    assert "training" not in again.err
    assert again.out == first.out
    (run,) = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["runs"]
    assert set(run["expert"]) > {"mc1", "taught", "other facts"}


def test_ext_sub_with_real_adapters(shared, tmp_path, capsys):
    lm = memkit.LM.load(memkit.world.shipped(), device="cpu")
    editor = memkit.LoRA(rank=2, epochs=1, batch_size=2)
    for name in ("expert", "anti-expert"):
        editor.train(lm, [("Q: Who?", f" {name}."), ("Q: What?", " That.")]).save(tmp_path / name)
    script = runpy.run_path(str(SCRIPTS / "extsub.py"))
    options = ["--model", str(memkit.world.shipped()), "--expert", str(tmp_path / "expert")]
    options += ["--anti-expert", str(tmp_path / "anti-expert"), "--limit", "2"]
    options += ["--data", str(shared / "data" / "truthfulqa" / "TruthfulQA.csv")]
    script["main"]([*options, "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "| Ext-Sub, 2 |" in printed
    assert "| 36.0 | 55.2 | 46.4 | 49.2 | 34.6 | 34.4 |" in printed


def test_collapse(capsys):
    script = runpy.run_path(str(SCRIPTS / "collapse.py"))
    script["main"](["--facts", "3", "--editors", "FT", "GRACE"])
    printed = capsys.readouterr().out
    assert "| FT |  |  | 3 of 3 |" in printed
    assert "| GRACE |  |  | 3 of 3 | 1.00 | 1.00 | 1.00 | 1.00 |" in printed


def test_temporal(tmp_path, capsys):
    script = runpy.run_path(str(SCRIPTS / "temporal.py"))
    options = ["--cases", "1", "--editors", "FT", "--out", str(tmp_path / "out")]
    script["main"](options)
    printed = capsys.readouterr().out
    for row in ("FT, dated", "FT on the text", "in the prompt", "retrieval"):
        assert row in printed
    found = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    (record,) = found["temporal"]["records"]
    plain, new, old = record["asked"]
    assert new == f"In 2022, {plain[0].lower()}{plain[1:]}"
    assert old == new.replace("2022", "2012")
    assert record["answers"]["FT"][0] != record["answers"]["unedited"][0]


def test_temporal_on_real_rows(shared, tmp_path, capsys):
    from memkit.testing.models import tiny_lm

    tiny_lm("gpt2", n_positions=512).save(tmp_path / "tiny")
    script = runpy.run_path(str(SCRIPTS / "temporal.py"))
    for name, file in (("ike_time", "temporal/time_editing"), ("dune", "dune/new_info")):
        options = ["--data", name, "--path", str(shared / "data" / f"{file}.json")]
        script["main"]([*options, "--model", str(tmp_path / "tiny"), "--cases", "2", "--editors"])
    printed = capsys.readouterr().out
    assert "HES" in printed
    assert "tendency" in printed


def test_canonical(tmp_path, capsys):
    script = runpy.run_path(str(SCRIPTS / "canonical.py"))
    script["main"].__globals__["GENERAL"] = 2
    options = ["--examples", "2", "--rounds", "1", "--editors", "FT one MLP, 1e-3"]
    script["main"]([*options, "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "2 examples, 2 to evaluate on" in printed
    found = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    task = found["task"]
    for fact, asked in zip(task["facts"], task["evaluation"], strict=True):
        assert asked["suffix"] == f" {fact['target']}"
        assert fact["target"] not in asked["prefix"]
        assert fact["subject"] in asked["prefix"]
    assert len(found["rows"]["FT one MLP, 1e-3"]["rounds"]) == 2


def test_canonical_on_the_papers_data(shared, tmp_path, capsys):
    script = runpy.run_path(str(SCRIPTS / "canonical.py"))
    data = shared / "data"
    options = ["--data", str(data / "canonical_examples"), "--examples", "2", "--rounds", "1"]
    options += ["--texts", str(data / "me_ppl" / "ME-PPL_50.json")]
    options += ["--model", str(shared / "models" / "tinystories-656k"), "--editors"]
    script["main"]([*options, "FT one MLP, 1e-4"])
    assert "country_capital: 2 examples" in capsys.readouterr().out
