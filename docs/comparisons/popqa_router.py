"""Weights, text and a router: accuracy by popularity, relation and size, and adaptive retrieval.

    python docs/comparisons/popqa_router.py --out runs/mallen

asks the miniature world's model down every road: closed book, BM25, gold and random passage, and a
router that is fitted out of sample. mallen.toml has the figures that the paper published.

    python docs/comparisons/popqa_router.py --data popqa_test_test.json --out runs/popqa

trains a small model on the facts of a PopQA table, each stated as often as its subject is popular
(`memkit.world`), and searches the table's passages. A pretrained model, and the whole of PopQA from
the Hub, take the same road:

    python docs/comparisons/popqa_router.py --model EleutherAI/gpt-neo-1.3B --index my-wiki-index

Several models are asked one after the other, and a last table sets them side by side by size:

    python docs/comparisons/popqa_router.py --model gpt-neo-125m gpt-neo-1.3B gpt-neo-2.7B ...

Into --out go results.json, report.html and figures of exact match: deciles.png and popularity.png
(by popularity and by relation, of the largest model), adaptive.png (the router's thresholds), and
of several models scale.png.

After Mallen et al., "When Not to Trust Language Models" (ACL 2023), sections 4 to 6.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import memkit
from memkit import BM25, LM, QA, Answer, Benchmark, Passage, Question, figures, report
from memkit.benchmarks.miniworld import shipped
from memkit.compare import read_paper
from memkit.metrics import contains, exact_match, popqa_substring
from memkit.protocols.popularity import PopularityReport
from memkit.showcase import sample
from memkit.world import GPT2Recipe, make

PAPER = read_paper(Path(__file__).with_name("mallen.toml"))
METRICS = {"EM": exact_match, "contains": contains, "popqa-substring": popqa_substring}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and write them with the report to --out."""
    args = arguments().parse_args(argv)
    bench = asked_of(args)
    found, sizes = {}, {}
    with tempfile.TemporaryDirectory(prefix="memkit-popqa-") as scratch:
        corpus = index(bench, args.index, Path(scratch) / "bm25")
        for name, model in models(bench, args, Path(scratch) / "world").items():
            qa = QA(LM.load(model), corpus)
            found[name] = scored(answers(qa, bench, args, Path(scratch)), args.seed)
            sizes[name] = sum(weight.numel() for weight in qa.lm.model.parameters())
            show(name, found[name])
    if len(found) > 1:
        print("\nBy size, exact match\n")
        for cells in report.scale({name: own["EM"] for name, own in found.items()}, sizes):
            print("| " + " | ".join(cells) + " |")
    print_published(found)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        record = {
            "seed": args.seed,
            "parameters": sizes,
            "results": {
                name: {rule: made.to_dict() for rule, made in own.items()}
                for name, own in found.items()
            },
        }
        (args.out / "results.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        first = next(iter(found.values()))
        page = report.html(first["EM"], title=f"{bench.name}: weights, text and router")
        report.write(page, args.out / "report.html")
        draw({name: own["EM"] for name, own in found.items()}, sizes, args.out)


def asked_of(args: argparse.Namespace) -> Benchmark:
    """The miniature world's questions, spread evenly over popularity; or PopQA."""
    if args.data or (args.model and not args.world):
        return memkit.benchmarks.load("popqa", args.data, limit=args.limit)
    bench = memkit.benchmarks.load("miniworld", args.world)
    known = [question for question in bench.questions if question.popularity is not None]
    return replace(bench, questions=tuple(sample(known, args.questions, args.seed)))


def models(bench: Benchmark, args: argparse.Namespace, scratch: Path) -> dict[str, Path | str]:
    """Who is asked, by name."""
    if args.model:
        return {model: model for model in args.model}
    if args.data:
        return {"trained": trained(bench, args, scratch)}
    return {bench.name: (args.world or shipped()) / "model"}


def draw(reports: Mapping[str, PopularityReport], sizes: Mapping[str, int], out: Path) -> None:
    """The paper's figures: by popularity and relation, by size, and adaptive retrieval."""
    largest = max(reports, key=sizes.__getitem__)
    figures.by_decile(reports[largest]).png(out / "deciles.png")
    figures.by_relation(reports[largest]).png(out / "popularity.png")
    figures.by_threshold(reports, sizes).png(out / "adaptive.png")
    if len(reports) > 1:
        figures.by_size(reports, sizes).png(out / "scale.png")


def print_published(found: Mapping[str, Mapping[str, PopularityReport]]) -> None:
    """Right answers by the paper's rule, beside its figures; and those it gives by size."""
    reports = [own["popqa-substring"] for own in found.values()]
    table = [["", *found], ["---"] * (1 + len(found))]
    for row in reports[0].rows:
        cells = (made.row(row.name).overall.accuracy for made in reports)
        table.append([row.name, *(f"{100 * right:.1f}" for right in cells)])
    tables = {"popqa": table, "rare": [[""], ["---"]]}
    for name, measured in tables.items():
        published = PAPER.published[name]
        print(f"\nPublished figures, {published.tag}: {published.of}\n")
        for cells in published.beside(measured):
            print("| " + " | ".join(cells) + " |")


def scored(arms: Mapping[str, list[Answer]], seed: int) -> dict[str, PopularityReport]:
    """A report by each rule."""
    return {
        name: memkit.protocols.popularity(
            arms, weights="closed book", retrieval="BM25", metric=metric, seed=seed
        )
        for name, metric in METRICS.items()
    }


def show(model: str, results: Mapping[str, PopularityReport]) -> None:
    """Print a model's tables, and the details of exact match."""
    for name, found in results.items():
        print(
            f"\n{model}: {name}, {found.questions} questions; deciles of popularity, 1 the rarest\n"
        )
        for cells in report.table(found):
            print("| " + " | ".join(cells) + " |")
        print(f"\n{report.summary(found)}")
    print("\n" + "\n".join(report.details(results["EM"])))


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", help="a PopQA file in any of its forms")
    parser.add_argument("--model", nargs="*", help="pretrained models, asked PopQA, or --world")
    parser.add_argument("--world", type=Path, help="a world's folder; the shipped one by default")
    parser.add_argument(
        "--questions", type=int, default=PAPER.run["questions"], help="of the world's"
    )
    parser.add_argument("--index", help="an index of passages; default: the table's own passages")
    parser.add_argument("--dense", action="store_true", help="add the arm of dense retrieval")
    parser.add_argument("--limit", type=int, help="take PopQA's first so many questions")
    parser.add_argument("--steps", type=int, default=3_000, help="of training")
    parser.add_argument("--layers", type=int, default=4, help="of the model that is trained")
    parser.add_argument("--width", type=int, default=192, help="of its layers; a multiple of 32")
    parser.add_argument("--exercises", type=int, default=12, help="of reading, in a step")
    parser.add_argument("--keep", type=Path, help="keep the trained world in this folder")
    parser.add_argument("--out", type=Path, help="results.json, report.html and figures")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def trained(bench: Benchmark, args: argparse.Namespace, scratch: Path) -> Path:
    """The folder of a small model, trained on the table's facts."""
    folder = args.keep or scratch
    if not (folder / "model").is_dir():
        recipe = GPT2Recipe(
            layers=args.layers,
            width=args.width,
            heads=args.width // 32,
            vocabulary=4_000,
            steps=args.steps,
            statement_rows=10,
            exercises=args.exercises,
            seed=args.seed,
        )
        print(f"training on {len(bench.facts)} facts, {args.steps} steps", file=sys.stderr)
        make(bench, folder, recipe, origin={"data": Path(args.data or "Hub").name})
    return folder / "model"


def index(bench: Benchmark, path: str | None, scratch: Path) -> BM25:
    """An index on disk, or one of the table's own passages."""
    return BM25.open(path) if path else BM25.build(bench.passages, scratch)


def answers(
    qa: QA, bench: Benchmark, args: argparse.Namespace, scratch: Path
) -> dict[str, list[Answer]]:
    """Every arm's answers to the questions whose popularity is known."""
    asked = [question for question in bench.questions if question.popularity is not None]
    rng = random.Random(args.seed)
    passages = {passage.id: passage for passage in bench.passages}
    alone = QA(qa.lm)
    arms = {"closed book": alone.ask(asked), "BM25": qa.ask(asked)}
    if args.dense:
        place = scratch / "dense"
        dense = (
            memkit.Dense.open(place)
            if place.exists()
            else memkit.Dense.build(bench.passages, place)
        )
        dense.query_batch_size = 32
        arms["dense"] = QA(qa.lm, dense).ask(asked)
    if passages:
        gold = [[passages[key] for key in question.gold[:1]] for question in asked]
        arms["gold passage, if any"] = alone.ask(asked, given=gold)
        wrong = [[other(rng, bench.passages, question)] for question in asked]
        arms["random passage"] = alone.ask(asked, given=wrong)
    return arms


def other(rng: random.Random, passages: Sequence[Passage], question: Question) -> Passage:
    """A random passage that is not one of the question's gold ones."""
    while (passage := rng.choice(passages)).id in question.gold:
        pass
    return passage


if __name__ == "__main__":
    try:
        main()
    except memkit.MemkitError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
