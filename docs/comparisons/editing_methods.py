"""Every editor on the miniature world: what it writes, what it breaks, what it costs.

    python docs/comparisons/editing_methods.py --facts 50 --sequence 50 --out runs/editing

gives facts that the shipped model knows another object, by `memkit.world.modifications`, and scores
each editor by free generation: one fact at a time (the first table), and one after the other on one
handle (the second). All editors see the same facts. Settings that are not an editor's defaults
stand in `editors` below, with the reason. With `--mend FOLDER` there is MEND too: its networks are
trained first, in minutes, unless the folder has them.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import memkit
from memkit import (
    LM,
    MEMIT,
    MEND,
    ROME,
    AlphaEdit,
    Benchmark,
    Fact,
    FineTune,
    FineTuneConstrained,
    FineTuneEWC,
    FineTuneLocalized,
    FineTuneRetrain,
    Guards,
    LoRA,
    Statistics,
)
from memkit.benchmarks.miniworld import shipped
from memkit.editors.base import Editor
from memkit.protocols.editing_result import EditingResult
from memkit.world import modifications, practice
from memkit.world.text import Statements, trained_facts

# What an editor does is shown, not stopped
OPEN = {"on_guard": "warn", "guards": Guards(perplexity=float("inf"), size=float("inf"))}

STATEMENTS = 20_000  # of the world's facts, from which second moments are taken
CONTEXTS = 10  # statements, each of which stands before the prompt once


def editors(world: Benchmark, folder: Path, seed: int) -> dict[str, Editor]:
    """Every editor, with settings for a model a thousand times smaller than the papers'.

    What differs from the defaults: fine-tuning has a higher rate, or a wider bound, since a small
    model's facts take larger steps. Moments are taken of text like the model's training text, as
    the papers take them of Wikipedia, and contexts are statements on a line of their own, as in
    that text: behind a full stop this model reads a passage.
    """
    told = Statements(world, trained_facts(world))
    rng = random.Random(seed)
    lines = ["".join(told.word(rng, told.draw(rng))) for _ in range(STATEMENTS)]
    rows = ("".join(lines[start : start + 5]) for start in range(0, STATEMENTS, 5))
    corpus = folder / "statements.jsonl"
    corpus.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    located = {
        "contexts": ("{}", *(f"{line}{{}}" for line in lines[:CONTEXTS])),
        "statistics": Statistics(corpus=str(corpus), tokens=150_000, ridge=1e-6),
        "stop": 0.02,
        **OPEN,
    }
    return {
        "FineTune": FineTune(stop_at_argmax=False, lr=2e-3, **OPEN),
        "FineTune, all weights": FineTune(parameters="all", stop_at_argmax=False, **OPEN),
        "FineTuneConstrained": FineTuneConstrained(eps=5e-3, **OPEN),
        "FineTuneLocalized": FineTuneLocalized(lr=5e-3, epochs=100, **OPEN),
        "FineTuneEWC": FineTuneEWC(stop_at_argmax=False, lr=2e-3, ewc_lambda=1e4, **OPEN),
        "FineTuneRetrain": FineTuneRetrain(stop_at_argmax=False, lr=2e-3, every=10, **OPEN),
        "LoRA": LoRA(**OPEN),
        "ROME": ROME(**located),
        "ROME, official": ROME(variant="official", **located),
        "MEMIT": MEMIT(**located),
        "AlphaEdit": AlphaEdit(**located),
    }


def mend(lm: LM, world: Benchmark, facts: Sequence[Fact], folder: Path, seed: int) -> MEND:
    """MEND with the networks of a folder, trained on facts about other subjects if it is absent."""
    if folder.exists():
        return replace(MEND.load(folder), **OPEN)
    start = time.perf_counter()
    editor = MEND(seed=seed, **OPEN).train(lm, practice(world, facts, seed), out=folder)
    print(f"MEND was trained in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return editor


NAMES = (
    "FineTune",
    "FineTune, all weights",
    "FineTuneConstrained",
    "FineTuneLocalized",
    "FineTuneEWC",
    "FineTuneRetrain",
    "LoRA",
    "ROME",
    "ROME, official",
    "MEMIT",
    "AlphaEdit",
)
TRAINED = ("MEND", "MEND, current")  # with --mend; the second one of the model as it is
HEADER = (
    "editor",
    "reliability",
    "generalisation",
    "portability",
    "other subjects",
    "same subject",
    "seconds",
)
SCORES = (
    "reliability",
    "generalisation",
    "portability",
    "locality_unchanged_other_subjects",
    "locality_unchanged_same_subject",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print both tables, and write every record to --out."""
    parser = arguments()
    args = parser.parse_args(argv)
    if not args.mend and not set(TRAINED).isdisjoint(args.editors or ()):
        parser.error("MEND needs --mend FOLDER, where its networks are, or are trained first")
    world = memkit.benchmarks.load("miniworld", args.world)
    lm = LM.load((args.world or shipped()) / "model")
    facts = modifications(world, max(args.facts, args.sequence), args.seed)
    tables = {"single": facts[: args.facts], "sequential": facts[: args.sequence]}
    with tempfile.TemporaryDirectory(prefix="memkit-editing-") as scratch:
        known = editors(world, Path(scratch), args.seed)
        if args.mend:
            editor = mend(lm, world, facts, args.mend, args.seed)
            known |= {"MEND": editor, "MEND, current": replace(editor, at="current")}
        chosen = {name: known[name] for name in args.editors or known}
        found = {mode: results(lm, chosen, some, mode, args.seed) for mode, some in tables.items()}
    for mode, some in tables.items():
        print(f"\n{mode}, {len(some)} facts, seed {args.seed}\n")
        for cells in table(found[mode], "after all" if mode == "sequential" else "edited"):
            print(f"| {' | '.join(cells)} |")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        for mode, row in found.items():
            record = {name: result.to_dict() for name, result in row.items()}
            text = json.dumps(record, ensure_ascii=False, indent=1)
            (args.out / f"{mode}.json").write_text(text, encoding="utf-8")


