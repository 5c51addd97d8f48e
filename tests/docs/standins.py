"""What the pages' commands and code name and a test has not: here is what stands for it.

Nothing else is hidden from a reader: all else on the pages runs as it stands there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from memkit import world

from .pages import ROOT

# models of the Hub: the small one that memkit ships
MODELS = ("gpt2-xl",)

# the specification of docs/comparisons, which takes minutes: one that takes seconds
SPECIFICATION = """
name = "small"
seeds = [0]
[models.mini]
shipped = "gpt2"
[benchmarks.miniworld]
questions = 4
[edits]
facts = 1
[retrievers.bm25]
engine = "bm25s"
[memories.none]
[memories.BM25]
retriever = "bm25"
"""

# commands that a test does not run, by how they begin, and why; their options are checked
NOT_RUN: Mapping[str, str] = {
    "make": "sets up an environment of its own",
    "pip install": "installs",
    "java": "needs the name of Anserini's jar, and serves until it is stopped",
    "memkit demo": "asks for a minute",
    "memkit world train": "trains for minutes",
    "memkit index build passages.jsonl milvus:http": "needs a server",
    "memkit index search opensearch:": "needs a server",
    "memkit compare spec.toml --out runs/x --on ray": "starts a Ray for each",
    "memkit index build wiki.jsonl": "starts a Ray",
}

# code that a test compiles and does not run, by a line of it
NOT_RUN_CODE: Mapping[str, str] = {
    'index = Milvus.build(passages, "http': "needs a server",
    "index = RemoteLucene(": "needs servers",
}


def files(folder: Path) -> None:
    """Put the files that a reader has into a folder: the first rows of the miniature world's."""
    (folder / "docs" / "comparisons").mkdir(parents=True)
    specification = folder / "docs" / "comparisons" / "miniworld.toml"
    specification.write_text(SPECIFICATION, encoding="utf-8")
    shipped = ROOT / "data" / "miniworld"
    for name in ("facts.jsonl", "passages.jsonl"):
        with (shipped / name).open(encoding="utf-8") as rows:
            (folder / name).write_text("".join(islice(rows, 3)), encoding="utf-8")
    case = {
        "case_id": 0,
        "pararel_idx": 0,
        "requested_rewrite": {
            "prompt": "{} was born in the city of",
            "relation_id": "P19",
            "target_new": {"str": "Vadal", "id": "Q1"},
            "target_true": {"str": "Fealport", "id": "Q2"},
            "subject": "Diajial Merain",
        },
        "paraphrase_prompts": ["The birthplace of Diajial Merain is"],
        "neighborhood_prompts": ["Loudrio Wupa was born in the city of"],
        "attribute_prompts": [],
        "generation_prompts": [],
    }
    (folder / "counterfact.json").write_text(json.dumps([case]), encoding="utf-8")


def substituted(text: str) -> str:
    """Code or a command with the models that stand in."""
    for name in MODELS:
        text = text.replace(name, str(world.shipped()))
    return text
