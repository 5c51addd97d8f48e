r"""Ripples of an edit, multi-hop questions, and what was known before: three papers' tables.

    python docs/comparisons/ripple_table.py --out runs/ripples

edits facts of the miniature world with every method, each alone, and scores RippleEdits' criteria
(Cohen et al., TACL 2024); writes chains of facts in groups of 1, 10 and 30 and asks MQuAKE's
questions (Zhong et al., EMNLP 2023); and probes what the unedited model knows, by popularity, as
LAMA does (Petroni et al., EMNLP 2019). In-context and retrieved edits stand in the same tables.

With real data and a model of one's own:

    python docs/comparisons/ripple_table.py --model gpt2-xl --data RippleEdits --split popular \
        --mquake MQuAKE-CF-3k-v2.json --shots MQuAKE/prompts --batch 1 100

With --model, whatever data is not named is left out.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import memkit
from memkit import GRACE, LM, MEMIT, ROME, FineTune, Guards, Statistics
from memkit.benchmarks.cases import CRITERIA, MultihopCase, RippleCase, clozes
from memkit.benchmarks.mquake import Shots, shots
from memkit.editors.base import Editor
from memkit.protocols import InContext, Retrieval
from memkit.protocols.cells import Cell
from memkit.protocols.multihop_result import COLUMNS, MultihopResult
from memkit.protocols.probe_result import METRICS, ProbeResult
from memkit.protocols.ripple_result import RippleResult

Way = Editor | InContext | Retrieval

# What an editor does is shown, not stopped
OPEN: dict[str, Any] = {
    "on_guard": "warn",
    "guards": Guards(perplexity=float("inf"), size=float("inf")),
}
SAMPLED = 200  # edits of a subset, as the paper samples them


def ways(*, small: bool) -> dict[str, Way]:
    """Every method: editors at their defaults, or as a model of the world's size wants them.

    There fine-tuning has a higher rate; ROME and MEMIT read the bare prompt alone, take 60 steps
    for a value, and their moments have a ridge. The world's model reads what a blank line ends.
    """
    value: dict[str, Any] = {}
    rate: dict[str, Any] = {}
    if small:
        value = {"contexts": ("{}",), "steps": 60, "statistics": Statistics(ridge=1e-6)}
        rate = {"stop_at_argmax": False, "lr": 2e-3}
    gap = "\n\n" if small else "\n"
    return {
        "FineTune": FineTune(**rate, **OPEN),
        "ROME": ROME(**value, **OPEN),
        "MEMIT": MEMIT(**value, **OPEN),
        "GRACE": GRACE(**OPEN),
        "in context, imagined": InContext("imagine", gap),
        "in context, stated": InContext("statement", gap),
        "BM25": Retrieval("bm25", separator=gap),
        "BM25, gated": Retrieval("bm25", gate=True, separator=gap),
        "dense": Retrieval("dense", separator=gap),
        "definitions": Retrieval("definitions", separator=gap),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and write what was found to --out."""
    args = arguments().parse_args(argv)
    lm = LM.load(args.model or memkit.world.shipped(), device=args.device)
    chosen = {n: w for n, w in ways(small=args.model is None).items() if n in args.methods}
    print(f"{lm!r}")
    if cases := ripples(args):
        found = {n: memkit.protocols.ripple(lm, w, cases) for n, w in chosen.items()}
        show_ripples(found)
        write(args.out, "ripple.json", {name: result.to_dict() for name, result in found.items()})
    chains, examples = multihop(args)
    if chains:
        groups = {
            (name, size): memkit.protocols.multihop(lm, way, chains, batch=size, shots=examples)
            for name, way in chosen.items()
            for size in args.batch
        }
        show_chains(groups)
        plain = {f"{name}, {size}": result.to_dict() for (name, size), result in groups.items()}
        write(args.out, "multihop.json", plain)
    facts = known(args)
    if facts:
        probed = memkit.protocols.probe(lm, facts)
        show_probe(probed)
        write(args.out, "probe.json", probed.to_dict())


def ripples(args: argparse.Namespace) -> Sequence[RippleCase]:
    """The world's edits, or a sample of RippleEdits."""
    if args.data:
        bench = memkit.benchmarks.load("rippleedits", args.data, args.split)
        size = min(args.edits or SAMPLED, len(bench.cases))
        return random.Random(args.seed).sample(bench.cases, size)
    if args.model:
        return ()
    world = memkit.benchmarks.load("miniworld")
    return memkit.world.ripple_cases(world, args.edits or 40, args.seed, logical=args.capitals)


def multihop(args: argparse.Namespace) -> tuple[Sequence[MultihopCase], Shots | None]:
    """The world's chains, or MQuAKE's cases with the paper's examples."""
    if args.mquake:
        bench = memkit.benchmarks.load("mquake", args.mquake, limit=args.chains)
        return bench.cases, shots(args.shots, thoughts=args.cot) if args.shots else None
    if args.model:
        return (), None
    world = memkit.benchmarks.load("miniworld")
    return memkit.world.multihop_cases(world, args.chains or 30, args.seed), None


