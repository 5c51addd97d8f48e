"""Every editor on the miniature world: what it writes, what it breaks, what it costs.

    python docs/comparisons/editing_methods.py --facts 50 --sequence 50 --out runs/editing

gives facts that the shipped model knows another object, by `memkit.world.modifications`, and scores
each editor by free generation: one fact at a time (the first table), and one after the other on one
handle (the second). All editors see the same facts. Settings that are not an editor's defaults
stand in small.toml, with the reason; second moments are those of statements of the world's facts.
With `--mend FOLDER` there is MEND too: its networks are trained first, in minutes, unless the
folder has them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import memkit
from memkit import LM, MEND, Benchmark, Fact, Guards
from memkit.benchmarks.miniworld import shipped
from memkit.compare import read_paper
from memkit.editors.base import Editor
from memkit.protocols.editing_result import EditingResult
from memkit.world import located, modifications, practice

# What an editor does is shown, not stopped
OPEN = {"on_guard": "warn", "guards": Guards(perplexity=float("inf"), size=float("inf"))}
SMALL = read_paper(Path(__file__).with_name("small.toml"))
NAMES = tuple(SMALL.parts)


def mend(lm: LM, world: Benchmark, facts: Sequence[Fact], folder: Path, seed: int) -> MEND:
    """MEND with the networks of a folder, trained on facts about other subjects if it is absent."""
    if folder.exists():
        return replace(MEND.load(folder), **OPEN)
    start = time.perf_counter()
    editor = MEND(seed=seed, **OPEN).train(lm, practice(world, facts, seed), out=folder)
    print(f"MEND was trained in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return editor


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
        known = located(SMALL.editors(), world, Path(scratch), seed=args.seed)
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
