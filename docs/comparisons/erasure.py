"""Erasure: single facts taken out of the miniature world's GPT-2 by nine editors.

    python docs/comparisons/erasure.py --out runs/erasure

Facts that the model knows are erased one by one, each put back before the next; erasure.toml has
the editors. --world and --model name another world and the model that was trained on it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import memkit
from memkit import DINM, LM, Benchmark, KLBoundedAscent, world
from memkit.compare import read_paper
from memkit.editors.base import Editor
from memkit.protocols.erasure_result import ErasureResult

SETTINGS = read_paper(Path(__file__).with_name("erasure.toml"))
FORGET = (
    "forgotten",
    "paraphrase_forgotten",
    "context_forgotten",
    "neighbours_kept",
    "fluency",
    "perplexity",
)
VERDICTS = ("erased", "suppressed", "kept")


def editors(control: tuple[str, ...]) -> dict[str, Editor]:
    """Every method of erasure.toml; `control` are texts of the world for those that read some."""
    return {
        name: dataclasses.replace(editor, control=control)
        if isinstance(editor, (DINM, KLBoundedAscent))
        else editor
        for name, editor in SETTINGS.editors().items()
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Erase, print the table, and write results.json."""
    args = arguments().parse_args(argv)
    lm = LM.load(args.model or world.shipped(), device=args.device)
    result = facts(lm, memkit.benchmarks.load("miniworld", args.world), args)
    print(f"{args.facts} facts, each erased alone, {lm!r}\n")
    for row in facts_table(result):
        print(f"| {' | '.join(row)} |")
    args.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result.to_dict(), ensure_ascii=False)
    (args.out / "results.json").write_text(text + "\n", encoding="utf-8")


def facts(lm: LM, bench: Benchmark, args: argparse.Namespace) -> ErasureResult:
    """Facts that the model knows, each taken out alone."""
    chosen = world.secrets(bench, args.facts, args.seed)
    about = {str(fact.id).split("/")[0] for fact in chosen}
    passages = [p.text for p in bench.passages if p.id not in about and not p.id.startswith("new-")]
    drawn = random.Random(args.seed).sample(passages, 16)
    rows = {n: e for n, e in editors(tuple(drawn[:8])).items() if n in args.editors}
    return memkit.protocols.erasure(
        lm, rows, facts=chosen, texts=drawn[8:], single=True, refusal="", seed=args.seed
    )


def facts_table(result: ErasureResult) -> list[Sequence[str]]:
    """Means with 95 % intervals over facts, and the verdicts."""
    header = ["", *(name.replace("_", " ") for name in FORGET), *VERDICTS]
    table: list[Sequence[str]] = [header, ["---"] * len(header)]
    for row in result.rows:
        cells = []
        for name in FORGET:
            mean, low, high = dataclasses.astuple(row.cells[name])
            if name == "perplexity":
                mean, low, high = (float(np.exp(x)) for x in (mean, low, high))
            cells.append(
                f"{mean:.2f}" if row.name == "unedited" else f"{mean:.2f} [{low:.2f}, {high:.2f}]"
            )
        counts = Counter(row.verdicts)
        table.append([row.name, *cells, *(str(counts[verdict]) for verdict in VERDICTS)])
    return table


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for what is found")
    parser.add_argument(
        "--editors", nargs="*", choices=list(SETTINGS.parts), default=list(SETTINGS.parts)
    )
    parser.add_argument("--facts", type=int, default=20, help="facts to erase")
    parser.add_argument("--world", type=Path, help="a world's folder; the shipped one by default")
    parser.add_argument("--model", help="a folder or Hub id instead of the world's GPT-2")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--seed", type=int, default=0, help="of the facts to erase")
    return parser


if __name__ == "__main__":
    main()
