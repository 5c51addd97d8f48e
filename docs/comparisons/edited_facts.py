"""Edited facts against stale passages: who answers, by router, on the miniature world.

    python docs/comparisons/edited_facts.py --facts 40 --out runs/edited_facts

gives rare facts (which a popularity router looks up, and of which the passage is then stale) and
popular ones (which it leaves to the weights) another object, writes them with each editor, and asks
for them with every router: which answer is the edited one, which the retrieved one, which the one
from before the edit (`memkit.protocols.conflicts`). Accuracy on questions that no edit touches
stands beside. Then facts are edited one after the other, and a margin router that was fitted before
says when it has to be fitted again (`drift`).
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import memkit
from memkit import QA, Always, Benchmark, Cascade, EditScope, Fact, Guards, MarginRouter, Question
from memkit.metrics import exact_match
from memkit.protocols import conflicts, outcomes
from memkit.showcase import fit_router, opened, sample

OPEN: dict[str, Any] = {
    "on_guard": "warn",
    "guards": Guards(perplexity=float("inf"), size=float("inf")),
}
WINNERS = ("edited", "retrieved", "pre_edit", "other")
COLOURS = ("#3a9d5d", "#d1495b", "#d9822b", "#9a9a9a")
STEPS = (1, 5, 10, 20, 40)
ASKED = "GRACE, facts worded as asked"


def editors() -> dict[str, Any]:
    """Fine-tuning as on this world (see editing_methods.py), a weak one, and GRACE."""
    return {
        "FineTune": memkit.FineTune(stop_at_argmax=False, lr=2e-3, **OPEN),
        "FineTune, stopped early": memkit.FineTune(stop_at_argmax=False, lr=2e-3, epochs=6, **OPEN),
        "GRACE": memkit.GRACE(**OPEN),
        ASKED: memkit.GRACE(**OPEN),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and write figure and records to --out."""
    args = arguments().parse_args(argv)
    world, qa = opened(args.world)
    known = sample(world.questions, args.fit, seed=0)
    popularity = fit_router(qa, known)
    routers = {
        "never": Always("weights"),
        "always": Always("retrieval"),
        "popularity": popularity,
        "edit scope, then popularity": Cascade((EditScope(), popularity)),
    }
    rng = random.Random(args.seed)
    edited = {
        kind: changed(world, qa, popularity, source, args.facts, rng)
        for kind, source in (("rare", "retrieval"), ("popular", "weights"))
    }
    touched = {fact.subject for facts in edited.values() for fact in facts.values()}
    others = [q for q in sample(world.questions, args.fit, seed=1) if q.subject not in touched]
    rows = []
    for name, editor in editors().items():
        if args.editors and name not in args.editors:
            continue
        for kind, facts in edited.items():
            rows += compared(qa, routers, name, editor, kind, facts, others)
    show(rows)
    drifted = drift(qa, known, edited["rare"], args)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        record = json.dumps({"seed": args.seed, "rows": rows, "drift": drifted}, indent=1)
        (args.out / "results.json").write_text(record, encoding="utf-8")
        figure(rows, args.out / "edited_facts.svg")


def changed(
    world: Benchmark, qa: QA, router: Any, source: str, count: int, rng: random.Random
) -> dict[Question, Fact]:
    """Questions that the router sends to `source` and that are right there, with new facts.

    The new target is another object of the relation.
    """
    facts = {fact.id: fact for fact in world.facts}
    pool = [q for q in world.questions if router.decide(q).source == source]
    some = list({q.subject: q for q in rng.sample(pool, min(len(pool), 4 * count))}.values())
    answers = replace(qa, router=router).ask(some)
    right = [a.question for a in answers if exact_match(a.text, a.question.answers)][:count]
    made = {}
    for question in right:
        fact = facts[question.id]
        same = {f.target for f in world.facts if f.relation == fact.relation} - {fact.target}
        made[question] = replace(fact, target=rng.choice(sorted(same)), previous=fact.target)
    return made


