"""Onoe et al. 2023: a definition in the weights against the same definition in the prompt.

    python docs/comparisons/entity_table.py --out runs/entities

tells the shipped model of the miniature world's new entities, by every editor and by the prompt,
and asks what the definitions say and what follows from them: the first table. The second one asks
with 1, 2, 5, 10 and 50 definitions at once. Settings stand in onoe.toml. With `--mend FOLDER`
there is MEND too: its networks are trained first, in minutes, unless the folder has them.

    python docs/comparisons/entity_table.py --model gpt2-xl --data data/entity_inferences

is the same on the paper's data (`--benchmark ecbd` for the other one), with the paper's settings
for GPT, or for a T5 if it is one, and without the second table. `--overlap` correlates gains with
the words that definition and probe share.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import memkit
from memkit import (
    BM25,
    LM,
    MEND,
    QA,
    Always,
    Benchmark,
    Dense,
    Guards,
    Passage,
    PopularityRouter,
)
from memkit.benchmarks.miniworld import shipped
from memkit.benchmarks.probes import EntityProbe
from memkit.compare import read_paper
from memkit.editors.base import Editor
from memkit.protocols import Definition, RandomDefinition, Retrieved, Routed, outcomes
from memkit.protocols.entities_methods import Prompting
from memkit.retrieval.base import Retriever
from memkit.retrieval.encoders import PACKAGED, load_encoder
from memkit.world import located, practice

# What an editor does is shown, not stopped
OPEN = {"on_guard": "warn", "guards": Guards(perplexity=float("inf"), size=float("inf"))}
PAPER = read_paper(Path(__file__).with_name("onoe.toml"))
ROUTED = 120  # questions on which the router is fitted
CROWDED = ("FT full", "MEMIT")  # those that write many definitions at once
NAMES = (*PAPER.parts, "MEND")


@dataclass(frozen=True)
class Bench:
    """What is asked, what is known, and where the definitions come from."""

    probes: Sequence[EntityProbe]
    popular: Sequence[EntityProbe]
    passages: Sequence[Passage]
    world: Benchmark | None = None


def editors(
    bench: Bench, folder: Path, seed: int, *, span: bool, kind: str = "decoder"
) -> dict[str, Editor]:
    """Every editor but MEND that serves a model of this kind; `span`: with settings for ECBD.

    On the miniature world second moments and contexts are those of statements of its facts, each of
    which stands before the definition once.
    """
    variants = [] if kind == "decoder" else ["T5"]
    if span:
        variants = [", ".join([*variants, "ECBD"])]
    if bench.world is not None:
        variants.append("miniworld")
    every = {name: e for name, e in PAPER.editors(*variants).items() if kind in e.kinds}
    if bench.world is None:
        return every
    sizes = {"statements": 10_000, "contexts": 1, "tokens": 75_000}
    return located(every, bench.world, folder, seed=seed, **sizes)


def mend(lm: LM, world: Benchmark, folder: Path, steps: int | None, seed: int) -> MEND:
    """MEND with the networks of a folder, trained on the world's facts if it is absent.

    These are facts of entities that the model was trained on, with another object.
    """
    if folder.exists():
        return replace(MEND.load(folder), **OPEN)
    start = time.perf_counter()
    editor = MEND(steps=steps, seed=seed, **OPEN).train(lm, practice(world, seed=seed), out=folder)
    print(f"MEND was trained in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return editor


def prompts(
    lm: LM, bench: Bench, stores: Mapping[str, Retriever], seed: int
) -> dict[str, Prompting]:
    """What stands before a probe."""
    texts = [probe.definition.text for probe in bench.popular or bench.probes]
    methods: dict[str, Prompting] = {
        "Definition": Definition(),
        "Random definition": RandomDefinition(texts, seed),
        **{f"{name}, all definitions": Retrieved(store) for name, store in stores.items()},
    }
    if bench.world is not None and stores:
        store = next(iter(stores.values()))
        methods["Router"] = Routed(router(lm, bench.world, store), store)
    return methods


def router(lm: LM, world: Benchmark, store: Retriever) -> PopularityRouter:
    """Fitted on known subjects' questions, spread over their popularity."""
    known = sorted((q for q in world.questions if q.popularity), key=lambda q: q.popularity or 0)
    asked = known[:: max(1, len(known) // ROUTED)]
    roads = [QA(lm, store, Always(road)).ask(asked) for road in ("weights", "retrieval")]
    return PopularityRouter(splits=0).fit(outcomes(*roads))


def miniworld(count: int, seed: int) -> Bench:
    """`count` probes of each kind, spread over entities; all popular ones."""
    world = memkit.benchmarks.load("miniworld", split="all")
    rng = random.Random(seed)
    popular = [probe for probe in world.probes if probe.category == "popular"]
    new = [probe for probe in world.probes if probe.category != "popular"]
    kinds = [[p for p in new if p.kind == kind] for kind in ("explicit", "implicit")]
    probes = [probe for own in kinds for probe in spread(rng, own, count)]
    passages = [Passage(name, text, title=name) for name, text in world.definitions.items()]
    return Bench(probes, popular, passages, world)


def real(name: str, folder: Path, count: int | None, seed: int) -> Bench:
    """The paper's data; with `count` as many probes of each kind, spread over entities."""
    loaded = memkit.benchmarks.load(name, folder)
    rng = random.Random(seed)
    kinds = dict.fromkeys(probe.kind for probe in loaded.probes)
    own = {kind: [p for p in loaded.probes if p.kind == kind] for kind in kinds}
    probes = [p for some in own.values() for p in spread(rng, some, count or len(some))]
    popular: Iterable[EntityProbe] = ()
    if name == "ecbd" and folder.is_dir():
        popular = memkit.benchmarks.load(name, folder, "popular").probes
    return Bench(probes, tuple(popular), loaded.passages)


def spread(rng: random.Random, probes: Sequence[EntityProbe], count: int) -> list[EntityProbe]:
    """So many of them, in turn from each entity."""
    left: dict[str, list[EntityProbe]] = {}
    for probe in rng.sample(probes, len(probes)):
        left.setdefault(probe.entity, []).append(probe)
    rounds = [own[i] for i in range(len(probes)) for own in left.values() if i < len(own)]
    return rounds[:count]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print both tables, and write every record to --out."""
    args = arguments().parse_args(argv)
    lm = LM.load(args.model or shipped() / "model")
    if args.data:
        bench = real(args.benchmark, args.data, args.probes, args.seed)
    else:
        bench = miniworld(args.probes or 20, args.seed)
    with tempfile.TemporaryDirectory(prefix="memkit-entities-") as scratch:
        span = not bench.probes[0].candidates
        known = editors(bench, Path(scratch), args.seed, span=span, kind=lm.kind)
        if args.mend and bench.world:
            known["MEND"] = mend(lm, bench.world, args.mend, args.mend_steps, args.seed)
        elif args.mend:
            known["MEND"] = replace(MEND.load(args.mend), **OPEN)
        wanted = known if args.editors is None else args.editors
        if missing := [name for name in wanted if name not in known]:
            sys.exit(f"{', '.join(missing)}: not for a model of the kind {lm.kind}")
        known = {name: known[name] for name in wanted}
        stores: dict[str, Retriever] = {"BM25": BM25.build(bench.passages)}
        if args.dense:
            stores["Dense"] = Dense.build(bench.passages, Path(scratch) / "dense")
        methods = {**known, **prompts(lm, bench, stores, args.seed)}
        result = memkit.protocols.entities(
            lm, bench.probes, methods, popular=bench.popular, others=args.others, seed=args.seed
        )
        table = ruled(result.table())
        if not span:
            published = PAPER.published["entity_inferences"]
            print(f"Published figures, {published.tag}: {published.of}\n")
            table = published.beside(table)
        shown(table)
        print(f"\n{result}", file=sys.stderr)
        kept(args.out, "entities", result.to_dict())
        if args.overlap:
            shared = memkit.protocols.overlap(
                result, encoder=load_encoder(PACKAGED) if args.dense else None, seed=args.seed
            )
            print(f"\n{shared}")
            kept(args.out, "overlap", shared.to_dict())
        if bench.world is None or not args.counts:
            return
        crowded = memkit.protocols.crowded(
            lm,
            bench.probes,
            retriever=stores["BM25"],
            editors={name: known[name] for name in CROWDED if name in known},
            counts=args.counts,
            fillers=[probe for probe in bench.world.probes if probe.category != "popular"],
            seed=args.seed,
        )
    print()
    shown(ruled(crowded.table()))
    kept(args.out, "crowded", crowded.to_dict())
    if args.out:
        crowded.plot(args.out / "entity_crowded.png")


def kept(out: Path | None, name: str, found: Mapping[str, object]) -> None:
    """Write all that was found."""
    if out:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(found, ensure_ascii=False, indent=1)
        (out / f"{name}.json").write_text(text, encoding="utf-8")


def ruled(table: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The table with Markdown's rule below its header."""
    header, *rows = table
    return [header, ["---"] * len(header), *rows]


def shown(table: Sequence[Sequence[str]]) -> None:
    """Print a table for a page."""
    for cells in table:
        print(f"| {' | '.join(cells)} |")


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a folder or Hub id; the shipped GPT-2 by default")
    parser.add_argument("--data", type=Path, help="a folder or file of the paper's data")
    parser.add_argument("--benchmark", default="entity_inferences", help="or ecbd, of --data")
    parser.add_argument("--probes", type=int, help="of each kind; all of --data, 20 of the world")
    parser.add_argument("--others", type=int, default=8, help="other probes asked after an edit")
    parser.add_argument("--editors", nargs="*", choices=NAMES, help="all by default")
    parser.add_argument("--mend", type=Path, help="a folder of MEND's networks for this model")
    parser.add_argument("--mend-steps", type=int, help="of their training; 1,200 by default")
    parser.add_argument("--dense", action="store_true", help="dense retrieval, beside BM25")
    parser.add_argument("--overlap", action="store_true", help="shared words against gains")
    parser.add_argument("--counts", type=int, nargs="*", default=[1, 2, 5, 10, 50])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a folder for every record and the plot")
    return parser


if __name__ == "__main__":
    main()
