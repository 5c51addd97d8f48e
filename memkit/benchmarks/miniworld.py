"""The miniature world, and every folder that `memkit world` makes.

A folder holds

    questions.jsonl     the fields of `Question`
    facts.jsonl         the fields of `Fact`
    passages.jsonl      the fields of `Passage`
    definitions.jsonl   {"subject": ..., "definition": ...}
    probes.jsonl        what follows from definitions, in the rows of Entity Inferences with the
                        subject's popularity, see `memkit.benchmarks.clozes`
    opinions.jsonl      court opinions, see `memkit.benchmarks.opinions`
    model/, t5/, bert/  the trained models, see `LM.load`, each with a card.json: origin, recipe,
                        measurements and hashes

A folder that was made for one kind of model has no more than that kind needs.

Questions, facts and probes whose id begins with "new-" are about entities that no training text
mentions. Of the others only the most popular have probes: what a definition must not change.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import memkit
from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.entity_inferences import probes
from memkit.benchmarks.probes import EntityProbe
from memkit.benchmarks.records import to_records
from memkit.benchmarks.values import read_rows, read_values
from memkit.errors import BadInput
from memkit.types import Fact, Passage, Question

__all__ = ["NEW", "SPLITS", "load", "shipped"]

NEW = "new-"  # ids of new entities begin so
SPLITS = ("known", "new", "all")

T = TypeVar("T", EntityProbe, Fact, Passage, Question)


def shipped() -> Path:
    """The folder of the world that memkit ships: in the installed package, or in a checkout.

    Raises `BadInput` if it is in neither.
    """
    package = Path(memkit.__file__).parent
    places = (package / "_data" / "miniworld", package.parent / "data" / "miniworld")
    for place in places:
        if (place / "questions.jsonl").is_file():
            return place
    raise BadInput(
        f"the miniature world is neither in {str(places[0])!r} nor in {str(places[1])!r}; allowed: "
        "an installed memkit, or a whole checkout. Install memkit again, or make a world "
        "(`memkit world train FOLDER`) and pass its path."
    )


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """Questions, facts and probes of a split, with all passages and definitions.

    `path` None is the shipped world. `split` None or "known" leaves new entities out, "new" takes
    them alone, "all" takes both.

    Raises `BadInput` for another split, and for a folder without the files above or with a row
    that is none of theirs.
    """
    if split not in (None, *SPLITS):
        raise BadInput(
            f"split is {split!r}; allowed: {', '.join(map(repr, SPLITS))}. Choose one of these."
        )
    folder = shipped() if path is None else Path(path)
    if not folder.is_dir():
        raise BadInput(
            f"{str(folder)!r} is not a folder; allowed: a world that memkit made. Check the path, "
            "or make one: `memkit world generate FOLDER`."
        )
    questions = _in_split(read_values(folder / "questions.jsonl", Question), split)[:limit]
    facts = _in_split(read_values(folder / "facts.jsonl", Fact), split)
    asked = _in_split(_probes(folder / "probes.jsonl"), split)
    if limit is not None:
        wanted = {question.id for question in questions}
        facts = [fact for fact in facts if fact.id in wanted]
        asked = [p for p in asked if "/".join(str(p.id).split("/")[:2]) in wanted]
    return Benchmark(
        name=folder.name if path is not None else "miniworld",
        questions=tuple(questions),
        facts=tuple(facts),
        passages=tuple(read_values(folder / "passages.jsonl", Passage)),
        definitions=_definitions(folder / "definitions.jsonl"),
        probes=tuple(asked),
    )


def _in_split(values: list[T], split: str | None) -> list[T]:
    """Those of the split; passages have none."""
    if split == "all":
        return values
    return [value for value in values if str(value.id).startswith(NEW) == (split == "new")]


def _probes(path: Path) -> list[EntityProbe]:
    """Those of the file; none where a world has no such file."""
    if not path.is_file():
        return []
    numbered = ((number, row) for number, (_, row) in enumerate(read_rows(path), start=1))
    return [probe for _, probe in probes(to_records(numbered, repr(str(path)), "ex_id"))]


def _definitions(path: Path) -> dict[str, str]:
    made: dict[str, str] = {}
    for where, row in read_rows(path):
        if not all(isinstance(row.get(name), str) for name in ("subject", "definition")):
            raise BadInput(
                f"{where} is {row!r}; allowed: a row with subject and definition. Correct it, or "
                "make the world anew."
            )
        made[row["subject"]] = row["definition"]
    return made
