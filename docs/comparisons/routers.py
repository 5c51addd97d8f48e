"""Every router on the same cached outcomes, out of sample, and under attack.

    python docs/comparisons/routers.py --questions 600 --out runs/routers
    python docs/comparisons/routers.py --data popqa_test_test.json --model my-popqa-world/model

Questions are answered once from the weights and once with text; every router is then fitted and
scored from that (`memkit.protocols.popularity`: five folds of subjects). The model is the miniature
world's, or one that popqa_router.py trained on a PopQA table (`--keep`), with the passages of that
table. The last table plants poisoned passages (`memkit.protocols.poisoning`), with and without the
weights as second witness.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import memkit
from memkit import (
    BM25,
    LM,
    QA,
    Always,
    Cascade,
    CombinedRouter,
    Conformal,
    EntropyRouter,
    MarginRouter,
    NeighbourRouter,
    Outcome,
    Passage,
    PopularityRouter,
    ProbeRouter,
    Question,
    Random,
    ScoreRouter,
    SecondWitness,
    report,
)
from memkit.protocols import outcomes, poison, poisoning, popularity
from memkit.protocols.poisoning import KINDS
from memkit.protocols.popularity import PopularityReport
from memkit.routing.base import decided
from memkit.showcase import opened, sample

CLOSED, FED = "closed book", "retrieval"
SIGNALS = (
    "margin",
    "entropy",
    "answer_entropy",
    "answer_entropy_max",
    "answer_logprob",
    "hidden",
    "score",
)
HEADER = (
    "router",
    "EM",
    "F1",
    "ret.",
    "EM at random",
    "gain over the best road",
    "p",
    "gap closed",
    "area",
    "AUROC known",
    "AUROC road",
    "ECE",
    "helped / hurt / missed",
    "silent (error)",
    "fit, ms",
    "decide, µs",
)
ATTACKED = ("attack", "asker", "success", "clean", "attacked", "planted", "calls")


def routers() -> dict[str, Any]:
    """All of them, each with its defaults unless a name says otherwise."""
    everything = ("popularity", "relation", "margin", "answer_logprob", "score")
    return {
        "popularity, by relation": PopularityRouter(splits=0),
        "popularity, global": PopularityRouter(scope="global", splits=0),
        "popularity, binned as published": PopularityRouter(rule="binned", splits=0),
        "margin": MarginRouter(),
        "entropy, first token": EntropyRouter(),
        "entropy, mean of the answer": EntropyRouter("mean"),
        "entropy, maximum": EntropyRouter("max"),
        "probe, middle layer": ProbeRouter(),
        "retriever's score": ScoreRouter(),
        "neighbours": NeighbourRouter(),
        "combined: popularity, margin": CombinedRouter(),
        "combined: all signals": CombinedRouter(everything),
        "cascade: popularity, margin": Cascade((PopularityRouter(splits=0), MarginRouter())),
        "conformal 10 %: combined": Conformal(CombinedRouter(everything), alpha=0.1, delta=0.1),
        "conformal 20 %: popularity": Conformal(PopularityRouter(splits=0), alpha=0.2, delta=0.1),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and write every record to --out."""
    args = arguments().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="memkit-routers-") as scratch:
        name, qa, questions, passages = opened_from(args, Path(scratch))
        asked = sample(questions, args.questions, args.seed)
        arms = {CLOSED: replace(qa, router=Always("weights")).ask(asked), FED: qa.ask(asked)}
        signals = qa.signals(asked, SIGNALS)
        known = outcomes(arms[CLOSED], arms[FED], signals=signals)
        found = {
            router_name: popularity(
                arms, weights=CLOSED, retrieval=FED, router=router, signals=signals, seed=args.seed
            )
            for router_name, router in routers().items()
        }
        print(f"\n{name}: {len(asked)} questions, seed {args.seed}\n")
        for cells in table(found, known):
            print(f"| {' | '.join(cells)} |")
        attacked = []
        if args.every:
            attacked = list(under_attack(qa, asked[:: args.every], passages, known, args))
            print(f"\n{attacked[0]['questions']} attacked questions\n")
            for cells in attacked_table(attacked):
                print(f"| {' | '.join(cells)} |")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        record = {"data": name, "seed": args.seed, "attacks": attacked}
        record["routers"] = {router: made.to_dict() for router, made in found.items()}
        text = json.dumps(record, indent=1, ensure_ascii=False)
        (args.out / "results.json").write_text(text, encoding="utf-8")
        page = report.html(found["combined: all signals"], title=f"Routers: {name}")
        report.write(page, args.out / "report.html")


def opened_from(
    args: argparse.Namespace, scratch: Path
) -> tuple[str, QA, Sequence[Question], Sequence[Passage]]:
    """Name, QA without a router, questions and passages: of the world, or of a PopQA table."""
    if args.data is None:
        world, qa = opened(args.world)
        return world.name, qa, world.questions, world.passages
    if args.model is None:
        raise memkit.BadInput(
            "--data has no --model; allowed: both. Train one: popqa_router.py --keep FOLDER."
        )
    bench = memkit.benchmarks.load("popqa", args.data, limit=args.limit)
    index = BM25.build(bench.passages, scratch / "bm25")
    return bench.name, QA(LM.load(args.model), index), bench.questions, bench.passages


