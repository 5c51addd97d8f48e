"""Facts that are told by a passage: in the weights, in the prompt, in an index (UnKE, AKEW).

    python docs/comparisons/unstructured.py

tells the miniature world's decoder of entities that it never heard of. Each has a passage; the
first question about it is the edit (question -> answer), the others are sub-questions, whose
answers stand in the passage, too. Editors write the answer, or train on the passage; prompt and
index have the passage.

--data names a benchmark whose facts have their passage as definition ("unke", "akew", "wikidyk")
and --path its file; --model takes another decoder, --encoder another sentence encoder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import memkit
from memkit import BM25, GRACE, LM, ROME, Fact, FineTune, Guards, Passage
from memkit.editors.base import Editor
from memkit.retrieval.encoders import PACKAGED, load_encoder

OPEN = {"on_guard": "warn", "guards": Guards(perplexity=float("inf"), size=float("inf"))}


def editors() -> dict[str, Editor]:
    """What is compared: the answer in the weights, or the whole passage."""
    passage = {"text": "definition", "parameters": "all", "lr": 5e-4, **OPEN}
    return {
        "FT": FineTune(**OPEN),
        "ROME": ROME(**OPEN),
        "GRACE": GRACE(**OPEN),
        "FT on the passage": FineTune(epochs=10, **passage),
    }


def told(args: argparse.Namespace) -> tuple[list[Fact], list[Passage]]:
    """Facts with their passages, and the whole corpus."""
    if args.data != "miniworld":
        found = memkit.benchmarks.load(args.data, args.path, limit=args.facts)
        return list(found.facts), list(found.passages)
    world = memkit.benchmarks.load("miniworld", split="new")
    texts = {passage.id: passage for passage in world.passages}
    asked: dict[str, list[memkit.Question]] = {}
    for question in world.questions:
        asked.setdefault(question.gold[0], []).append(question)
    facts = []
    for name, (first, *rest) in list(asked.items())[: args.facts]:
        fact = Fact(
            subject=first.subject or first.text,
            prompt=first.text,
            target=first.answers[0],
            portability=tuple((question.text, question.answers[0]) for question in rest),
            definition=texts[name].text,
            id=name,
        )
        facts.append(fact)
    return facts, list(world.passages)


def main(argv: Sequence[str] | None = None) -> None:
    """Tell, ask, print."""
    args = arguments().parse_args(argv)
    lm = LM.load(args.model or memkit.world.shipped(), device=args.device)
    facts, passages = told(args)
    found = memkit.protocols.unstructured(
        lm,
        {name: editor for name, editor in editors().items() if name in args.editors},
        facts,
        retriever=BM25.build(passages, engine="bm25s"),
        encoder=load_encoder(args.encoder),
        max_new_tokens=args.max_new_tokens,
        seed=args.seed,
    )
    print(found)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(found.to_dict(), ensure_ascii=False)
        (args.out / "results.json").write_text(text + "\n", encoding="utf-8")


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="a folder for results.json")
    parser.add_argument("--editors", nargs="*", choices=list(editors()), default=list(editors()))
    parser.add_argument("--data", default="miniworld", help="unke, akew or wikidyk instead")
    parser.add_argument("--path", type=Path, help="the file of --data")
    parser.add_argument("--model", help="a folder or Hub id; the shipped decoder by default")
    parser.add_argument("--encoder", default=PACKAGED, help="a sentence encoder")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--facts", type=int, default=40)
    parser.add_argument("--max-new-tokens", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
