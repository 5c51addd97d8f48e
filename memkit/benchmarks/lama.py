"""LAMA's T-REx, and ParaRel: facts as sentences with a gap.

LAMA (Petroni et al., EMNLP 2019, arXiv:1909.01066), section 4; 41 relations. CC BY-NC 4.0,
dl.fbaipublicfiles.com/LAMA/data.zip:

    relations.jsonl     {relation, template "[X] was born in [Y] .", label, type "1-1" | ...}
    TREx/<relation>.jsonl                           {uuid, sub_label, obj_label, predicate_id, ...}

ParaRel (Elazar et al., TACL 2021, arXiv:2102.01017), section 3. MIT, github.com/yanaiela/pararel:

    data/pattern_data/graphs_json/<relation>.jsonl  {pattern, lemma, extended_lemma, tense}
    data/trex_lms_vocab/<relation>.jsonl            {uuid, sub_label, obj_label}

ClozeFact   one a fact (and pattern); its id is the uuid, of a pattern but the first with
            "#2", "#3", ... behind it
Fact        where the gap comes behind the subject: the prompt is what stands before it

ConceptNet, SQuAD and Google-RE of LAMA are not read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import islice, zip_longest
from pathlib import Path

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.cases import ClozeFact
from memkit.benchmarks.records import Record, read
from memkit.errors import BadInput
from memkit.types import Fact

__all__ = ["PARAREL_URL", "URL", "load", "load_pararel"]

URL = "https://dl.fbaipublicfiles.com/LAMA/data.zip"
PARAREL_URL = "https://github.com/yanaiela/pararel"

Wordings = Mapping[str, tuple[tuple[str, ...], str | None]]  # templates and type, by relation


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """T-REx of LAMA from the unpacked folder (`URL`).

    `split` is one relation ("P19"), None takes all. `limit` takes so many facts, from the relations
    in turn.

    Raises `BadInput` for a path that is not given or holds no such files, for a relation that is
    not there, and for a row without labels or a template without its gap.
    """
    folder = _folder("lama", path, URL)
    rows = read("lama", _first(folder, ("relations.jsonl", "data/relations.jsonl")), None)
    wordings = {
        row.text("relation"): (
            (_template(row, "template"),),
            next(iter(row.texts("type")), None),
        )
        for row in rows
    }
    places = [folder / "TREx", folder / "data" / "TREx"]
    return _made("lama", wordings, places, split, limit)


def load_pararel(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """ParaRel from a checkout of `PARAREL_URL`.

    `split` None is the first pattern of each relation, "patterns" all of them. `limit` takes so
    many facts, from the relations in turn.

    Raises `BadInput` as `load` does.
    """
    folder = _folder("pararel", path, PARAREL_URL)
    if split not in (None, "patterns"):
        raise BadInput(
            f"split is {split!r} for pararel; allowed: None, the first pattern of each relation, "
            "or 'patterns', all. Choose one."
        )
    inner = folder / "data" if (folder / "data").is_dir() else folder
    files = sorted((inner / "pattern_data" / "graphs_json").glob("P*.jsonl"))
    if not files:
        raise BadInput(
            f"{str(inner)!r} has no pattern_data/graphs_json/P*.jsonl; allowed: a checkout of "
            f"{PARAREL_URL}. Name its folder."
        )
    wordings: dict[str, tuple[tuple[str, ...], str | None]] = {}
    for file in files:
        patterns = tuple(_template(row, "pattern") for row in read("pararel", file, None))
        wordings[file.stem] = (patterns if split else patterns[:1], None)
    return _made("pararel", wordings, [inner / "trex_lms_vocab"], None, limit)


def _folder(name: str, path: str | os.PathLike[str] | None, url: str) -> Path:
    if path is None or not Path(path).is_dir():
        raise BadInput(
            f"{name} has path {None if path is None else str(path)!r}; allowed: its unpacked "
            f"folder. Get {url} and name the folder: load({name!r}, path=...)."
        )
    return Path(path)


def _first(folder: Path, names: tuple[str, ...]) -> Path:
    """The first of these files that is there, else the first: its absence is then said."""
    return next((folder / name for name in names if (folder / name).is_file()), folder / names[0])


def _template(record: Record, name: str) -> str:
    """A template with both places. Raises `BadInput` if one is missing."""
    template = record.text(name)
    if template.count("[X]") != 1 or template.count("[Y]") != 1:
        raise BadInput(
            f"{record.where}: {name} is {template!r}; allowed: text with '[X]' and '[Y]' once "
            "each. Correct the row."
        )
    return template


def _made(
    name: str, wordings: Wordings, places: list[Path], split: str | None, limit: int | None
) -> Benchmark:
    """The benchmark of the relations that have a file in one of the places."""
    if split is not None and split not in wordings:
        raise BadInput(
            f"split is {split!r} for {name}; allowed: None for all, or {', '.join(wordings)}. "
            "Choose one of these."
        )
    files = {
        relation: place / f"{relation}.jsonl"
        for relation in ([split] if split else wordings)
        for place in places
        if (place / f"{relation}.jsonl").is_file()
    }
    if not files:
        looked = ", ".join(repr(str(place)) for place in places)
        raise BadInput(
            f"{name} has no file of a relation in {looked}; allowed: <relation>.jsonl for at least "
            "one. Unpack the data set whole."
        )
    rows = [_clozes(relation, file, *wordings[relation]) for relation, file in files.items()]
    turns = (own for turn in zip_longest(*rows) for own in turn if own is not None)
    clozes = [cloze for own in islice(turns, limit) for cloze in own]
    facts = tuple(fact for cloze in clozes for fact in _facts(cloze))
    return Benchmark(name=name, facts=facts, cases=tuple(clozes))


def _clozes(
    relation: str, file: Path, templates: tuple[str, ...], kind: str | None
) -> Iterator[list[ClozeFact]]:
    """The clozes of each fact of a relation's file."""
    for record in read(relation, file, None, key="uuid"):
        subject, answer = record.text("sub_label"), record.text("obj_label")
        yield [
            ClozeFact(
                subject,
                answer,
                template,
                relation,
                kind,
                id=record.id if number == 1 else f"{record.id}#{number}",
            )
            for number, template in enumerate(templates, start=1)
        ]


def _facts(cloze: ClozeFact) -> Iterator[Fact]:
    """The cloze as a fact, if its gap comes behind its subject."""
    before = cloze.template.split("[Y]")[0].rstrip()
    if "[X]" in before:
        yield Fact(
            subject=cloze.subject,
            prompt=before.replace("[X]", "{}"),
            target=cloze.object,
            relation=cloze.relation,
            id=cloze.id,
        )