def table(
    found: Mapping[str, PopularityReport], known: Sequence[Outcome]
) -> Iterator[Sequence[str]]:
    """Header, the roads and bounds, and a row for each router."""
    yield HEADER
    yield ["---"] * len(HEADER)
    first = next(iter(found.values()))
    for name in (CLOSED, FED, "oracle"):
        yield [name, *accuracy(first, name), *[""] * (len(HEADER) - 4)]
    for name, made in found.items():
        chance = f"{100 * made.row('random at the same rate').overall.accuracy:.1f}"
        cells = [*accuracy(made, "router"), chance, *judged(made)]
        yield [name, *cells, *timed(routers()[name], known)]


def accuracy(made: PopularityReport, name: str) -> list[str]:
    """EM with its interval, F1, and the share retrieved for, in per cent."""
    row = made.row(name)
    cell = row.overall
    interval = f"{100 * cell.accuracy:.1f} [{100 * cell.low:.1f}, {100 * cell.high:.1f}]"
    return [interval, f"{100 * row.beside['F1']:.1f}", f"{100 * cell.retrieval_rate:.0f}"]


def judged(made: PopularityReport) -> list[str]:
    """What the report says of a router, as cells."""
    gain, routes = made.gain, made.routes
    test = next(c for c in made.comparisons if c.other == made.best)
    cells = [
        f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]",
        "" if test.mcnemar is None else f"{test.mcnemar:.2g}",
        "" if made.gap_closed is None or routes.abstained else f"{100 * made.gap_closed:.0f} %",
    ]
    if made.signal is None:
        cells += [""] * 4
    else:
        values = (made.signal.area, made.signal.known, made.signal.flips)
        cells += ["" if value is None else f"{value:.2f}" for value in values]
        cells.append(f"{made.signal.calibration_error:.3f}")
    silent = ""
    if routes.abstained:
        error = "" if made.answered_error is None else f" ({100 * made.answered_error:.1f} %)"
        silent = f"{100 * routes.abstained / made.questions:.0f} %{error}"
    return [*cells, f"{routes.helped} / {routes.hurt} / {routes.missed}", silent]


def timed(router: Any, known: Sequence[Outcome]) -> list[str]:
    """Milliseconds of a fit on all outcomes, microseconds of a decision (mean)."""
    start = time.perf_counter()
    fitted = copy.deepcopy(router).fit(known)
    fit = time.perf_counter() - start
    start = time.perf_counter()
    for outcome in known:
        decided(fitted, outcome.question, outcome.signals)
    each = (time.perf_counter() - start) / len(known)
    return [f"{1000 * fit:.0f}", f"{1e6 * each:.0f}"]


def under_attack(
    qa: QA,
    asked: Sequence[Question],
    passages: Sequence[Passage],
    known: Sequence[Outcome],
    args: argparse.Namespace,
) -> Iterator[dict[str, Any]]:
    """Rows of the poisoning protocol: fitted routers, and two of them with a second witness."""
    attacks = {kind: poison(asked, passages, kind, args.copies, args.seed) for kind in KINDS}
    subjects = {question.subject for question in asked}
    train = [outcome for outcome in known if outcome.question.subject not in subjects]
    chosen = ("popularity, by relation", "margin", "retriever's score", "combined: all signals")
    askers: dict[str, Any] = {
        "never": replace(qa, router=Always("weights")),
        "always": replace(qa, router=Always("retrieval")),
        "random": replace(qa, router=Random(0.5)),
    }
    askers |= {name: replace(qa, router=routers()[name].fit(train)) for name in chosen}
    for name in ("always", chosen[0], chosen[-1]):
        askers[f"{name}, second witness"] = SecondWitness(askers[name])
    for row in poisoning(askers, qa.retriever, attacks):  # type: ignore[arg-type]
        yield row.to_dict()


def attacked_table(rows: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    """Header and a row for each asker and attack, in per cent."""
    yield ATTACKED
    yield ["---"] * len(ATTACKED)
    for row in rows:
        success, low, high = (100 * row[name] for name in ("success", "low", "high"))
        yield [
            row["kind"],
            row["name"],
            f"{success:.0f} [{low:.0f}, {high:.0f}] ({100 * row['false_clean']:.0f})",
            f"{100 * row['clean']:.0f}",
            f"{100 * row['accuracy']:.0f}",
            f"{row['found']:.1f}",
            f"{row['calls']:.1f}",
        ]


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--world", type=Path, help="a world's folder; the shipped one by default")
    parser.add_argument("--data", help="a PopQA file instead of the world")
    parser.add_argument("--model", help="the model for --data")
    parser.add_argument("--limit", type=int, help="take the first so many questions of --data")
    parser.add_argument("--questions", type=int, default=600, help="that routers are scored on")
    parser.add_argument(
        "--every", type=int, default=5, help="attack one question in so many; 0: none"
    )
    parser.add_argument("--copies", type=int, default=3, help="near-duplicates that are planted")
    parser.add_argument("--seed", type=int, default=0, help="of questions, folds and attacks")
    parser.add_argument("--out", type=Path, help="a folder for records and report")
    return parser


if __name__ == "__main__":
    main()
