"""LEME: what a long text makes of an edit (Rosati et al., NAACL 2024).

arXiv:2402.09394. MIT, github.com/domenicrosati/longform-evaluation-model-editing, in two forms:

    data/counterfact_with_coupled_entities.json
        {case_id, requested_rewrite {prompt "{} ...", subject, target_new {str}, target_true {str}},
         coupled_prompts_and_properties (once "dependancies") {
             subject_entity {coupled_prompt, ground_truth {relation: [name]}},
             coupled_entities [{entity, coupled_prompt, ground_truth or overlapping_ground_truth}]}}
    results/annotations_dataset.csv
        content "Passage: ... Claim: ...", sample_id, example_id, classification, method, label,
        question_type

LongFormCase    an edit, the prompts for a text about its subject and one about the first related
                entity, and what was known of both; prompts end in the entity's name, as upstream's
Fact            the edit; target is `target_new`, previous `target_true`
Claim           a row of the other form, with the label that people gave it

Left out: more related entities than the first, as upstream; a row without one, counted in a
warning.
"""

from __future__ import annotations

import csv
import io
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.edits import edit
from memkit.benchmarks.records import Record, read, read_text, to_records
from memkit.errors import BadInput
from memkit.types import Fact

__all__ = ["LABELS", "URL", "Claim", "Label", "LongFormCase", "load"]

URL = "https://github.com/domenicrosati/longform-evaluation-model-editing"
Label = Literal["supports", "contradicts", "neutral"]
LABELS: tuple[Label, ...] = get_args(Label)
CONTENT = re.compile(r"Passage:\s*(.*?)\s*\bClaim:\s*((?:(?!\bClaim:).)*)", re.DOTALL)
Known = Mapping[str, tuple[str, ...]]  # the objects of each relation, by name


@dataclass(frozen=True, slots=True)
class LongFormCase:
    """An edit, and what to write about its subject and about an entity that is related to it.

    `known` and `related_known` are what was true of both before the edit, without its own object.
    """

    fact: Fact
    prompt: str
    known: Known
    related: str
    related_prompt: str
    related_known: Known
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """What people say a passage makes of a claim; `arm` wrote it, `about` says what is claimed.

    Raises `BadInput` for another label.
    """

    passage: str
    claim: str
    label: Label
    arm: str
    about: str
    sample: str
    id: str

    def __post_init__(self) -> None:
        """Check the label."""
        if self.label not in LABELS:
            raise BadInput(
                f"the label of the claim {self.claim!r:.80} is {self.label!r}; allowed: "
                f"{', '.join(LABELS)}. Correct it."
            )


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """LEME from one of its files; a .csv holds labelled claims. `limit`: first rows.

    Raises `BadInput` as `memkit.benchmarks.load` says, and for a row without its parts.
    """
    if path is not None and str(path).endswith(".csv"):
        return Benchmark("leme-claims", cases=_claims(path, split)[:limit])
    records = read("leme", path, split, url=URL, key="case_id")[:limit]
    found = [(record, _coupled(record)) for record in records]
    cases = tuple(_case(record, own) for record, own in found if own.items("coupled_entities"))
    if len(cases) < len(records):
        warnings.warn(
            f"{len(records) - len(cases)} of {len(records)} rows of leme have no related entity "
            "and are left out.",
            stacklevel=3,  # who called memkit.benchmarks.load
        )
    return Benchmark("leme", facts=tuple(case.fact for case in cases), cases=cases)


def _claims(path: str | os.PathLike[str], split: str | None) -> tuple[Claim, ...]:
    if split is not None:
        raise BadInput(f"split is {split!r} for the file {str(path)!r}; allowed: None. Leave it.")
    rows = csv.DictReader(io.StringIO(read_text(path, "leme"), newline=""))
    return tuple(_claim(record) for record in to_records(enumerate(rows, 1), repr(str(path))))


def _claim(record: Record) -> Claim:
    content = record.text("content")
    match = CONTENT.fullmatch(content)
    if match is None or not match[1] or not match[2].strip():
        raise BadInput(
            f"{record.where}: content is {content[:80]!r}; allowed: 'Passage: ... Claim: ...'. "
            "Correct the row, or take it out."
        )
    names = ("classification", "method", "label", "sample_id", "example_id")
    label, arm, about, sample, name = (record.text(field) for field in names)
    try:
        return Claim(match[1], match[2].strip(), label, arm, about, sample, name)  # type: ignore[arg-type]
    except BadInput as error:
        raise BadInput(f"{record.where}: {error}") from error


def _coupled(record: Record) -> Record:
    name = "coupled_prompts_and_properties"
    return record.inner(name if name in record.fields else "dependancies")


def _case(record: Record, coupled: Record) -> LongFormCase:
    rewrite, own = record.inner("requested_rewrite"), coupled.inner("subject_entity")
    other = coupled.items("coupled_entities")[0]
    subject, related = rewrite.text("subject"), other.text("entity")
    fact = edit(
        Record(rewrite.where, record.id, rewrite.fields),
        subject,
        rewrite.text("prompt"),
        target=rewrite.inner("target_new").text("str"),
        relation=next(iter(rewrite.texts("relation_id")), None),
        previous=rewrite.inner("target_true").text("str"),
    )
    if isinstance(fact, str):
        raise BadInput(f"{rewrite.where}: {fact}; allowed: a prompt with '{{}}'. Correct the row.")
    return LongFormCase(
        fact=fact,
        prompt=_prompt(own, subject, related),
        known=_known(own, fact.previous),
        related=related,
        related_prompt=_prompt(other, related, subject),
        related_known=_known(other, None),
        id=record.id,
    )


def _prompt(entity: Record, name: str, other: str) -> str:
    """What upstream gives the model: points to write about, and the first words."""
    return f"{entity.text('coupled_prompt')}\n-relationship to {other}\n\n{name}"


def _known(entity: Record, without: str | None) -> Known:
    """The objects by relation, those left out that an edit replaces."""
    field = "ground_truth" if "ground_truth" in entity.fields else "overlapping_ground_truth"
    truth = entity.inner(field)
    found = {name: tuple(x for x in truth.texts(name) if x != without) for name in truth.fields}
    return {name: objects for name, objects in found.items() if objects}
