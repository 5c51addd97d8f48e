"""The GRACE paper's table: eight methods on three streams of errors (Hartvigsen et al. 2023).

    python docs/comparisons/lifelong.py --out runs/lifelong

edits the small T5, BERT and GPT-2 that memkit ships along the miniature world's streams: 20 edits
each, in minutes. The tables of the page beside are of `--edits 1000 --every 50 --upstream-limit 500
--mend-steps 300`. The editors and the published figures are in grace.toml. Two figures a stream go
into --out: what is left along the edits, and the seconds that an edit takes. Each pair of method
and stream keeps what it found there, and goes on from its last checkpoint after a kill: several
calls on parts of the grid (--streams, --editors) can share the work, and a last one prints all
tables.

MEND's networks are trained on a fifth of the stream's facts (of SCOTUS's a tenth), which no method
then meets, with test data beyond those that count as what must stay.

With --paper it is the same on the paper's own models and data, from the Hub; --data and --upstream
name local copies of one stream's data, --model another model of one stream.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import memkit
from memkit import LM, MEND, Fact
from memkit.benchmarks import streams
from memkit.benchmarks.base import Stream
from memkit.benchmarks.miniworld import shipped
from memkit.compare import read_paper
from memkit.protocols.lifelong_result import Checkpoint, LifelongResult

STAY = 500  # test data that MEND learns to leave alone
PAPER = read_paper(Path(__file__).with_name("grace.toml"))
NAMES = list(PAPER.parts)


@dataclass(frozen=True)
class Experiment:
    """A stream of the paper: which model it is for, and which columns are shown.

    `lesson` is the share of the stream that MEND learns from.
    """

    folder: str
    hub: str
    lesson: float
    columns: tuple[str, ...]


FORGOTTEN = ("TRR", "ERR", "holdout")
EXPERIMENTS = {
    "zsre": Experiment("t5", "google/t5-small-ssm-nq", 0.2, FORGOTTEN),
    "scotus": Experiment("bert", "tomh/scotus-bert", 0.1, FORGOTTEN),
    "hallucination": Experiment("model", "tomh/gpt2xl-grace", 0.2, ("TRR", "ERR", "ARR")),
}


@dataclass(frozen=True)
class Lesson:
    """What MEND learns from, and where its networks are."""

    facts: Sequence[Fact]
    locality: Sequence[Fact]
    folder: Path

    def learnt(self, lm: LM, editor: MEND) -> MEND:
        """The editor with its networks, which are trained if they are not there yet."""
        if self.folder.exists():
            return MEND.load(self.folder)
        return editor.train(lm, self.facts, locality=self.locality, out=self.folder)


def divided(stream: Stream, share: float, tested: int, folder: Path) -> tuple[Stream, Lesson]:
    """The stream without what MEND learns from.

    Facts go by their ids, so that no other wording of what it learnt comes. All wordings of a fact
    are its paraphrases.
    """
    forms: dict[str, list[Fact]] = {}
    for number, fact in enumerate(stream.edits):
        forms.setdefault(fact.id or str(number), []).append(fact)
    names = list(forms)
    taught = names[-round(share * len(names)) :]
    tested = min(tested, round(0.8 * len(stream.upstream)))
    facts = [
        replace(own, paraphrases=tuple(other.text for other in others))
        for own, *others in (forms[name] for name in taught)
    ]
    stay = stream.upstream[tested:]
    rest = set(names[: len(names) - len(taught)])
    edits = [f for n, f in enumerate(stream.edits) if (f.id or str(n)) in rest]
    kept = replace(
        stream,
        edits=tuple(edits),
        upstream=stream.upstream[:tested],
        holdout=tuple(q for q in stream.holdout if q.id is None or q.id in rest),
    )
    return kept, Lesson(facts, [Fact(q.text, q.text, q.answers[0]) for q in stay], folder)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is not done yet, and print one table a stream."""
    args = arguments().parse_args(argv)
    for name in args.streams:
        experiment = EXPERIMENTS[name]
        default = experiment.hub if args.paper else (args.world or shipped()) / experiment.folder
        lm = LM.load(args.model or default, device=args.device)
        networks = args.out / name / "networks"
        stream, lesson = divided(load(args, name), experiment.lesson, args.upstream_limit, networks)
        found = {}
        for method, editor in PAPER.editors().items():
            if method in args.editors and lm.kind in editor.kinds:
                print(f"{name}: {method}", file=sys.stderr)
                if isinstance(editor, MEND):
                    editor = lesson.learnt(lm, replace(editor, steps=args.mend_steps))
                found[method] = memkit.protocols.lifelong(
                    lm,
                    editor,
                    stream,
                    edits=args.edits,
                    every=args.every,
                    rules=args.rules,
                    out=args.out / name / method.replace(" ", ""),
                    seed=args.seed,
                )
        print(f"\n{stream.name}: {stream.metric}, {len(stream.upstream)} test cases, {lm!r}\n")
        published = PAPER.published[name]
        print(f"Published figures, {published.tag}: {published.of}\n")
        for cells in published.beside(table(found, experiment.columns)):
            print(f"| {' | '.join(cells)} |")
        draw(found, args.out / f"{name}.png")
        draw_seconds(found, args.out / f"{name}_seconds.png")


