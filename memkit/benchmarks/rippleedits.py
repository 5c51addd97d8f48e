"""RippleEdits: what else must change when one fact changes (Cohen et al., TACL 2024).

arXiv:2307.12976, section 4; POPULAR 885, RANDOM 1,922 and RECENT 1,948 edits. MIT,
github.com/edenbiran/RippleEdits (files in git LFS).

    data/benchmark/{popular,random,recent}.json
        {example_type, edit {prompt, subject_id, relation, target_id, original_fact {prompt, ...}},
         and for each criterion a list of {test_queries [{prompt, answers [{value, aliases}],
         query_type, ...}], test_condition "OR" | "AND", condition_queries [...]}}
    data/stats/{popular,random,recent}_stats.json
        columns {"<i>": value}: subject_views and others of the i-th edit

RippleCase  the edit with its tests; popularity are the subject's views, where the statistics lie
            beside the benchmark (or in the same folder)
Fact        prompt and target are recovered from the edit's sentence, which upstream made from one
            template a relation; previous is the original fact's target, which `recent` has not.
            Portability are the first queries of logical generalization, compositionality and
            aliasing tests, locality those of preservation and relation specificity, with the label

The criterion that the paper calls preservation is "Forgetfulness" in the files, and relation
specificity is "Relation_Specifity" in upstream's README; all of these names are read. A target
without a name cannot be told from a wrong one: tests with such a query are left out, and counted in
a warning. The files name aliases of an edit's target only where a query asks for it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.cases import CRITERIA, Criterion, RippleCase, RippleQuery, RippleTest
from memkit.benchmarks.records import Record, read, read_text
from memkit.errors import BadInput
from memkit.progress import track
from memkit.types import Fact

__all__ = ["SPLITS", "URL", "load", "parsed", "popularity"]

URL = "https://github.com/edenbiran/RippleEdits"
SPLITS = ("popular", "random", "recent")
NAMES: Mapping[Criterion, tuple[str, ...]] = {
    **{criterion: (criterion,) for criterion in CRITERIA},
    "Preservation": ("Forgetfulness", "Preservation"),
    "Relation_Specificity": ("Relation_Specificity", "Relation_Specifity"),
}
FOLLOWS = CRITERIA[:4]  # what has to change with the edit

# What stands before and behind the subject, by relation; most are "The name of the X of S is"
WORDINGS: Mapping[str, tuple[str, str]] = {
    "SIBLING": ("The names of the siblings of ", " are"),
    "CAST_MEMBER": ("The names of the cast members of ", " are"),
    "NUMBER_OF_CHILDREN": ("The number of children ", " has is"),
    "SEX_OR_GENDER": ("The gender of ", " is"),
    "NATIVE_LANGUAGE": ("The mother tongue of ", " is"),
    "COUNTRY": ("The name of the country which ", " is associated with is"),
    "ETHNIC_GROUP": ("The name of the ethnic group which ", " is associated with is"),
    "RELIGION": ("The name of the religion which ", " is associated with is"),
    "CONTINENT": ("The name of the continent which ", " is part of is"),
    "CAPITAL": ("The name of the capital city of ", " is"),
    "CAPITAL_OF": ("The name of the country which ", " is the capital of is"),
    "CURRENCY": ("The name of the currency in ", " is"),
    "POSITION_HELD": ("The name of the position held by ", " is"),
    "LEAGUE": ("The name of the league which ", " plays in is"),
    "MEMBER_OF_SPORTS_TEAM": ("The name of the sports team which ", " is a member of is"),
    "AWARD_RECEIVED": ("The name of the award ", " won is"),
    "LIKELY_ANTHEM": (
        "The name of the anthem that is most likely to be performed in ",
        " is",
    ),
    "FOLLOWS": ("", " follows"),
    "FOLLOWED_BY": ("", " is followed by"),
    "IS_ALIVE": ("Is ", " still alive?"),
}
BARE = (
    "PLACE_OF_BIRTH PLACE_OF_DEATH PLACE_OF_BURIAL SEXUAL_ORIENTATION OCCUPATION EYE_COLOR "
    "DATE_OF_BIRTH DATE_OF_DEATH OFFICIAL_LANGUAGE"
).split()


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """RippleEdits from a checkout of `URL` (its `data` folder, too), or from one of its files.

    Of a folder `split` is "popular", "random" or "recent" and has to be named: they measure
    different things. A file has none. `limit` takes the first edits.

    Raises `BadInput` as `memkit.benchmarks.load` says, without a path, for a row that lacks its
    edit or whose sentence does not fit its relation, and for statistics of other edits.
    """
    file, name = _file(path, split)
    records = read("rippleedits", file, None)[:limit]
    views = popularity(file.parent, name, [record.inner("edit") for record in records])
    cases, dropped = [], 0
    for record, seen in zip(track(records, "reading rippleedits"), views, strict=True):
        case, lost = _case(record, name, seen)
        cases.append(case)
        dropped += lost
    if dropped:
        warnings.warn(
            f"{dropped} tests of {file.name} are left out: a query has a target without a name.",
            stacklevel=3,  # who called memkit.benchmarks.load
        )
    facts = tuple(_with_probes(case) for case in cases)
    return Benchmark(name=f"rippleedits-{name}", facts=facts, cases=tuple(cases))


def parsed(
    sentence: str, relation: str, where: str = "the sentence", others: Sequence[str] = ()
) -> tuple[str, str, str]:
    """Prompt ("{}" is the subject), subject and target of a sentence of RippleEdits.

    Where it can be read in several ways ("... of Life is a Dream is Lope"), the subject is the
    longest one that stands in `others`, texts about the same subject, else the shortest.

    Raises `BadInput`, naming `where`, if it does not have the wording of its relation.
    """
    before, behind = WORDINGS.get(relation) or _usual(relation)
    ways = []
    if sentence.startswith(before):
        rest = sentence[len(before) :]
        for match in re.finditer(re.escape(f"{behind} "), rest):
            subject = rest[: match.start()].strip()
            target = rest[match.end() :].strip().removesuffix(".").strip()
            if subject and target:
                ways.append((subject, target))
    if ways:
        known = [way for way in ways if any(way[0] in text for text in others)]
        return f"{before}{{}}{behind}", *(known or ways)[-1 if known else 0]
    raise BadInput(
        f"{where}: {sentence[:120]!r} is no statement of {relation}; allowed: "
        f"'{before}SUBJECT{behind} TARGET.'. Correct the row, or take it out."
    )


def popularity(folder: Path, name: str, edits: Sequence[Record]) -> list[float | None]:
    """The page views of each edit's subject, from the statistics beside; None where unknown.

    The statistics of the subset `name` are looked for in `folder`, and in the folder `stats` beside
    it; without them all are None.

    Raises `BadInput` for statistics of another form, or whose subjects are not the edits'.
    """
    places = (folder / f"{name}_stats.json", folder.parent / "stats" / f"{name}_stats.json")
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return [None] * len(edits)
    columns = _columns(path)
    views = []
    for row, edit in enumerate(edits):
        subject = columns["subject_id"].get(str(row))
        if subject != edit.fields.get("subject_id"):
            raise BadInput(
                f"{str(path)!r}, row {row}: subject_id is {subject!r}, and {edit.where} is about "
                f"{edit.fields.get('subject_id')!r}; allowed: statistics of the same edits in the "
                "same order. Get both from one commit."
            )
        seen = columns["subject_views"].get(str(row))
        views.append(None if seen is None else float(seen))
    return views


def _file(path: str | os.PathLike[str] | None, split: str | None) -> tuple[Path, str]:
    """The file of a subset, and the subset's name."""
    if path is None:
        raise BadInput(
            f"rippleedits has path None; allowed: a checkout of {URL}, or a file of it. Clone it "
            "(with git LFS) and name its folder: load('rippleedits', path=..., split='popular')."
        )
    path = Path(path)
    if not path.is_dir():
        if split is not None:
            raise BadInput(
                f"split is {split!r} for the file {str(path)!r}; allowed: None, a file has no "
                "splits. Leave it out, or name the folder."
            )
        return path, path.stem
    if split not in SPLITS:
        raise BadInput(
            f"split is {split!r} for rippleedits; allowed: {', '.join(map(repr, SPLITS))}. Choose "
            "one of these."
        )
    places = [path / inner / f"{split}.json" for inner in ("data/benchmark", "benchmark", "")]
    return next((place for place in places if place.is_file()), places[-1]), split


