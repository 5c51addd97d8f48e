"""Streams of edits, unwatched and watched: when does the alarm ring, and what does it save?

    python docs/comparisons/collapse.py

writes facts of the miniature world one after the other, with the editors' own guards off: once to
the end whatever happens, and once with `memkit.protocols.collapse`, which takes an edit back when
its alarm rings (perplexity on 50 of the world's passages, norm and condition number of the edited
matrix, 20 canary questions).

--model takes another decoder; --me-ppl the file of ME-PPL, whose sentences are then watched.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import memkit
from memkit import GRACE, LM, MEMIT, ROME, Fact, FineTune, Guards, Passage, Question
from memkit.editors.base import Editor
from memkit.metrics import contains
from memkit.protocols.collapse_result import Alarm, CollapseResult

OPEN = {"on_guard": "warn", "guards": Guards(perplexity=math.inf, size=math.inf)}
SILENT = Alarm(perplexity=math.inf, norm=math.inf, condition=math.inf, canaries=0.0)
HEADER = (
    *("editor", "first alarm", "kept", "perplexity", "watched", "canaries", "watched"),
    *("facts right", "watched", "ms to look"),
)


def editors() -> dict[str, Editor]:
    """What is compared; fine-tuning also at a rate that is too high."""
    return {
        "FT": FineTune(lr=1e-3, **OPEN),
        "FT, rate 0.03": FineTune(lr=3e-2, **OPEN),
        "ROME": ROME(**OPEN),
        "MEMIT": MEMIT(**OPEN),
        "GRACE": GRACE(**OPEN),
    }


def streamed(
    lm: LM,
    editor: Editor,
    facts: Sequence[Fact],
    texts: Sequence[Passage],
    canaries: Sequence[Question],
    alarm: Alarm,
) -> tuple[CollapseResult, float]:
    """The stream, and the share of all its facts that the model says at the end."""
    first, *rest = facts
    with editor.apply(lm, [first]) as edit:
        found = memkit.protocols.collapse(
            lm, edit, rest, texts, canaries=canaries, alarm=alarm, on_alarm="rollback"
        )
        said = lm.generate([fact.text for fact in facts], 8, ("\n", "."))
    right = [contains(text, [fact.target]) for text, fact in zip(said, facts, strict=True)]
    return found, sum(right) / len(right)


def row(name: str, free: tuple[CollapseResult, float], watched: tuple[CollapseResult, float]):
    """A row of the table."""
    ends = []
    for found, _ in (free, watched):
        kept = [each.vitals for each in found.trace if each.kept and each.vitals]
        last = kept[-1] if kept else found.base
        ends.append((last.perplexity / found.base.perplexity, last.canaries))
    found = watched[0]
    looks = [each.seconds for each in found.trace]
    return [
        name,
        str(found.rang[0].place + 2) if found.rang else "",
        f"{sum(each.kept for each in found.trace) + 1} of {len(found.trace) + 1}",
        *(f"{ratio:.2f}" for ratio, _ in ends),
        *(f"{share:.2f}" for _, share in ends if share is not None),
        *(f"{right:.2f}" for _, right in (free, watched)),
        f"{1000 * sum(looks) / len(looks):.0f}",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Run both streams of every editor, and print the table."""
    args = arguments().parse_args(argv)
    lm = LM.load(args.model or memkit.world.shipped(), device=args.device)
    world = memkit.benchmarks.load("miniworld")
    facts = memkit.world.modifications(world, args.facts, seed=args.seed)
    subjects = {fact.subject for fact in facts}
    known = sorted(world.questions, key=lambda question: -(question.popularity or 0))
    canaries = [question for question in known if question.subject not in subjects][:20]
    texts = world.passages[:50]
    if args.me_ppl:
        texts = memkit.benchmarks.load("me_ppl", args.me_ppl).passages
    rows: list[Sequence[str]] = [HEADER, ["---"] * len(HEADER)]
    for name, editor in editors().items():
        if name in args.editors:
            given = (lm, editor, facts, texts, canaries)
            rows.append(row(name, streamed(*given, SILENT), streamed(*given, Alarm())))
    print("\n".join(f"| {' | '.join(cells)} |" for cells in rows))


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--editors", nargs="*", choices=list(editors()), default=list(editors()))
    parser.add_argument("--model", help="a folder or Hub id; the shipped decoder by default")
    parser.add_argument("--me-ppl", type=Path, help="ME-PPL_50.json or ME-PPL_1k.json")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--facts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