def compared(
    qa: QA,
    routers: Mapping[str, Any],
    name: str,
    editor: Any,
    kind: str,
    facts: Mapping[Question, Fact],
    others: Sequence[Question],
) -> list[dict[str, Any]]:
    """A row for each router: who answered, and how the questions that no edit touches fared."""
    questions, targets = list(facts), list(facts.values())
    if name == ASKED:
        targets = [worded(qa, *pair) for pair in facts.items()]
    unedited = replace(qa, router=Always("weights")).ask(questions)
    rows = []
    with editor.apply(qa.lm, targets) as edit:
        learnt = sum(row.learnt for row in edit.report.facts)
        for router_name, router in routers.items():
            routed = replace(qa, router=router)
            found = conflicts(routed.ask(questions), targets, unedited)
            right = [exact_match(a.text, a.question.answers) for a in routed.ask(others)]
            row = {winner: getattr(found, winner) for winner in WINNERS}
            row |= {"editor": name, "facts": kind, "router": router_name, "learnt": learnt}
            rows.append({**row, "of": len(questions), "others": sum(right) / len(right)})
    return rows


def worded(qa: QA, question: Question, fact: Fact) -> Fact:
    """The fact with the very prompt that QA makes of its question."""
    prompt = qa.template.render(question.text)
    return replace(fact, prompt=prompt.replace(fact.subject, "{}"), paraphrases=())


def drift(
    qa: QA, known: Sequence[Question], facts: Mapping[Question, Fact], args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Whether a margin router that was fitted before has to be fitted again after N edits."""

    def measured() -> Any:
        alone, fed = replace(qa, router=Always("weights")), replace(qa, router=None)
        return outcomes(
            alone.ask(known), fed.ask(known), exact_match, qa.signals(known, ["margin"])
        )

    router = MarginRouter().fit(measured())
    print("\n| edits | margins moved by | KS | p | gain of a new fit | advice |")
    print("|---|---|---|---|---|---|")
    rows, targets = [], list(facts.values())
    edit = editors()["FineTune"].apply(qa.lm, targets[:1])
    with edit:
        for count, more in zip(STEPS, (*STEPS[1:], None), strict=True):
            if count > len(targets):
                break
            found = router.drift(measured(), seed=args.seed)
            gain = found.gain
            cells = f"{found.shift:+.2f} | {found.statistic:.2f} | {found.p:.1g}"
            points = f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
            advice = "fit again" if found.refit else "keep"
            print(f"| {count} | {cells} | {points} | {advice} |")
            rows.append({"edits": count, "shift": found.shift, "p": found.p, "refit": found.refit})
            for fact in targets[count:more]:
                edit.add([fact])
    return rows


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """The table of all rows."""
    header = ("editor", "facts", "learnt", "router", "edited", "retrieved", "pre-edit", "other")
    print(f"| {' | '.join(header)} | untouched |")
    print("|---" * (len(header) + 1) + "|")
    for row in rows:
        counts = " | ".join(str(row[winner]) for winner in WINNERS)
        learnt = f"{row['learnt']} of {row['of']}"
        print(
            f"| {row['editor']} | {row['facts']} | {learnt} | {row['router']} | {counts} | "
            f"{100 * row['others']:.0f} |"
        )


def figure(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Stacked bars: who answered, by editor and router."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(9, 0.32 * len(rows) + 1.2), layout="constrained")
    axes = drawn.add_subplot()
    left = [0] * len(rows)
    for winner, colour in zip(WINNERS, COLOURS, strict=True):
        values = [row[winner] for row in rows]
        axes.barh(range(len(rows)), values, left=left, color=colour, label=winner)
        left = [a + b for a, b in zip(left, values, strict=True)]
    labels = [f"{row['editor']}, {row['facts']}: {row['router']}" for row in rows]
    axes.set(yticks=range(len(rows)), yticklabels=labels, xlabel="questions about edited facts")
    axes.invert_yaxis()
    drawn.legend(loc="outside upper center", ncols=4, frameon=False)
    drawn.savefig(path, metadata={"Date": None})


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--world", type=Path, help="a world's folder; the shipped one by default")
    parser.add_argument("--facts", type=int, default=40, help="edited facts of each kind")
    parser.add_argument("--editors", nargs="*", choices=tuple(editors()), help="all by default")
    parser.add_argument("--fit", type=int, default=300, help="questions that routers are fitted on")
    parser.add_argument("--seed", type=int, default=0, help="of the facts and of the intervals")
    parser.add_argument("--out", type=Path, help="a folder for records and figure")
    return parser


if __name__ == "__main__":
    main()
