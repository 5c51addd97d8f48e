"""Learning from simple statements under a bound on harm elsewhere (Hewitt et al. 2024).

    python docs/comparisons/canonical.py

takes rare facts of the miniature world, which its decoder does not know, as plain statements. It is
then asked for them in the middle of passages; an editor's last round counts whose loss on other
passages is within a bound.

With the paper's data and a model of one's own:

    python docs/comparisons/canonical.py --model EleutherAI/pythia-70m --data PATH \
        --task country_capital --texts ME-PPL_50.json

--data is a checkout of john-hewitt/model-editing-canonical-examples, --texts general texts in the
form of ME-PPL.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import memkit
from memkit import LM, MEMIT, FineTune, Guards, Statistics
from memkit.benchmarks.canonical_examples import CanonicalTask, Continuation
from memkit.editors.base import Editor

# What an editor does is shown, not stopped
OPEN: dict[str, Any] = {
    "on_guard": "warn",
    "guards": Guards(perplexity=float("inf"), size=float("inf")),
}
RARE = 0.5  # the half of the facts with the fewest page views
GENERAL = 60  # passages of other subjects, on which the bound is


def editors(*, small: bool) -> dict[str, Editor]:
    """One pass over the examples a round, so that rounds are epochs; or a write of all of them."""
    value: dict[str, Any] = {}
    if small:
        value = {"contexts": ("{}",), "steps": 60, "statistics": Statistics(ridge=1e-6)}
    once = {"epochs": 1, "batch_size": 10, "stop_loss": 0.0, "stop_at_argmax": False, **OPEN}
    return {
        "FT all, 1e-5": FineTune(parameters="all", lr=1e-5, **once),
        "FT all, 1e-4": FineTune(parameters="all", lr=1e-4, **once),
        "FT all, 1e-3": FineTune(parameters="all", lr=1e-3, **once),
        "FT one MLP, 1e-4": FineTune(lr=1e-4, **once),
        "FT one MLP, 1e-3": FineTune(lr=1e-3, **once),
        "MEMIT": MEMIT(**value, **OPEN),
    }


def miniworld(count: int, seed: int) -> tuple[CanonicalTask, list[str]]:
    """Statements of rare facts, the passages that tell them, and passages of other subjects."""
    world = memkit.benchmarks.load("miniworld")
    views = {question.id: question.popularity or 0 for question in world.questions}
    texts = {passage.id: passage.text for passage in world.passages}
    rng = random.Random(seed)
    rare = sorted(world.facts, key=lambda fact: views[fact.id])[: round(RARE * len(world.facts))]
    facts, asked, hard = [], [], []
    for fact in rng.sample(rare, len(rare)):
        owner, _, _ = (fact.id or "").partition("/")
        before, found, _ = texts[owner].partition(f" {fact.target}")
        if not found or fact.subject in {other.subject for other in facts} or not before:
            continue
        facts.append(fact)
        asked.append(Continuation(before, f" {fact.target}"))
        # what the passage says besides, of another relation, must stay as likely as it is
        others = [f for f in world.facts if f.subject == fact.subject and f.id != fact.id]
        for other in others[:1]:
            before, found, _ = texts[owner].partition(f" {other.target}")
            if found and before:
                hard.append(Continuation(before, f" {other.target}"))
        if len(facts) == count:
            break
    taken = {(fact.id or "").partition("/")[0] for fact in facts}
    rest = [texts[owner] for owner in sorted(taken)]
    general = rng.sample(sorted(text for o, text in texts.items() if o not in taken), GENERAL)
    bound = memkit.benchmarks.canonical_examples.TASKS["country_capital"].bound
    task = CanonicalTask(
        "miniworld", "likely", bound, tuple(facts), tuple(asked), tuple(hard), tuple(rest)
    )
    return task, general


def main(argv: Sequence[str] | None = None) -> None:
    """Learn, ask, print."""
    args = arguments().parse_args(argv)
    lm = LM.load(args.model or memkit.world.shipped(), device=args.device)
    if args.data:
        task = memkit.benchmarks.load(
            "canonical_examples", args.data, args.task, args.examples
        ).cases[0]
        texts = [p.text for p in memkit.benchmarks.load("me_ppl", args.texts).passages]
    else:
        task, texts = miniworld(args.examples or 40, args.seed)
    named = editors(small=args.model is None)
    found = memkit.protocols.canonical(
        lm,
        {name: named[name] for name in args.editors},
        task,
        texts,
        rounds=args.rounds,
        bounds=args.bounds,
        seed=args.seed,
    )
    print(found)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(found.to_dict(), ensure_ascii=False) + "\n"
        (args.out / "results.json").write_text(text, encoding="utf-8")


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="a folder for results.json")
    names = list(editors(small=True))
    parser.add_argument("--editors", nargs="*", choices=names, default=names)
    parser.add_argument("--data", type=Path, help="a checkout of the paper's data")
    parser.add_argument("--task", default="country_capital", help="of --data; '-test' behind it")
    parser.add_argument("--texts", type=Path, help="general texts, in the form of ME-PPL")
    parser.add_argument("--model", help="a folder or Hub id; the shipped decoder by default")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--examples", type=int, help="how many; 40 of the world, all of --data")
    parser.add_argument("--rounds", type=int, default=10, help="10 epochs in the paper")
    parser.add_argument("--bounds", type=float, nargs="*", default=[1e-1, 1e-2, 1e-3, 1e-4])
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