def _columns(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """The statistics' columns of subjects and their views."""
    try:
        data = json.loads(read_text(path, "RippleEdits' statistics"))
        return {name: dict(data[name]) for name in ("subject_id", "subject_views")}
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"{str(path)!r} has no columns subject_id and subject_views ({error}); allowed: "
            "columns {'<row>': value}. Get the file again, or move it away: popularity is then "
            "unknown."
        ) from error


def _usual(relation: str) -> tuple[str, str]:
    words = relation.lower().replace("_", " ")
    return (f"The {words} of " if relation in BARE else f"The name of the {words} of ", " is")


def _case(record: Record, subset: str, views: float | None) -> tuple[RippleCase, int]:
    """The case of a row, and how many of its tests were left out."""
    edit = record.inner("edit")
    relation = edit.text("relation")
    original = edit.inner("original_fact" if "original_fact" in edit.fields else "previous_fact")
    others = [*original.texts("prompt"), *_prompts(record)]
    prompt, subject, target = parsed(edit.text("prompt"), relation, edit.where, others)
    previous = None
    if original.fields:
        previous = parsed(original.text("prompt"), relation, original.where, [subject])[2]
    made = [
        _test(test, criterion)
        for criterion, names in NAMES.items()
        for name in names
        for test in record.items(name)
    ]
    tests = tuple(test for test in made if test is not None)
    names = (target, *_aliases(record, target, edit.fields.get("target_id")))
    fact = Fact(
        subject=subject,
        prompt=prompt,
        target=target,
        relation=relation,
        previous=previous,
        id=record.id,
    )
    case = RippleCase(fact, tests, tuple(dict.fromkeys(names)), subset, views)
    return case, len(made) - len(tests)


