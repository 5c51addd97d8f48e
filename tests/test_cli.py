from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CORPUS = [
    {"id": "a", "text": "Lima is the capital of Peru.", "title": "Lima"},
    {"id": "b", "text": "Samuel Butler wrote Erewhon."},
]


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in CORPUS))
    return path


def test_builds_and_searches_an_index(run, corpus):
    code, out, err = run("index", "build", corpus, "index", "--engine", "bm25s")
    assert (code, out) == (0, "")
    assert "indexed 2 passages in index (bm25s)" in err
    code, out, err = run("index", "search", "index", "capital of Peru")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split()[::2] == ["1", "a"]
    assert out.splitlines()[1].strip() == "Lima is the capital of Peru."
    code, out, _ = run("index", "search", "index", "Erewhon", "--json", "-k", 3)
    hits = json.loads(out)
    assert [(hit["rank"], hit["passage"]["id"]) for hit in hits] == [(1, "b")]
    code, out, err = run("index", "search", "index", "nothing")
    assert (code, out, err) == (0, "", "nothing was found\n")
    code, _, _ = run("index", "search", "index", "Peru", "--corpus", corpus)
    assert code == 0
    code, _, err = run("index", "build", corpus, "index", "--engine", "bm25s", "--replace")
    assert code == 0


@pytest.fixture
def opensearch():
    pytest.importorskip("opensearchpy")
    from .retrieval.opensearch_double import double

    with double() as (host, _):
        yield f"opensearch:{host}#mine"


@pytest.fixture
def milvus(tmp_path):
    pytest.importorskip("milvus_lite")
    return f"milvus:{tmp_path / 'mine.db'}#mine"


@pytest.mark.parametrize("store", ["milvus", "opensearch"])
@pytest.mark.parametrize("kind", ["bm25", "dense"])
def test_builds_and_searches_an_index_in_a_store(store, kind, run, corpus, request):
    target = request.getfixturevalue(store)
    code, out, err = run("index", "build", corpus, target, "--kind", kind)
    assert (code, out) == (0, ""), err
    assert f"indexed 2 passages in {target}" in err
    code, out, _ = run("index", "search", target, "capital of Peru", "--json", "--corpus", corpus)
    assert code == 0
    assert json.loads(out)[0]["passage"]["id"] == "a"
    code, _, err = run("index", "build", corpus, target, "--kind", kind)
    assert code == 2
    assert "has an index 'mine'; allowed: a name that is free" in err
    assert run("index", "build", corpus, target, "--kind", kind, "--replace")[0] == 0


def test_a_token_goes_to_the_store(monkeypatch):
    from memkit import BadInput
    from memkit.cli.targets import Target

    monkeypatch.setenv("MEMKIT_TOKEN", "ada:lovelace")
    assert Target.read("milvus:http://host:19530#mine").client()[1] == {"token": "ada:lovelace"}
    opensearch = Target.read("opensearch:https://host:9200")
    assert (opensearch.place, opensearch.name) == ("https://host:9200", "memkit")
    assert opensearch.client()[1] == {"auth": ("ada", "lovelace")}
    monkeypatch.setenv("MEMKIT_TOKEN", "key")
    with pytest.raises(BadInput, match="allowed for OpenSearch: user:password"):
        opensearch.client()
    assert Target.read("C:/indexes/mine").store == "folder"


def test_opens_dense_indexes(run, tmp_path, monkeypatch):
    from memkit.retrieval import dense

    (tmp_path / "manifest.json").write_text('{"kind": "dense"}')
    monkeypatch.setattr(dense.Dense, "open", lambda folder, corpus=None: SearchedBy(folder))
    code, out, _ = run("index", "search", tmp_path, "Peru", "--json")
    assert (code, json.loads(out)) == (0, [])


class SearchedBy:
    def __init__(self, folder):
        self.folder = folder

    def search(self, queries, k=10):
        return [[] for _ in queries]


@pytest.mark.parametrize("route", ["auto", "weights", "retrieval"])
def test_asks_a_world(run, small_world, route):
    code, out, err = run("ask", "Where is it?", "--world", small_world, "--route", route, "--json")
    assert code == 0
    assert "opening the world" in err
    answer = json.loads(out)
    assert answer["question"]["text"] == "Where is it?"
    if route != "auto":
        assert answer["decision"] == {
            "source": route, "score": None, "threshold": None, "reason": f"always {route}",
            "passages": [], "promise": None,
        }  # fmt: skip
    else:
        assert answer["decision"]["reason"]