def load(args: argparse.Namespace, name: str) -> Stream:
    """The real stream or the world's, with more test data than count."""
    limit = args.upstream_limit + STAY
    if args.paper:
        return streams.load(name, args.data, args.upstream, upstream_limit=limit, seed=args.seed)
    return streams.load(f"miniworld-{name}", args.world, upstream_limit=limit, seed=args.seed)


def table(found: Mapping[str, LifelongResult], columns: Sequence[str]) -> list[Sequence[str]]:
    """Header, and two rows a method: the unedited model once, then each."""
    header = ["method", *columns, "(TRR + ERR) / 2", "edits", "keys", "s / edit"]
    rows: list[Sequence[str]] = [header, ["---"] * len(header)]
    for number, (name, result) in enumerate(found.items()):
        if not number:
            rows.append(["unedited", *shown(result.unedited, columns), "", "", "", ""])
        final, average = result.final, result.average
        rows.append(
            [
                name,
                *shown(final, columns),
                "" if average is None else text(average),
                f"{final.edits:,}",
                "" if final.keys is None else f"{final.keys:,}",
                "" if final.seconds is None else f"{final.seconds:.2f}",
            ]
        )
    return rows


def draw(found: Mapping[str, LifelongResult], path: Path) -> None:
    """TRR and ERR of every method along the edits."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, column in zip(figure.subplots(1, 2), ("TRR", "ERR"), strict=True):
        for name, result in found.items():
            rows = [row for row in result.checkpoints[1:] if column in row.cells]
            edits = [row.edits for row in rows]
            axes.plot(edits, [row.cells[column].mean for row in rows], **styled(name))
            if result.metric == "perplexity":
                axes.set_yscale("log")
                axes.set_ylim(1, 1e4)
            else:
                axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("edits")
        axes.set_title(f"{column}: {'test data' if column == 'TRR' else 'edits so far'}")
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=160)


def styled(method: str) -> dict[str, Any]:
    """How a method's line is drawn everywhere, so that lines on each other are told apart."""
    if method == "GRACE":
        return {"label": method, "color": "black", "linewidth": 2.5}
    number = NAMES.index(method)
    dashes = ("-", "--", "-.", ":")[number % 4]
    return {"label": method, "color": f"C{number}", "linestyle": dashes, "linewidth": 1.4}


def draw_seconds(found: Mapping[str, LifelongResult], path: Path) -> None:
    """Seconds of an edit along the edits: each method's median over a tenth of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots()
    for name, result in found.items():
        taken = [r.seconds for r in result.records if r.seconds is not None]
        parts = np.array_split(np.array(taken), min(10, len(taken))) if taken else []
        ends = np.cumsum([len(part) for part in parts])
        axes.plot(ends, [np.median(part) for part in parts], marker=".", **styled(name))
    axes.set(xlabel="edits", ylabel="seconds of an edit", yscale="log", xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=160)


def shown(checkpoint: Checkpoint, columns: Sequence[str]) -> list[str]:
    """Mean and 95 % interval of each column."""
    cells = (checkpoint.cells.get(name) for name in columns)
    return [f"{text(c.mean)} [{text(c.low)}, {text(c.high)}]" if c else "" for c in cells]


def text(value: float) -> str:
    """Two decimals, or the power of ten of a perplexity out of all bounds."""
    return f"{value:.2f}" if value < 1e5 else f"{value:.0e}"


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for what is found")
    parser.add_argument(
        "--streams", nargs="*", choices=list(EXPERIMENTS), default=list(EXPERIMENTS), help="all"
    )
    parser.add_argument(
        "--editors", nargs="*", choices=list(PAPER.parts), default=list(PAPER.parts), help="all"
    )
    parser.add_argument("--world", type=Path, help="a world's folder; the shipped one by default")
    parser.add_argument("--paper", action="store_true", help="the paper's models and data")
    parser.add_argument("--model", help="a folder or Hub id instead of the stream's model")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--data", type=Path, help="with --paper: a file instead of the Hub")
    parser.add_argument("--upstream", type=Path, help="with --paper: a file instead of the Hub")
    parser.add_argument("--upstream-limit", type=int, default=100, help="test cases")
    parser.add_argument("--edits", type=int, default=20, help="at most; 1,000 in the paper")
    parser.add_argument("--every", type=int, default=10, help="edits between two checkpoints")
    parser.add_argument("--mend-steps", type=int, default=60, help="of its training, once")
    parser.add_argument("--rules", choices=["memkit", "official"], default="memkit")
    parser.add_argument("--seed", type=int, default=42, help="of the streams' order")
    return parser


if __name__ == "__main__":
    main()