def _prompts(record: Record) -> Iterator[str]:
    """The prompts of all queries of a row."""
    for name in dict.fromkeys(name for names in NAMES.values() for name in names):
        for test in record.items(name):
            for query in (*test.items("test_queries"), *test.items("condition_queries")):
                yield from query.texts("prompt")


def _test(record: Record, criterion: Criterion) -> RippleTest | None:
    """A test; None if one of its queries has a target without a name."""
    asked = [_query(query) for query in record.items("test_queries")]
    given = [_query(query) for query in record.items("condition_queries")]
    queries = tuple(query for query in asked if query is not None)
    conditions = tuple(query for query in given if query is not None)
    if not queries or len(queries) < len(asked) or len(conditions) < len(given):
        return None
    combine = record.text("test_condition")
    if combine not in ("OR", "AND"):
        raise BadInput(
            f"{record.where}: test_condition is {combine!r}; allowed: 'OR' or 'AND'. Correct the "
            "row."
        )
    return RippleTest(criterion, queries, "OR" if combine == "OR" else "AND", conditions)


def _query(record: Record) -> RippleQuery | None:
    targets = tuple(
        (*answer.texts("value"), *answer.texts("aliases")) for answer in record.items("answers")
    )
    if not targets or not all(targets):
        return None
    return RippleQuery(record.text("prompt"), targets)


def _aliases(record: Record, target: str, target_id: Any) -> Iterator[str]:
    """Other names of the edit's target, from the queries that ask for it alone."""
    for names in NAMES.values():
        for name in names:
            for test in record.items(name):
                for query in test.items("test_queries"):
                    wanted = query.fields.get(
                        "second_hop_target_ids"
                        if query.fields.get("query_type") == "two_hop"
                        else "target_ids"
                    )
                    answers = query.items("answers")
                    own = wanted in (target_id, [target_id]) and len(answers) == 1
                    if own and target in answers[0].texts("value"):
                        yield from answers[0].texts("aliases")


def _with_probes(case: RippleCase) -> Fact:
    """The fact with the tests' first queries as portability and locality."""
    follows: list[tuple[str, str]] = []
    stays: list[tuple[str, str]] = []
    for test in case.tests:
        query = test.queries[0]
        if len(query.targets) == 1:
            side = follows if test.criterion in FOLLOWS else stays
            side.append((query.prompt, query.targets[0][0]))
    return dataclasses.replace(case.fact, portability=tuple(follows), locality=tuple(stays))