def test_asks_a_model_of_ones_own(run, small_world, corpus):
    model = small_world / "model"
    assert run("index", "build", corpus, "index", "--engine", "bm25s")[0] == 0
    code, out, err = run("ask", "Who wrote Erewhon?", "--model", model, "--prompt")
    assert (code, "loading" in err) == (0, True)
    assert "route     weights: no retriever" in out
    assert "prompt    Q: Who wrote Erewhon? A:" in out
    code, out, _ = run("ask", "Who wrote Erewhon?", "--model", model, "--index", "index")
    assert "passage   [b, score" in out
    code, out, _ = run(
        "ask", "Who wrote Erewhon?", "--model", model, "--index", "index", "--route", "weights"
    )
    assert (code, "passage" in out) == (0, False)
    table = corpus.with_name("views.csv")
    table.write_text("name,views\nErewhon,12\n")
    code, out, err = run(
        "ask", "Who wrote Erewhon?", "--model", model, "--index", "index",
        "--fit", small_world, "--popularity", table,
    )  # fmt: skip
    assert code == 0, err
    assert "page views of 'Erewhon' by title" in out


def test_demo_prints_a_table_and_writes_a_page(run, small_world, monkeypatch, tmp_path):
    from memkit import MissingDependency

    def absent(world, path):
        raise MissingDependency("pip install 'memkit[dense]'")

    monkeypatch.setattr("memkit.showcase._dense", absent)
    code, out, err = run("demo", "--world", small_world, "--questions", 20, "--out", "x.html")
    assert code == 0, err
    assert "closed book" in out
    assert "Without a row: dense. pip install" in out
    assert "route     " in out
    assert "wrote x.html" in err
    assert max(map(len, out.splitlines()[:8])) <= 80
    assert (tmp_path / "x.html").read_text().startswith("<!doctype html>")
    code, out, _ = run("demo", "--world", small_world, "--questions", 20, "--json")
    assert json.loads(out)["report"]["questions"] == 20


def test_generates_a_world(run, tmp_path):
    code, out, err = run("world", "generate", "world", "--seed", 4)
    assert (code, out) == (0, "")
    assert "questions" in err
    assert len((tmp_path / "world" / "questions.jsonl").read_text().splitlines()) > 1000
    assert len((tmp_path / "world" / "opinions.jsonl").read_text().splitlines()) > 1000


def test_trains_on_ones_own_facts(run, tmp_path, monkeypatch):
    table = tmp_path / "facts.csv"
    table.write_text("subject,relation,object,popularity\nErewhon,author,Samuel Butler,50\n")
    made = []

    def make(benchmark, out, recipe, *, origin, replace):
        made.append((benchmark, out, recipe, origin, replace))
        return {"measured": {"closed book, head": 0.5}}

    monkeypatch.setattr("memkit.world.make", make)
    code, out, _ = run("world", "train", "out", "--facts", table, "--steps", 3, "--seed", 2)
    assert (code, out.split()) == (0, ["closed", "book,", "head", "0.500"])
    ((benchmark, _, recipe, origin, replace),) = made
    assert [fact.subject for fact in benchmark.facts] == ["Erewhon"]
    assert (recipe.steps, recipe.seed) == (3, 2)
    assert (origin, replace) == ({"facts": "facts.csv"}, False)


def test_trains_a_t5_on_ones_own_facts(run, tmp_path):
    table = tmp_path / "facts.csv"
    rows = "".join(f"Place {n},author,Writer {n},{n + 1}\n" for n in range(12))
    table.write_text("subject,relation,object,popularity\n" + rows)
    code, out, err = run(
        "world", "train", "out", "--kind", "t5", "--facts", table, "--steps", 2, "--json"
    )
    assert code == 0
    assert "training on 12 facts for 2 steps" in err
    card = json.loads(out)
    assert (card["kind"], card["recipe"]["steps"]) == ("t5", 2)
    assert card == json.loads((tmp_path / "out" / "t5" / "card.json").read_text())
    model = tmp_path / "out" / "t5"
    code, out, _ = run("ask", "What is the author of Place 1?", "--model", model, "--json")
    assert (code, json.loads(out)["decision"]["source"]) == (0, "weights")


def test_trains_a_classifier(run, tmp_path, monkeypatch):
    from memkit.world import Caseload, opinions

    some = opinions(3, Caseload(train=400, test=4, shifted=4, shifted_holdout=4))
    monkeypatch.setattr("memkit.world.opinions", lambda seed: some)
    code, out, err = run("world", "train", "out", "--kind", "bert", "--seed", 3, "--steps", 2)
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["accuracy,", "test"],
        ["accuracy,", "shifted"],
        ["accuracy,", "shifted_holdout"],
    ]
    assert "training on 400 opinions for 2 steps" in err
    assert (tmp_path / "out" / "bert" / "model.safetensors").is_file()


