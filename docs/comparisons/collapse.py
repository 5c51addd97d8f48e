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
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import memkit
from memkit import GRACE, LM, MEMIT, ROME, Fact, FineTune, Guards, Passage, Question
from memkit.editors.base import Editor
from memkit.metrics import contains
from memkit.protocols.collapse import Watch
from memkit.protocols.collapse_result import Alarm, CollapseResult, Vitals

OPEN = {"on_guard": "warn", "guards": Guards(perplexity=math.inf, size=math.inf)}
SILENT = Alarm(perplexity=math.inf, norm=math.inf, condition=math.inf, canaries=0.0)
SIGNS = ("perplexity", "canaries", "norm", "condition")
HEADER = (
    *("editor", "first alarm", "alarms", "kept", "perplexity", "watched", "canaries", "watched"),
    *("facts right", "watched"),
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
) -> tuple[CollapseResult, Vitals, float]:
    """The stream, the model at its end, and the share of all facts that it then says."""
    with memkit.Edit(editor, lm) as edit:
        found = memkit.protocols.collapse(
            lm, edit, facts, texts, canaries=canaries, alarm=alarm, on_alarm="rollback"
        )
        watch = Watch(lm, tuple(text.text for text in texts), tuple(canaries), conditions=False)
        end = watch.look(edit)
        said = lm.generate([fact.text for fact in facts], 8, ("\n", "."))
    right = [contains(text, [fact.target]) for text, fact in zip(said, facts, strict=True)]
    return found, end, sum(right) / len(right)


def row(name: str, free, watched) -> list[str]:
    """A row of the table."""
    found = watched[0]
    alarms = [alarm for each in found.rang for alarm in each.alarms]
    rung = Counter(next(sign for sign in SIGNS if sign in alarm) for alarm in alarms)
    return [
        name,
        str(found.rang[0].place + 1) if found.rang else "",
        ", ".join(f"{count} {sign}" for sign, count in rung.items()),
        f"{sum(each.kept for each in found.trace)} of {len(found.trace)}",
        *(f"{end.perplexity / one.base.perplexity:.2f}" for one, end, _ in (free, watched)),
        *(f"{end.canaries:.2f}" for _, end, _ in (free, watched)),
        *(f"{right:.2f}" for _, _, right in (free, watched)),
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
