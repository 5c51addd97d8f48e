"""Probes of entities from the rows of Entity Inferences and ECBD: sentinels, found and checked.

The row of Onoe et al. (ACL 2023), as JSON: `definition` with one "<extra_id_0>", `def_target`
("<extra_id_0> SPAN <extra_id_1>"), `ent_str`, `category`, and `probe_sentences` {name:
{probe_sentence, labels or label}}, with the gold candidate in the top-level `label`. Between the
sentinels the span has one space on each side; any other white space is its own.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.probes import END, GAP, Cloze, EntityProbe
from memkit.benchmarks.records import Record
from memkit.errors import BadInput
from memkit.types import Passage

__all__ = ["entity_benchmark", "folder_files", "mask", "probes_of", "span_of"]

SENTINEL = re.compile(r"<extra_id_\d+>")
TARGET = re.compile(rf"{GAP} ?(.*?) ?{END}", re.DOTALL)


def span_of(target: str, where: str) -> str:
    """The span of "<extra_id_0> SPAN <extra_id_1>".

    Raises `BadInput`, with `where` it stands, for another form.
    """
    match = TARGET.fullmatch(target)
    if match is None or SENTINEL.search(match[1]) or not match[1].strip():
        raise BadInput(
            f"{where} is {target[:80]!r}; allowed: a span between its sentinels, "
            f"'{GAP} SPAN {END}'. Correct the row, or take it out."
        )
    return match[1]


def mask(sentence: str, span: str, where: str) -> Cloze:
    """A sentence with one "<extra_id_0>" as a cloze.

    Raises `BadInput`, with `where` it stands, unless there is exactly this one sentinel.
    """
    found = SENTINEL.findall(sentence)
    if found != [GAP]:
        raise BadInput(
            f"{where} has the sentinels {', '.join(found) or 'none'} ({sentence[:80]!r}); allowed: "
            f"one {GAP!r}, where the span goes. Correct the row, or take it out."
        )
    left, right = sentence.split(GAP)
    return Cloze(left, span, right)


def probes_of(record: Record, kind: str | None, category: str | None) -> Iterator[EntityProbe]:
    """The probes of a row in the form above.

    Raises `BadInput`, naming file and row, for a row that is none.
    """
    target = span_of(record.text("def_target"), f"{record.where}: def_target")
    definition = mask(record.text("definition"), target, f"{record.where}: definition")
    templates = record.inner("probe_sentences")
    if not templates.fields:
        raise BadInput(
            f"{record.where} has no probe sentence; allowed: at least one in 'probe_sentences'. "
            "Correct the row, or take it out."
        )
    for number, name in enumerate(templates.fields, start=1):
        template = templates.inner(name)
        gold, candidates = _choice(record, template)
        probe = EntityProbe(
            entity=record.text("ent_str"),
            definition=definition,
            cloze=mask(template.text("probe_sentence"), gold, f"{template.where}: probe_sentence"),
            category=category,
            kind=kind,
            popularity=record.fields.get("popularity"),
            id=record.id if number == 1 else f"{record.id}/{number}",
        )
        try:
            yield replace(probe, candidates=candidates)
        except BadInput as error:
            raise BadInput(f"{template.where}: {error}") from error


def entity_benchmark(name: str, numbered: Iterable[tuple[Record, EntityProbe]]) -> Benchmark:
    """A benchmark of probes; the definitions are passages too, so that they can be retrieved.

    A warning says how many definitions do not name their entity as the probe does, which is common
    in upstream's files: such a definition is used as it is.
    """
    probes, passages, without = [], dict[str, Passage](), []
    definitions: dict[str, str] = {}
    for record, probe in numbered:
        probes.append(probe)
        text = definitions.setdefault(probe.entity, probe.definition.text)
        passages.setdefault(probe.entity, Passage(probe.entity, text, title=probe.entity))
        if probe.entity.lower() not in probe.definition.text.lower():
            without.append(f"{record.where}: {probe.entity!r}")
    if without:
        warnings.warn(
            f"{len(without)} of {len(probes)} definitions of {name} do not name their entity as "
            f"`ent_str` does. The first is {without[0]}.",
            stacklevel=4,  # who called memkit.benchmarks.load
        )
    return Benchmark(
        name=name,
        passages=tuple(passages.values()),
        definitions=definitions,
        probes=tuple(probes),
    )


def folder_files(
    name: str, path: str | os.PathLike[str] | None, patterns: Sequence[str], url: str
) -> list[str | os.PathLike[str] | None]:
    """The file itself, or the files of a folder that fit a pattern, in the order of their names.

    Raises `BadInput` for a folder without such a file.
    """
    if path is None or not Path(path).is_dir():
        return [path]
    found = {file for pattern in patterns for file in Path(path).glob(pattern)}
    if not found:
        raise BadInput(
            f"the folder {str(path)!r} has no file of {name} ({', '.join(patterns)}); allowed: "
            f"a folder of the data of {url}, or a file. Name one."
        )
    return [*sorted(found)]


def _choice(record: Record, template: Record) -> tuple[str, tuple[str, ...]]:
    """The gold span of a template, and the candidates, if it has some."""
    if "labels" not in template.fields:
        return span_of(template.text("label"), f"{template.where}: label"), ()
    labels = template.texts("labels")
    candidates = tuple(span_of(label, f"{template.where}: labels") for label in labels)
    return record.text("label"), candidates
