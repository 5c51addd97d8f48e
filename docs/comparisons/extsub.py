"""Ext-Sub's table (Hu et al., AAAI 2024): what an anti-expert teaches, taken out of an expert.

    python docs/comparisons/extsub.py --out runs/extsub

A LoRA trained on true facts of the miniature world (the expert) and one trained on the same with a
fifth falsified (the anti-expert) are combined in the paper's ways, for several seeds. The adapters
are kept in --out, and trained only if they are not there. extsub.toml has the settings, and the
figures that the paper printed.

With --model, --expert and --anti-expert (paths or Hub ids) and --data (TruthfulQA's file; the Hub's
by default) it prints the same table for real ones, as

    --model huggyllama/llama-7b --expert Ext-Sub/llama-7b_alpaca-gpt4_lora
    --anti-expert Ext-Sub/llama-7b_alpaca-gpt4-untruthful_lora
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import memkit
from memkit import (
    LM,
    Benchmark,
    ExtSub,
    Guards,
    LoRA,
    Merge,
    Question,
    TaskNegation,
    Template,
    load_adapter,
    world,
)
from memkit.compare import read_paper
from memkit.editors.adapter import Adapter
from memkit.editors.base import Edit
from memkit.protocols.erasure_result import ErasureResult

# What a combination does is shown, not stopped
OPEN = {"on_guard": "warn", "guards": Guards(perplexity=float("inf"), size=float("inf"))}
PAPER = read_paper(Path(__file__).with_name("extsub.toml"))
EXT_SUB_PROMPT = "<|user|>\n{}\n<|assistant|>\n"
TRUTH = ("mc1", "mc2", "rouge1_acc")
REAL = {"mc1": "MC1", "mc2": "MC2", "bleu_acc": "BLEU acc", "rouge1_acc": "ROUGE-1 acc"}


@dataclass(frozen=True)
class Kept:
    """An adapter or a combination, put on whatever the guards say."""

    memory: Any

    def apply(self, lm: LM) -> Edit:
        """The handle."""
        return self.memory.apply(lm, **OPEN)


def combinations(expert: Any, anti_expert: Any) -> dict[str, Kept]:
    """The paper's rows, and the strengths between."""
    pair, run = (expert, anti_expert), PAPER.run
    found = {"expert": expert, "anti-expert": anti_expert}
    found |= {f"plain subtraction, {s:g}": TaskNegation(*pair, s) for s in run["plain"]}
    found |= {f"Ext-Sub, {s:g}": ExtSub(*pair, s) for s in run["ext_sub"]}
    found["merge"] = Merge(pair)
    return {name: Kept(memory) for name, memory in found.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table with what was published beside it, and write results.json."""
    args = arguments().parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.expert:
        result = real(args)
        print(f"{result}\n")
        show(PAPER.published["truthfulqa"].beside(truth_table(result)))
        return write(args.out, result.to_dict())
    lm = LM.load(args.model or world.shipped(), device=args.device)
    bench = memkit.benchmarks.load("miniworld", args.world)
    runs = [measured(lm, bench, args, seed) for seed in range(args.seeds)]
    printed = PAPER.published["truthfulqa"]
    print(f"{args.seeds} seeds, {lm!r}: means over seeds, 95 % intervals by Student's t; at the")
    print(f"right as published ({printed.tag}), {printed.of}\n")
    show(printed.beside(seeds_table(runs)))
    print("\nless the expert, by seed\n")
    show(seeds_table([beyond(run, "expert") for run in runs]))
    return write(args.out, {"runs": runs})


def experts(lm: LM, bench: Benchmark, folder: Path, seed: int, count: int) -> world.Experts:
    """The adapters of a seed, trained if they are not there, and what they were taught."""
    names, share = ("expert", "anti-expert"), PAPER.run["share"]
    taught = world.some_facts(bench, count, seed)
    false = world.falsified(taught, share, seed)
    if not all((folder / name).exists() for name in names):
        print(f"seed {seed}: training expert and anti-expert", file=sys.stderr)
        editor = PAPER.editors()["adapter"]
        assert isinstance(editor, LoRA)
        made = world.experts(lm, bench, count=count, share=share, seed=seed, editor=editor)
        for name, adapter in zip(names, (made.expert, made.anti_expert), strict=True):
            adapter.save(folder / name, replace=True)
    one, other = (dataclasses.replace(load_adapter(folder / name), source=name) for name in names)
    return world.Experts(one, other, taught, false)


def measured(
    lm: LM, bench: Benchmark, args: argparse.Namespace, seed: int
) -> dict[str, dict[str, float]]:
    """The paper's rows for a seed: truth where the anti-expert was lied to, and what survives.

    "taught": questions on facts that both learnt truly. "other facts": on popular subjects, that
    neither was taught. "reading": questions on rare subjects with their passage.
    """
    made = experts(lm, bench, args.out / f"seed-{seed}", seed, args.taught)
    rng = random.Random(seed)
    lies = {fact.id for fact in made.falsified}
    taught = {fact.id for fact in made.taught.facts}
    references = [
        r for r in world.references(made.taught, made.falsified, seed=seed) if r.id in lies
    ]
    both = rng.sample([q for q in made.taught.questions if q.id not in lies], args.questions)
    views = sorted((q for q in bench.questions if q.popularity), key=lambda q: -(q.popularity or 0))
    others = [q for q in views if q.id not in taught]
    tenth = len(views) // 10
    head, tail = others[:tenth], others[-5 * tenth :]
    known = rng.sample(head, args.questions)
    passages = {passage.id: passage for passage in bench.passages}
    result = memkit.protocols.erasure(
        lm,
        combinations(made.expert, made.anti_expert),
        references=references,
        questions=[*both, *known],
        instructions=[reading(q, passages) for q in rng.sample(tail, args.questions)],
        texts=[p.text for p in rng.sample(list(bench.passages), 20)],
        truth_prompt=world.TRUTH_PROMPT,
        period=False,
        text_tokens=12,
        seed=seed,
    )
    found = {}
    for row in result.rows:
        right = row.scores["exact_match"]
        found[row.name] = {score: row.cells[score].mean for score in TRUTH} | {
            "taught": float(np.mean(right[: len(both)])),
            "other facts": float(np.mean(right[len(both) :])),
            "reading": row.cells["instructions"].mean,
            "perplexity": float(np.exp(row.cells["perplexity"].mean)),
        }
    return found


def reading(question: Question, passages: Mapping[str, Any]) -> Question:
    """The question with its passage before it, as a whole prompt."""
    text = Template().render(question.text, [passages[question.gold[0]]])
    return dataclasses.replace(question, text=text)


def real(args: argparse.Namespace) -> ErasureResult:
    """TruthfulQA of a real model with real adapters, by Ext-Sub's prompt."""
    if not (args.model and args.anti_expert):
        raise SystemExit("--expert goes with --model and --anti-expert: name all three")
    lm = LM.load(args.model, device=args.device)
    pair: list[Adapter] = [load_adapter(name) for name in (args.expert, args.anti_expert)]
    return memkit.protocols.erasure(
        lm,
        combinations(*pair),
        references=memkit.benchmarks.load("truthfulqa", args.data, limit=args.limit).references,
        judge=args.judge,
        truth_prompt=EXT_SUB_PROMPT,
    )


def truth_table(result: ErasureResult) -> list[Sequence[str]]:
    """The paper's columns in per cent, with 95 % intervals over questions."""
    scores = REAL | ({"judged": "true"} if "judged" in result.rows[0].cells else {})
    table: list[Sequence[str]] = [["", *scores.values()], ["---"] * (len(scores) + 1)]
    for row in result.rows:
        values = [[100 * x for x in dataclasses.astuple(row.cells[name])] for name in scores]
        cells = [f"{mean:.1f} [{low:.1f}, {high:.1f}]" for mean, low, high in values]
        table.append([row.name, *cells])
    return table


def beyond(run: Mapping[str, Mapping[str, float]], base: str) -> dict[str, dict[str, float]]:
    """The other rows less that one; of perplexity the ratio."""
    return {
        row: {
            name: value / run[base][name] if name == "perplexity" else value - run[base][name]
            for name, value in scores.items()
        }
        for row, scores in run.items()
        if row != base
    }


def seeds_table(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> list[Sequence[str]]:
    """Means over seeds, with 95 % intervals where there are several."""
    scores = list(next(iter(runs[0].values())))
    header = ["", *(REAL.get(name, name) for name in scores)]
    table: list[Sequence[str]] = [header, ["---"] * len(header)]
    for name in runs[0]:
        table.append([name, *(over_seeds([run[name][score] for run in runs]) for score in scores)])
    return table


def over_seeds(values: Sequence[float]) -> str:
    """Mean and interval."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.2f}"
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return f"{mean:.2f} [{mean - half:.2f}, {mean + half:.2f}]"


def show(table: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    for row in table:
        print(f"| {' | '.join(row)} |")


def write(folder: Path, found: Mapping[str, Any]) -> None:
    """Write all that was found."""
    text = json.dumps(found, ensure_ascii=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for what is found")
    parser.add_argument("--seeds", type=int, help="pairs of adapters")
    parser.add_argument("--taught", type=int, help="facts that an adapter is taught")
    parser.add_argument("--questions", type=int, help="in each group")
    parser.add_argument("--world", type=Path, help="a world's folder; the shipped one by default")
    parser.add_argument("--model", help="a folder or Hub id instead of the world's GPT-2")
    parser.add_argument("--expert", help="a published adapter: path or Hub id")
    parser.add_argument("--anti-expert", help="the other one")
    parser.add_argument("--data", type=Path, help="TruthfulQA's file; the Hub by default")
    parser.add_argument("--judge", help="a model that judges truth: path or Hub id")
    parser.add_argument("--limit", type=int, help="questions of TruthfulQA; all by default")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.set_defaults(**{name: PAPER.run[name] for name in ("seeds", "taught", "questions")})
    return parser


if __name__ == "__main__":
    main()