def test_doctor_finds_what_is_here(run, monkeypatch):
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    for name in ("memkit", "Python", "torch", "devices", "Java", "sentence-transformers", "world"):
        assert name in out
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    code, out, _ = run("doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(out)}
    assert findings["faiss-cpu"]["ok"] is False
    assert "memkit[dense]" in findings["faiss-cpu"]["next_step"]
    assert "memkit[lucene]" in findings["pyjnius"]["next_step"]
    assert findings["BM25 engine 'auto'"]["detail"].startswith("bm25s")


# Bad input: status 2, one message that names value, what is allowed and the next step; nothing on
# stdout, nothing written.

FILES = {
    "corpus.jsonl": '{"id": "a", "text": "Lima"}\n',
    "empty.jsonl": "",
    "no_id.jsonl": '{"text": "Lima"}\n',
    "twice.jsonl": '{"id": "a", "text": "Lima"}\n{"id": "a", "text": "Cusco"}\n',
    "other.jsonl": '{"id": "z", "text": "Cusco"}\n',
    "views.csv": "name,views\nLima,many\n",
    "facts.csv": "subject,relation,object,popularity\nLima,country,Peru,many\n",
}
BAD = {
    "an empty question": (["ask", " "], r"Question.text is ' '; allowed"),
    "an empty corpus": (["index", "build", "empty.jsonl", "out"], "is empty; allowed"),
    "an absent corpus": (["index", "build", "none.jsonl", "out"], "none.jsonl' cannot be read"),
    "a passage without id": (["index", "build", "no_id.jsonl", "out"], "row 1: the passage has no"),
    "an id twice": (["index", "build", "twice.jsonl", "out"], "row 2: the id 'a' stands in row 1"),
    "an engine": (["index", "build", "corpus.jsonl", "out", "--engine", "x"], "--engine is 'x'"),
    "an engine of another kind": (
        ["index", "build", "corpus.jsonl", "out", "--engine", "faiss"],
        "--engine is 'faiss'; allowed for bm25: auto, lucene, bm25s",
    ),
    "BM25 on Ray": (
        ["index", "build", "corpus.jsonl", "out", "--on", "ray"],
        "--on is 'ray'",
    ),
    "an encoder for BM25": (
        ["index", "build", "corpus.jsonl", "out", "--encoder", "x"],
        "--encoder is 'x'",
    ),
    "an engine in a store": (
        ["index", "build", "corpus.jsonl", "milvus:x.db", "--engine", "lucene"],
        "--engine is 'lucene' for milvus:x.db#memkit; allowed: auto",
    ),
    "Ray for a store": (
        ["index", "build", "corpus.jsonl", "milvus:x.db", "--kind", "dense", "--on", "ray"],
        "--on is 'ray' for milvus:x.db#memkit; allowed: local",
    ),
    "a store without address": (
        ["index", "search", "opensearch:host:9200", "x"],
        "'opensearch:host:9200' names no place; allowed: milvus:FILE",
    ),
    "a folder that exists": (["index", "build", "corpus.jsonl", "index"], "'index' exists"),
    "k of 0 in a search": (["index", "search", "index", "x", "-k", "0"], "k is 0; allowed"),
    "k of 0 in a question": (["ask", "x", "-k", "0"], "--k is 0; allowed"),
    "no index": (["index", "search", "none", "x"], "'none' is not a folder; allowed"),
    "an index of an unknown kind": (["index", "search", "odd", "x"], "index of kind 'odd'"),
    "an index of another corpus": (
        ["index", "search", "index", "x", "--corpus", "other.jsonl"],
        "the index is of another corpus",
    ),
    "an empty query": (["index", "search", "index", " "], "query 0 is ' '; allowed"),
    "a truncated index": (["index", "search", "cut", "x"], "'cut' is not whole"),
    "a model without tokenizer": (
        ["ask", "x", "--model", "mute"],
        "the tokenizer .* has no vocabulary; allowed",
    ),
    "no model": (["ask", "x", "--model", "none"], "none"),
    "a long question": (
        ["ask", "long " * 600, "--model", "model"],
        "tokens with its template; allowed: 496",
    ),
    "text in the number column": (
        ["ask", "x", "--model", "model", "--index", "index", "--fit", "WORLD",
         "--popularity", "views.csv"],
        "'views.csv', line 2: the page views of 'Lima' are 'many'",
    ),
    "popularity without fit": (
        ["ask", "x", "--model", "model", "--popularity", "views.csv"],
        "--popularity is 'views.csv' without --fit",
    ),
    "fit without index": (["ask", "x", "--model", "model", "--fit", "x"], "--fit is 'x' without"),
    "retrieval without index": (
        ["ask", "x", "--model", "model", "--route", "retrieval"],
        "--route is retrieval without --index",
    ),
    "an index without model": (["ask", "x", "--index", "index"], "--index is 'index' without"),
    "a world beside a model": (["ask", "x", "--model", "m", "--world", "w"], "--world is 'w' besi"),
    "no world": (["ask", "x", "--world", "none"], "'none' is not a folder"),
    "no place for the page": (["demo", "--out", "none/x.html"], "--out is 'none/x.html'; allowed"),
    "too few questions": (
        ["demo", "--world", "WORLD", "--questions", "3", "--out", "x.html"],
        "questions is 3; allowed: at least 20",
    ),
    "facts with text for a number": (
        ["world", "train", "out", "--facts", "facts.csv"],
        "facts.csv.*popularity.*'many'",
    ),
    "no facts": (["world", "train", "out", "--facts", "none.csv"], "none.csv"),
    "wordings without facts": (
        ["world", "train", "out", "--wordings", "w.json"],
        "--wordings is 'w.json' without --facts",
    ),
    "facts for a classifier": (
        ["world", "train", "out", "--kind", "bert", "--facts", "facts.csv"],
        "--facts is 'facts.csv' with --kind bert, .*; allowed: --facts with --kind gpt2 or t5",
    ),
    "an unknown kind": (["world", "train", "out", "--kind", "rnn"], "'rnn'"),
    "no steps": (["world", "train", "out", "--steps", "0"], "--steps is 0; allowed"),
    "a world that exists": (["world", "generate", "index"], "'index' exists"),
    "an unknown command": (["frobnicate"], "No such command 'frobnicate'"),
    "an unknown route": (["ask", "x", "--route", "luck"], "'luck'"),
}  # fmt: skip


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, small_world):
    """A folder with all that the cases need."""
    from memkit import BM25
    from memkit.benchmarks.corpus import read_corpus

    folder = tmp_path_factory.mktemp("bad")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    BM25.build(read_corpus(folder / "corpus.jsonl"), folder / "index", engine="bm25s").close()
    shutil.copytree(folder / "index", folder / "cut")
    (folder / "cut" / "passages.jsonl").write_text("{")
    (folder / "odd").mkdir()
    (folder / "odd" / "manifest.json").write_text('{"kind": "odd"}')
    shutil.copytree(small_world / "model", folder / "model")
    shutil.copytree(small_world / "model", folder / "mute")
    for path in (folder / "mute").glob("*token*"):
        path.unlink()
    return folder


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_with_2_and_writes_nothing(case, run, workplace, small_world, monkeypatch):
    import re

    arguments, message = BAD[case]
    monkeypatch.chdir(workplace)
    before = listing(workplace)
    code, out, err = run(*(small_world if a == "WORLD" else a for a in arguments))
    assert (code, out) == (2, "")
    assert re.search(message, err), err
    assert "Traceback" not in err
    assert listing(workplace) == before
    assert {path.name for path in workplace.iterdir()} == {
        *FILES, "index", "cut", "odd", "model", "mute",
    }  # fmt: skip


