"""Erasure: single facts taken out by nine editors, and Ext-Sub's table (Hu et al., AAAI 2024).

    python docs/comparisons/erasure.py --out runs/erasure

"facts": facts that the miniature world's GPT-2 knows are erased one by one. "adapters": a LoRA
trained on true facts (the expert) and one trained on the same with a fifth falsified (the
anti-expert), combined in the paper's ways, for several seeds. The adapters are kept in --out, and
trained only if they are not there.

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
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import memkit
from memkit import (
    DINM,
    GRACE,
    LM,
    MEMIT,
    ROME,
    Benchmark,
    ExtSub,
    FineTune,
    FineTuneConstrained,
    GradientAscent,
    Guards,
    KLBoundedAscent,
    Merge,
    Question,
    Statistics,
    TaskNegation,
    Template,
    load_adapter,
    world,
)
from memkit.editors.adapter import Adapter
from memkit.editors.base import Edit, Editor
from memkit.protocols.erasure_result import ErasureResult

# What an editor does is shown, not stopped
OPEN = {"on_guard": "warn", "guards": Guards(perplexity=float("inf"), size=float("inf"))}
PARTS = ("facts", "adapters")
EXT_SUB_PROMPT = "<|user|>\n{}\n<|assistant|>\n"
FORGET = (
    "forgotten",
    "paraphrase_forgotten",
    "context_forgotten",
    "neighbours_kept",
    "fluency",
    "perplexity",
)
VERDICTS = ("erased", "suppressed", "kept")
TRUTH = ("mc1", "mc2", "mc3", "rouge1_acc")


def editors(control: tuple[str, ...]) -> dict[str, Editor]:
    """Every method, FT to GRACE with an empty answer in the fact's place, the ascents without.

    DINM as published, and with more steps and weight. `control` are texts of the world.
    """
    read = {"contexts": ("{}",), "statistics": Statistics(ridge=1e-6)}
    return {
        "FT": FineTune(**OPEN),
        "FT-L": FineTuneConstrained(eps=1e-2, epochs=100, stop_at_argmax=True, **OPEN),
        "ROME": ROME(steps=20, **read, **OPEN),
        "MEMIT": MEMIT(steps=20, **read, **OPEN),
        "GRACE": GRACE(**OPEN),
        "gradient ascent": GradientAscent(**OPEN),
        "KL-bounded ascent": KLBoundedAscent(control=control, kl_bound=0.02, **OPEN),
        "DINM": DINM(control=control, **OPEN),
        "DINM, 40 steps, c = 1": DINM(control=control, steps=40, edit_weight=1.0, **OPEN),
    }


@dataclass(frozen=True)
class Kept:
    """An adapter or a combination, put on whatever the guards say."""

    memory: Any

    def apply(self, lm: LM) -> Edit:
        """The handle."""
        return self.memory.apply(lm, **OPEN)


def combinations(expert: Any, anti_expert: Any) -> dict[str, Kept]:
    """The paper's rows, and the strengths between."""
    pair = (expert, anti_expert)
    found = {"expert": expert, "anti-expert": anti_expert}
    found |= {f"plain subtraction, {s:g}": TaskNegation(*pair, s) for s in (0.2, 0.5, 1.0)}
    found |= {f"Ext-Sub, {s:g}": ExtSub(*pair, s) for s in (0.5, 1.0, 2.0)}
    found["merge"] = Merge(pair)
    return {name: Kept(memory) for name, memory in found.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the parts, print one table each, and write results.json."""
    args = arguments().parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.expert:
        return published(args)
    lm = LM.load(args.model or world.shipped(), device=args.device)
    bench = memkit.benchmarks.load("miniworld", args.world)
    found: dict[str, Any] = {}
    if "facts" in args.parts:
        result = facts(lm, bench, args)
        found["facts"] = result.to_dict()
        print(f"{args.facts} facts, each erased alone, {lm!r}\n")
        show(facts_table(result))
    if "adapters" in args.parts:
        runs = [adapters(lm, bench, args, seed) for seed in range(args.seeds)]
        found["adapters"] = runs
        print(f"\n{args.seeds} seeds, {lm!r}: means over seeds, 95 % intervals by Student's t\n")
        show(seeds_table(runs))
        print("\nless the expert, by seed\n")
        show(
            seeds_table([{n: minus(row, run["expert"]) for n, row in run.items()} for run in runs])
        )
    text = json.dumps(found, ensure_ascii=False)
    (args.out / "results.json").write_text(text + "\n", encoding="utf-8")
    return None


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


def experts(lm: LM, bench: Benchmark, folder: Path, seed: int, count: int) -> world.Experts:
    """The adapters of a seed, trained if they are not there, and what they were taught."""
    names = ("expert", "anti-expert")
    taught = world.some_facts(bench, count, seed)
    false = world.falsified(taught, seed=seed)
    if not all((folder / name).exists() for name in names):
        print(f"seed {seed}: training expert and anti-expert", file=sys.stderr)
        made = world.experts(lm, bench, count=count, seed=seed)
        for name, adapter in zip(names, (made.expert, made.anti_expert), strict=True):
            adapter.save(folder / name, replace=True)
    one, other = (dataclasses.replace(load_adapter(folder / name), source=name) for name in names)
    return world.Experts(one, other, taught, false)


def adapters(
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


def published(args: argparse.Namespace) -> None:
    """TruthfulQA of a real model with real adapters, by Ext-Sub's prompt."""
    if not (args.model and args.anti_expert):
        raise SystemExit("--expert goes with --model and --anti-expert: name all three")
    lm = LM.load(args.model, device=args.device)
    pair: list[Adapter] = [load_adapter(name) for name in (args.expert, args.anti_expert)]
    result = memkit.protocols.erasure(
        lm,
        combinations(*pair),
        references=memkit.benchmarks.load("truthfulqa", args.data, limit=args.limit).references,
        judge=args.judge,
        truth_prompt=EXT_SUB_PROMPT,
        seed=args.seed,
    )
    print(result)
    text = json.dumps(result.to_dict(), ensure_ascii=False)
    (args.out / "published.json").write_text(text + "\n", encoding="utf-8")


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


def minus(row: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """The differences; of perplexity the ratio."""
    return {
        name: value / other[name] if name == "perplexity" else value - other[name]
        for name, value in row.items()
    }


def seeds_table(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> list[Sequence[str]]:
    """Means over seeds, with 95 % intervals where there are several."""
    scores = list(runs[0]["expert"])
    header = ["", *(name.replace("_", " ") for name in scores)]
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


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for what is found")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="both")
    parser.add_argument(
        "--editors", nargs="*", choices=list(editors(())), default=list(editors(()))
    )
    parser.add_argument("--facts", type=int, default=20, help="facts to erase")
    parser.add_argument("--seeds", type=int, default=5, help="pairs of adapters")
    parser.add_argument("--taught", type=int, default=300, help="facts that an adapter is taught")
    parser.add_argument("--questions", type=int, default=60, help="in each group")
    parser.add_argument("--world", type=Path, help="a world's folder; the shipped one by default")
    parser.add_argument("--model", help="a folder or Hub id instead of the world's GPT-2")
    parser.add_argument("--expert", help="a published adapter: path or Hub id")
    parser.add_argument("--anti-expert", help="the other one")
    parser.add_argument("--data", type=Path, help="TruthfulQA's file; the Hub by default")
    parser.add_argument("--judge", help="a model that judges truth: path or Hub id")
    parser.add_argument("--limit", type=int, help="questions of TruthfulQA; all by default")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--seed", type=int, default=0, help="of the facts to erase")
    return parser


if __name__ == "__main__":
    main()