def known(args: argparse.Namespace) -> Sequence[Any]:
    """The world's facts, or T-REx's."""
    if args.lama:
        return clozes(memkit.benchmarks.load("lama", args.lama))
    return () if args.model else clozes(memkit.benchmarks.load("miniworld"))


def show_ripples(found: Mapping[str, RippleResult]) -> None:
    """The paper's table, in per cent, and the mean by popularity."""
    first = next(iter(found.values()))
    shown = [name for name in CRITERIA if first.counts["published"][name].counted]
    names = [name.replace("_", " ") for name in shown]
    counts = [first.counts["published"][name] for name in shown]
    print(f"\nRipples of {len(first.records)} edits, each alone\n")
    rows: list[list[str]] = [["", *names, "mean", "mean, words", "mean, all edits", "learnt"]]
    tests = [f"{count.counted} of {count.tests}" for count in counts]
    rows.append(["tests that count", *tests, "", "", "", ""])
    rows.append(["unedited", *_ripple_row(first, [*shown, "mean"], "unedited"), "", "", ""])
    for name, result in found.items():
        cells = _ripple_row(result, [*shown, "mean"], "edited")
        words = _cell(result.cells["words"].get("mean", {}).get("edited"))
        every = _cell(result.cells["published"].get("mean", {}).get("all edits"))
        rows.append([name, *cells, words, every, str(result.learnt["published"])])
    show(rows)
    print("\nMean over an edit's criteria, all edits, by page views of the subject\n")
    parts = {name: result.by_popularity(3, "all edits") for name, result in found.items()}
    some = next(iter(parts.values()))
    rows = [["", *(f"{part.low:,.0f} to {part.high:,.0f}" for part in some)]]
    rows += [[name, *(_cell(part.accuracy) for part in own)] for name, own in parts.items()]
    show(rows)


def _ripple_row(result: RippleResult, columns: Sequence[str], stage: str) -> list[str]:
    cells = result.cells["published"]
    return [_cell(dict(cells.get(column, {})).get(stage)) for column in columns]


def show_chains(found: Mapping[tuple[str, int], MultihopResult]) -> None:
    """MQuAKE's measures, in per cent, by method and size of a group."""
    first = next(iter(found.values()))
    print(
        f"\n{len(first.records)} chains, {first.known} known before; walk: oracle decomposition\n"
    )
    rows: list[list[str]] = [["", "cases at once", *COLUMNS]]
    rows.append(["unedited", "", *_chain_row(first, "unedited")])
    for (name, size), result in found.items():
        rows.append([name, str(size), *_chain_row(result, "edited")])
    show(rows)


def _chain_row(result: MultihopResult, stage: str) -> list[str]:
    return [_cell(dict(result.cells["exact"][column]).get(stage)) for column in COLUMNS]


def show_probe(found: ProbeResult) -> None:
    """LAMA's measures by relation and by popularity, in per cent."""
    print(f"\n{len(found.records):,} facts with objects of one token; mean over relations first\n")
    rows: list[list[str]] = [["", "facts", *METRICS]]
    groups = {
        **{f"mean over {name}": own for name, own in found.macro.items()},
        **found.relations,
        **{f"page views {low:,.0f} to {high:,.0f}": own for low, high, own in found.popularity},
    }
    for name, own in groups.items():
        rows.append([name, f"{own.facts:,}", *(_cell(own.cells[metric]) for metric in METRICS)])
    show(rows)


def _cell(cell: Cell | None) -> str:
    """Per cent with the 95 % interval."""
    if cell is None:
        return ""
    return f"{100 * cell.mean:.0f} [{100 * cell.low:.0f}, {100 * cell.high:.0f}]"


def show(rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table, the first row its header."""
    header, *rest = rows
    for row in (header, ["---"] * len(header), *rest):
        print(f"| {' | '.join(row)} |")


def write(folder: Path | None, name: str, values: Mapping[str, Any]) -> None:
    """Everything that was found, as JSON."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(values, ensure_ascii=False, indent=1)
        (folder / name).write_text(text, encoding="utf-8")


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    methods = list(ways(small=True))
    parser.add_argument("--methods", nargs="+", default=methods, choices=methods)
    parser.add_argument("--edits", type=int, help="edits whose ripples are scored")
    parser.add_argument("--capitals", type=int, default=8, help="more of them, about capitals")
    parser.add_argument("--chains", type=int, help="multi-hop cases")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 10, 30], help="cases at once")
    parser.add_argument("--model", help="a folder or Hub id, with the data below")
    parser.add_argument("--data", type=Path, help="RippleEdits: a checkout, or a file of it")
    parser.add_argument("--split", help="of a checkout: popular, random or recent")
    parser.add_argument("--mquake", type=Path, help="a file of MQuAKE")
    parser.add_argument("--shots", type=Path, help="MQuAKE's folder of prompts")
    parser.add_argument("--cot", action="store_true", help="those with chains of thought")
    parser.add_argument("--lama", type=Path, help="LAMA's folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a folder for all that was found")
    return parser


if __name__ == "__main__":
    main()