def test_a_process_ends_likewise_and_help_is_free_of_torch():
    code = (
        "import sys; from memkit.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('torch' in sys.modules, 'numpy' in sys.modules)"
    )

    def run(*arguments):
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    done = run("ask", "")
    assert (done.returncode, done.stdout) == (2, "False False\n")
    assert done.stderr.startswith("BadInput: Question.text is ''")
    done = run("--help")
    assert done.returncode == 0
    assert done.stdout.endswith("False False\n")


def test_a_reader_that_goes_away_is_no_error(workplace):
    command = (
        f"{sys.executable} -c 'from memkit.cli import main; main()' index search index Lima | true"
    )
    done = subprocess.run(command, shell=True, cwd=workplace, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_abstention_is_said_with_its_promise(capsys):
    from memkit import Answer, Decision, Prompt, Question
    from memkit.cli.demo import answered

    decision = Decision("abstain", 0.3, 0.9, "abstains; promised: at most 10 % wrong", promise=0.1)
    answered(Answer("", Question("Who?"), decision, (), (), Prompt("", 0), 0.0, 0.0))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith("abstain: abstains; promised: at most 10 % wrong")
    assert lines[2].endswith("none, the router abstains")


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "memkit", "--help"], capture_output=True, text=True, check=True
    )
    assert "compare" in done.stdout