def results(
    lm: LM, chosen: Mapping[str, Editor], facts: Sequence[Fact], mode: str, seed: int
) -> dict[str, EditingResult]:
    """One result an editor, on the same facts."""
    found = {}
    for name, editor in chosen.items():
        print(f"{mode}: {name}", file=sys.stderr)
        found[name] = memkit.protocols.editing(lm, editor, facts, mode=mode, seed=seed)
    return found


def table(found: Mapping[str, EditingResult], stage: str) -> list[Sequence[str]]:
    """Header, the unedited model, and one row an editor."""
    first = next(iter(found.values()))
    rows: list[Sequence[str]] = [HEADER, ["---"] * len(HEADER)]
    rows.append(["unedited", *(shown(first, score, "unedited") for score in SCORES), ""])
    for name, result in found.items():
        seconds = f"{result.cell('seconds').mean:.2f}"
        rows.append([name, *(shown(result, score, stage) for score in SCORES), seconds])
    return rows


def shown(result: EditingResult, score: str, stage: str) -> str:
    """Mean and 95 % interval."""
    cell = result.cell(score, stage)
    return f"{cell.mean:.2f} [{cell.low:.2f}, {cell.high:.2f}]"


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", type=Path, help="a world's folder; the shipped one by default")
    parser.add_argument("--facts", type=int, default=50, help="facts that are written one by one")
    parser.add_argument("--sequence", type=int, default=50, help="facts on one handle")
    parser.add_argument("--editors", nargs="*", choices=(*NAMES, *TRAINED), help="all by default")
    parser.add_argument("--mend", type=Path, help="a folder of MEND's networks for this world")
    parser.add_argument("--seed", type=int, default=0, help="of the facts and of the intervals")
    parser.add_argument("--out", type=Path, help="a folder for every record")
    return parser


if __name__ == "__main__":
    main()
