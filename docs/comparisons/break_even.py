"""After how many queries is an edit cheaper than retrieving: predicted, and lived through.

    python docs/comparisons/break_even.py --out runs/break_even

measures the prices of editors and of BM25 on the miniature world (on one half of the facts),
predicts the cost of a stream of queries and updates and where both roads break even, and lives
through the stream (on the other half): the last columns are prediction over measurement. The third
table is the break-even at other numbers of updates a query.

--model takes another decoder, --data another benchmark with facts, questions and passages; --clock
wall times what a user waits for (the default counts this process's own seconds, which busy
neighbours do not change; on a GPU it says little).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import memkit
from memkit import BM25, GRACE, LM, MEMIT, ROME, Fact, FineTune, Guards, Passage, Question, Template
from memkit.editors.base import Editor
from memkit.protocols import cost

OPEN = {"on_guard": "warn", "guards": Guards(perplexity=float("inf"), size=float("inf"))}
CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}


def editors() -> dict[str, Editor]:
    """What is compared; what an editor does is shown, not stopped."""
    return {
        "FT": FineTune(**OPEN),
        "ROME": ROME(**OPEN),
        "MEMIT": MEMIT(**OPEN),
        "GRACE": GRACE(**OPEN),
    }


def task(
    args: argparse.Namespace,
) -> tuple[list[Fact], list[Passage], list[Question], list[Passage]]:
    """Facts worded as they are asked, the passages that state them, all questions, and the corpus.

    The corpus lacks the passages that state the old objects.
    """
    found = memkit.benchmarks.load(args.data)
    if args.data == "miniworld":
        facts = memkit.world.modifications(found, args.facts, seed=args.seed)
    else:
        facts = found.facts[: args.facts]
    asked = {question.id: question for question in found.questions}
    texts = {passage.id: passage for passage in found.passages}
    stale, passages, worded = set(), [], []
    for n, fact in enumerate(facts):
        question = asked[fact.id]
        stale |= set(question.gold)
        text = " ".join(texts[name].text for name in question.gold)
        text = (
            text.replace(fact.previous or fact.target, fact.target) or f"{fact.text} {fact.target}."
        )
        passages.append(Passage(f"new-{n}", text, fact.subject))
        prompt = Template().render(question.text)
        worded.append(replace(fact, subject=prompt, prompt=prompt))
    subjects = {fact.subject for fact in facts}
    others = [q for q in found.questions if q.subject not in subjects and not stale & set(q.gold)]
    random.Random(args.seed).shuffle(others)
    corpus = [passage for passage in found.passages if passage.id not in stale]
    return worded, passages, [*(asked[fact.id] for fact in facts), *others], corpus


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, predict, live through it, print."""
    args = arguments().parse_args(argv)
    lm = LM.load(args.model or memkit.world.shipped(), device=args.device)
    facts, passages, questions, corpus = task(args)
    half = len(facts) // 2
    about, others = questions[: len(facts)], questions[len(facts) :]
    rest = len(others) // 2
    index = BM25.build(corpus, engine=args.engine)
    mix, clock = cost.Mix(args.updated, args.retrieved), CLOCKS[args.clock]
    come = {"facts": args.first, "update_rate": args.update_rate}
    print(f"{lm!r}, {args.engine}, {len(corpus)} passages, clock {args.clock}; {mix}, {come}\n")
    tables: list[list[Sequence[str]]] = [[PRICES], [STREAMS], [("editor", *map(str, RATES))]]
    results = {}
    for name, editor in editors().items():
        if name not in args.editors:
            continue
        print(name, file=sys.stderr)
        sample = [*about[:half], *others[: half + rest // 8]]
        prices = cost.measure(
            lm, editor, index, facts[:half], sample, passages=passages[:half], clock=clock
        )
        lived = cost.run(
            lm,
            editor,
            index,
            facts[half:],
            [*about[half:], *others[rest:]],
            mix,
            queries=args.queries,
            first=args.first,
            update_rate=args.update_rate,
            passages=passages[half:],
            clock=clock,
        )
        found = cost.break_even(prices, mix, **come)
        told = cost.predict(prices, mix, args.queries, **come)
        tables[0].append(priced(name, prices))
        tables[1].append(compared(name, found, told, lived))
        tables[2].append([name, *(point(prices, mix, args.first, rate) for rate in RATES)])
        results[name] = {"prices": asdict(prices), "lived": asdict(lived)}
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            found.plot(args.out / f"{name}.png", None if found.queries else args.queries)
    for title, table in zip(TITLES, tables, strict=True):
        print(f"{title}\n")
        rows = [table[0], ["---"] * len(table[0]), *table[1:]]
        print("\n".join(f"| {' | '.join(row)} |" for row in rows), end="\n\n")
    if args.out:
        (args.out / "results.json").write_text(json.dumps(results) + "\n", encoding="utf-8")


TITLES = ("Prices", "A stream lived through", "Break-even in queries, by updates a query")
RATES = (0.0, 0.001, 0.005, 0.02, 0.1)  # updates a query
PRICES = (
    *("editor", "s / edit", "bytes / edit", "s once", "bytes once"),
    *("ms bare", "ms edited", "ms retrieved", "tok. bare", "tok. retrieved", "s / update"),
)
STREAMS = (
    *("editor", "break-even", "s edit", "s retrieve", "right edit", "right retrieve"),
    *("s edit, ratio", "s retrieve, ratio", "tok. edit, ratio", "tok. retrieve, ratio"),
)


def priced(name: str, prices: cost.Prices) -> list[str]:
    """A row of the prices."""
    edited = prices.edited or prices.bare
    return [
        name,
        f"{prices.edit_seconds:.3f}",
        f"{prices.edit_bytes:,.0f}",
        f"{prices.precompute_seconds:.2f}",
        f"{prices.precompute_bytes:,.0f}",
        *(f"{query.milliseconds:.1f}" for query in (prices.bare, edited, prices.retrieved)),
        *(f"{query.tokens:.1f}" for query in (prices.bare, prices.retrieved)),
        f"{prices.update_seconds:.3f}",
    ]


def point(prices: cost.Prices, mix: cost.Mix, facts: float, rate: float) -> str:
    """From how many queries on an edit is cheaper, at so many updates a query."""
    found = cost.break_even(prices, mix, facts=facts, update_rate=rate)
    if found.until is not None:
        return f"up to {found.until:,.0f}"
    return "never" if found.queries is None else f"{found.queries:,.0f}"


def compared(name: str, found: cost.BreakEven, told, lived: cost.Lived) -> list[str]:
    """A row of what was lived through, and the predictions over it."""
    last = {road: amounts[-1] for road, amounts in lived.costs.items()}
    return [
        name,
        point(found.prices, found.mix, found.facts, found.update_rate),
        *(f"{last[road].seconds:.2f}" for road in told),
        *(f"{lived.right[road]:.2f}" for road in told),
        *(f"{told[road].seconds / last[road].seconds:.2f}" for road in told),
        *(f"{told[road].tokens / last[road].tokens:.2f}" for road in told),
    ]


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="a folder for pictures and results.json")
    parser.add_argument("--editors", nargs="*", choices=list(editors()), default=list(editors()))
    parser.add_argument("--model", help="a folder or Hub id; the shipped decoder by default")
    parser.add_argument("--data", default="miniworld", help="a benchmark by its name")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--engine", default="bm25s", choices=["auto", "lucene", "bm25s"])
    parser.add_argument("--clock", default="cpu", choices=list(CLOCKS))
    parser.add_argument("--facts", type=int, default=24, help="half for prices, half to live with")
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--first", type=int, default=4, help="facts before the first query")
    parser.add_argument("--update-rate", type=float, default=0.02, help="facts with each query")
    parser.add_argument("--updated", type=float, default=0.5, help="queries about them, a share")
    parser.add_argument("--retrieved", type=float, default=0.3, help="of the other queries")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
