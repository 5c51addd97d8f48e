"""What weight differences reveal: how many of the edited subjects an audit names, by editor.

    python docs/comparisons/audit.py --facts 1 10 40 --out runs/audit

Facts of the miniature world are written (`memkit.world.modifications`), and the model is compared
with its base. The auditor has both models and a list of all subjects, once as bare names and once
in all the prompts of the world. --model names another model, for which --data names the facts, as
a folder of the world's kind.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean

import memkit
from memkit import LM, Benchmark, Fact
from memkit.compare import read_paper
from memkit.editors.audit import Suspect
from memkit.editors.base import Editor

SMALL = read_paper(Path(__file__).with_name("small.toml"))
NAMES = ("ROME", "MEMIT", "AlphaEdit", "FineTune", "LoRA")
HEADER = (
    "| editor | facts | edits counted | named: recall | recall among as many | precision "
    "| prompts: recall | recall among as many | precision |"
)


def rows(
    lm: LM, world: Benchmark, chosen: Mapping[str, Editor], counts: Sequence[int], seed: int
) -> Iterator[dict[str, object]]:
    """One row for each editor and number of facts."""
    names = list(dict.fromkeys(fact.subject for fact in world.facts))
    candidates = {"named": names, "prompts": world.facts}
    for count in counts:
        facts = memkit.world.modifications(world, count, seed=seed)
        for name, editor in chosen.items():
            with editor.apply(lm, facts) as edit:
                row: dict[str, object] = {"editor": name, "facts": count}
                for kind, subjects in candidates.items():
                    report = memkit.audit(lm, edit, subjects)
                    row["edits"] = report.edits
                    row[kind] = scores(facts, report.suspects, report.likely)
            yield row


def scores(
    facts: Sequence[Fact], suspects: Sequence[Suspect], likely: Sequence[str]
) -> dict[str, float]:
    """Recall among the likely ones, recall among as many as there are, precision of the likely."""
    edited = {fact.subject for fact in facts}
    first = {one.subject for one in suspects[: len(edited)]}
    return {
        "recall": mean([subject in likely for subject in edited]),
        "recall among as many": mean([subject in first for subject in edited]),
        "precision": mean([subject in edited for subject in likely]) if likely else 0.0,
    }


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments().parse_args(argv)
    world = memkit.benchmarks.load("miniworld", path=options.data)
    lm = LM.load(options.model or memkit.world.shipped(), device="cpu")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        known = SMALL.editors()
        chosen = memkit.world.located(
            {name: known[name] for name in options.editors},
            world,
            Path(folder),
            statements=6_000,
            contexts=3,
            tokens=60_000,
        )
        print(HEADER)
        print("|" + " --- |" * (HEADER.count("|") - 1))
        for row in rows(lm, world, chosen, options.facts, options.seed):
            found.append(row)
            cells = [f"{v:.2f}" for kind in ("named", "prompts") for v in row[kind].values()]
            edits = "none" if row["edits"] is None else row["edits"]
            print(f"| {row['editor']} | {row['facts']} | {edits} | {' | '.join(cells)} |")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(found, indent=1)
        (options.out / "results.json").write_text(text + "\n", encoding="utf-8")


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--facts", type=int, nargs="+", default=[1, 10, 40])
    parser.add_argument("--editors", nargs="+", choices=list(SMALL.parts), default=NAMES)
    parser.add_argument("--model", help="a model's folder or Hub id; the shipped one")
    parser.add_argument("--data", type=Path, help="a world's folder; the shipped one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for results.json")
    return parser


if __name__ == "__main__":
    main()
