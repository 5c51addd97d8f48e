"""Facts in time, and events: in the weights, in the prompt, in an index (AToKe, ELKEN).

    python docs/comparisons/temporal.py

changes facts of the miniature world that its decoder knows, asks for the new ones, and for the old
ones as of their year (Yin et al., AAAI 2024). Then it lets something happen to people of the world
that changes two facts of each at once (Peng et al. 2024). Editors write what is new; prompt and
index have it as text, and of facts in time the old one, too.

With real data and a model of one's own:

    python docs/comparisons/temporal.py --model gpt2-xl --data atoke --path AToKe-SE.json

--data atoke and ike_time are facts in time, elken and dune events.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import memkit
from memkit import BM25, GRACE, LM, ROME, Fact, FineTune, Guards, Passage, Statistics
from memkit.benchmarks.happenings import (
    Event,
    EventQuestion,
    TimedCase,
    TimedFact,
    TimedQuestion,
    Valid,
)
from memkit.editors.base import Editor
from memkit.prompts import Template
from memkit.world.edits import most_popular, unmistaken
from memkit.world.schema import RELATIONS

# What an editor does is shown, not stopped
OPEN: dict[str, Any] = {
    "on_guard": "warn",
    "guards": Guards(perplexity=float("inf"), size=float("inf")),
}
OLD, NEW = 2012, 2022
TIMED, EVENTS = ("atoke", "ike_time"), ("elken", "dune")
WORDS = {relation.name: relation for relation in RELATIONS}
CHANGED = ("employer", "occupation")  # what an event of the world changes
KNOWN = 0.25  # so large a part of the facts, the most popular ones, the model mostly knows


def editors(*, small: bool) -> dict[str, Editor]:
    """Editors at their defaults, or as a model of the world's size wants them."""
    value: dict[str, Any] = {}
    rate: dict[str, Any] = {}
    if small:
        value = {"contexts": ("{}",), "steps": 60, "statistics": Statistics(ridge=1e-6)}
        rate = {"stop_at_argmax": False, "lr": 2e-3}
    return {
        "FT": FineTune(**rate, **OPEN),
        "ROME": ROME(**value, **OPEN),
        "GRACE": GRACE(**OPEN),
    }


def timed_cases(world: memkit.benchmarks.Benchmark, count: int, seed: int) -> list[TimedCase]:
    """Facts that change between two years, asked with the year, and the new one without, too."""

    def timed(fact: Fact, target: str, valid: Valid, year: int) -> TimedFact:
        words = WORDS[fact.relation or ""]
        own = Fact(fact.subject, words.question, target, relation=fact.relation)
        told = f"In {year}, {words.phrasings[0].replace('{}', fact.subject)} {target}."
        return TimedFact(own, valid, asked(fact, year), told)

    def asked(fact: Fact, year: int | None) -> str:
        text = WORDS[fact.relation or ""].question.replace("{}", fact.subject)
        return text if year is None else f"In {year}, {text[0].lower()}{text[1:]}"

    cases = []
    for fact in memkit.world.modifications(world, count, seed):
        old, new = (fact.previous or "",), (fact.target,)
        cases.append(
            TimedCase(
                history=(
                    timed(fact, old[0], Valid(None, 2019), OLD),
                    timed(fact, new[0], Valid(2020, None), NEW),
                ),
                questions=(
                    TimedQuestion(asked(fact, None), new, "current", explicit=False),
                    TimedQuestion(asked(fact, NEW), new, "current", explicit=True),
                    TimedQuestion(asked(fact, OLD), old, "historical", explicit=True),
                ),
                id=fact.id,
            )
        )
    return cases


def events(world: memkit.benchmarks.Benchmark, count: int, seed: int) -> list[Event]:
    """People who change employer and occupation at once; birthplace and others' facts stay."""
    rng = random.Random(seed)
    true = unmistaken(world)
    known = [f for f in most_popular(world, KNOWN) if f.relation in (*CHANGED, "birthplace")]
    people = sorted({f.subject for f in known if all((f.subject, r) in true for r in CHANGED)})
    made = []
    for person in rng.sample(people, min(count, len(people))):
        new = {}
        for relation in CHANGED:
            objects = sorted({f.target for f in known if f.relation == relation})
            new[relation] = rng.choice([o for o in objects if o != true[person, relation].target])
        texts = {r: WORDS[r].phrasings[0].replace("{}", person) for r in CHANGED}
        others = rng.sample([f for f in known if f.subject != person], 2)
        kept = [true[person, "birthplace"], *others]
        made.append(
            Event(
                text=" ".join(f"{texts[r]} {new[r]}." for r in CHANGED),
                subject=person,
                questions=tuple(
                    EventQuestion(_question(true[person, r]), (new[r],)) for r in CHANGED
                ),
                local=tuple(EventQuestion(_question(f), (f.target,)) for f in kept),
                id=person,
            )
        )
    return made


def _question(fact: Fact) -> str:
    return WORDS[fact.relation or ""].question.replace("{}", fact.subject)


def main(argv: Sequence[str] | None = None) -> None:
    """Tell, ask, print."""
    args = arguments().parse_args(argv)
    lm = LM.load(args.model or memkit.world.shipped(), device=args.device)
    named = editors(small=args.model is None)
    chosen = {name: editor for name, editor in named.items() if name in args.editors}
    world = memkit.benchmarks.load("miniworld") if args.data == "miniworld" else None
    bench = None if world else memkit.benchmarks.load(args.data, args.path, limit=args.cases)
    found = {}
    if args.data in (*TIMED, "miniworld"):
        cases = timed_cases(world, args.cases or 20, args.seed) if world else bench.cases
        # of the world questions are asked, of AToKe and IKE's rows clozes as they stand
        template = Template() if world else None
        store = BM25.build([p for case in cases for p in case.passages], engine="bm25s")
        found["temporal"] = memkit.protocols.temporal(
            lm, chosen, cases, retriever=store, k=args.k, template=template, seed=args.seed
        )
    if args.data in (*EVENTS, "miniworld"):
        happened = events(world, args.cases or 20, args.seed) if world else bench.cases
        passages = [Passage(f"event-{n}", event.text) for n, event in enumerate(happened)]
        if "FT" in chosen:
            text = {"text": "definition", "parameters": "all", "epochs": 10, "lr": 5e-4}
            chosen = {**chosen, "FT on the text": FineTune(**text, **OPEN)}
        store = BM25.build(passages, engine="bm25s")
        found["events"] = memkit.protocols.events(
            lm, chosen, happened, retriever=store, seed=args.seed
        )
    print("\n\n".join(map(str, found.values())))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        plain = {name: result.to_dict() for name, result in found.items()}
        text = json.dumps(plain, ensure_ascii=False) + "\n"
        (args.out / "results.json").write_text(text, encoding="utf-8")


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="a folder for results.json")
    names = list(editors(small=True))
    parser.add_argument("--editors", nargs="*", choices=names, default=names)
    parser.add_argument(
        "--data", default="miniworld", choices=["miniworld", *TIMED, *EVENTS], help="what is told"
    )
    parser.add_argument("--path", type=Path, help="the file of --data")
    parser.add_argument("--model", help="a folder or Hub id; the shipped decoder by default")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--cases", type=int, help="how many; 20 of the world, all of a file")
    parser.add_argument("--k", type=int, default=2, help="passages for a question about a time")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
