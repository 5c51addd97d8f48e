"""Edits that disturb each other: knowledge conflict and distortion (Li et al., ICLR 2024).

arXiv:2310.02129, sections 3 and 4. What a model thinks of a fact is P, the mean over the relation's
prompt and its other wordings of exp(mean log p of a token of the object).

Two edits that contradict each other, the first and then the second (ConflictEdit)

    succ    the second edit made alone: P(second) > P(first); "coverage" only
    CS      conflict score, after both: P(implied) > P(first)
    CM      conflict magnitude: (P1(first) - P2(first)) / P1(first), at least -1; P1 is after the
            first edit, P2 after both. What of the first edit was taken out of the memory
    TFD     tied fact damage: (P0(tied) - P2(tied)) / P0(tied), P0 of the unedited model; of
            composite edits. The code calls it FFD

A fact with several right objects is edited to a wrong one, and back (RoundEdit)

    succ    half for P(wrong) > P(true) after the first edit, half for the reverse after the second
    D       Jensen-Shannon divergence (nats) of all right objects' P, scaled to 1, from before
    D / n   the same over the number of objects: the published figure, since the code's loss divides
            by the length of the vector
    IR      ignore rate: share of the other right objects that are less likely than before
    FR      failure rate: whether more than half of them are

Scores are means over cases, with intervals (95 %) by resampling these. An edit that a guard refuses
is not made, and the case counts.

Departure from the code: a wording that ends in a space loses it, where there it gets another.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from memkit.benchmarks.cases import checked
from memkit.benchmarks.pitfalls import ConflictCase, RoundCase
from memkit.errors import BadInput, EditRejected
from memkit.lm.checks import check_count
from memkit.progress import track
from memkit.protocols.cells import Cell, aligned, cell_text, mean_cell, settings_text
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.editors.base import Edit, Editor
    from memkit.lm.model import LM

__all__ = ["PitfallRecord", "PitfallsResult", "pitfalls"]

ROUND = "round"
Case = ConflictCase | RoundCase


@dataclass(frozen=True, slots=True)
class PitfallRecord:
    """A case: its kind ("coverage", "reverse", "composite", "round") and scores by name."""

    case: Case
    kind: str
    scores: Mapping[str, float]
    rejected: int


@dataclass(frozen=True, slots=True)
class PitfallsResult:
    """What `memkit.protocols.pitfalls` found; `cells` are by editor, kind of case and score."""

    model: str
    settings: Mapping[str, Any]
    cells: Mapping[str, Mapping[str, Mapping[str, Cell]]]
    records: Mapping[str, tuple[PitfallRecord, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """A table for each kind of case, a row an editor; 95 % intervals in brackets."""
        settings = settings_text(self.settings)
        first = next(iter(self.records.values()))
        lines = [self.model, f"{len(first)} cases; {settings}"]
        for kind in dict.fromkeys(record.kind for record in first):
            names = list(next(iter(self.cells.values()))[kind])
            title = f"{kind} ({sum(record.kind == kind for record in first)})"
            rows = [[title, *names]]
            for editor, cells in self.cells.items():
                rows.append([editor, *(cell_text(cells[kind][name]) for name in names)])
            lines += ["", *aligned(rows)]
        for editor, own in self.records.items():
            refused = sum(record.rejected for record in own)
            lines += [f"{editor}: {refused} edits refused by a guard"] if refused else []
        return "\n".join(lines)


def pitfalls(
    lm: LM,
    editors: Editor | Mapping[str, Editor],
    cases: Sequence[Case],
    *,
    fit_on: int = 8,
    samples: int = 1000,
    seed: int = 0,
    batch_size: int = 32,
) -> PitfallsResult:
    """Score pairs of edits, as the module says; the model is afterwards as it was.

    What is None in an editor is chosen once, on the first `fit_on` edits.

    Raises `BadInput` for no cases or editors, and something else among the cases; what
    `Editor.apply` raises but `EditRejected`.
    """
    for name, count in {"fit_on": fit_on, "samples": samples, "batch_size": batch_size}.items():
        check_count(name, count)
    named = dict(editors) if isinstance(editors, Mapping) else {type(editors).__name__: editors}
    if not named:
        raise BadInput("there are no editors; allowed: at least one. Name some.")
    cases = checked(cases, ConflictCase, RoundCase, source="the benchmark pitfalls has them")
    belief = Belief(lm, batch_size)
    before = [belief.of_all(_known(case)) for case in cases]
    facts = [case.first if isinstance(case, ConflictCase) else case.there for case in cases]
    records = {}
    for name, editor in named.items():
        fitted, _ = editor.fitted(lm, facts[:fit_on])
        pairs = list(zip(cases, before, strict=True))
        records[name] = tuple(_record(belief, fitted, *pair) for pair in track(pairs, name))
    return PitfallsResult(
        model=repr(lm),
        settings={"fit_on": fit_on, "samples": samples, "seed": seed},
        cells={name: _cells(own, samples, seed) for name, own in records.items()},
        records=records,
    )


@dataclass(frozen=True, slots=True)
class Belief:
    """What a model thinks of facts: P of the module."""

    lm: LM
    batch_size: int

    def of(self, fact: Fact) -> float:
        """P of a fact."""
        return self.of_all([fact])[0]

    def of_all(self, facts: Sequence[Fact]) -> list[float]:
        """P of each."""
        prompts = [
            [fact.text, *(text.replace("{}", fact.subject) for text in fact.paraphrases)]
            for fact in facts
        ]
        pairs = [
            (prompt, self.lm.codec.continuation(prompt, fact.target))
            for fact, own in zip(facts, prompts, strict=True)
            for prompt in own
        ]
        if not pairs:
            return []
        asked, targets = zip(*pairs, strict=True)
        found = iter(self.lm.logprob(asked, targets, self.batch_size))
        means = []
        for own in prompts:
            scored = [next(found) for _ in own]
            means.append(sum(math.exp(x.total / len(x.per_token)) for x in scored) / len(own))
        return means


def _known(case: Case) -> list[Fact]:
    """What has to be looked at before the edits."""
    if isinstance(case, ConflictCase):
        return [case.tied] if case.tied else []
    others = [dataclasses.replace(case.back, target=name) for name in case.others]
    return [case.back, *others]


def _record(belief: Belief, editor: Editor, case: Case, before: Sequence[float]) -> PitfallRecord:
    if isinstance(case, ConflictCase):
        scores, rejected = _conflict(belief, editor, case, before)
        return PitfallRecord(case, case.kind, scores, rejected)
    scores, rejected = _round(belief, editor, case, before)
    return PitfallRecord(case, ROUND, scores, rejected)


def _conflict(
    belief: Belief, editor: Editor, case: ConflictCase, before: Sequence[float]
) -> tuple[dict[str, float], int]:
    from memkit.editors.base import Edit  # loads torch

    scores: dict[str, float] = {}
    refused = 0
    edit = Edit(editor, belief.lm)
    try:
        if case.kind == "coverage":
            refused += _refused(edit, case.second)
            first, second = belief.of_all([case.first, case.second])
            scores["succ"] = float(second > first)
            edit.rollback()
            edit = Edit(editor, belief.lm)
        refused += _refused(edit, case.first)
        learnt = belief.of(case.first)
        refused += _refused(edit, case.second)
        left, implied = belief.of_all([case.first, case.implied])
        scores |= {"CS": float(implied > left), "CM": max(_lost(learnt, left), -1.0)}
        if case.tied is not None:
            scores["TFD"] = _lost(before[0], belief.of(case.tied))
    finally:
        edit.rollback()
    return scores, refused


def _round(
    belief: Belief, editor: Editor, case: RoundCase, before: Sequence[float]
) -> tuple[dict[str, float], int]:
    from memkit.editors.base import Edit  # loads torch

    edit = Edit(editor, belief.lm)
    try:
        refused = int(_refused(edit, case.there))
        wrong, right = belief.of_all([case.there, case.back])
        refused += _refused(edit, case.back)
        still_wrong, *after = belief.of_all([case.there, *_known(case)])
    finally:
        edit.rollback()
    scores = {"succ": (float(wrong > right) + float(after[0] > still_wrong)) / 2}
    if case.others:
        divergence = _divergence(before, after)
        scores |= {"D": divergence, "D / n": divergence / len(after)}
        worse = [old > new for old, new in zip(before[1:], after[1:], strict=True)]
        scores["IR"] = sum(worse) / len(worse)
        scores["FR"] = float(scores["IR"] > 0.5)
    return scores, refused


def _refused(edit: Edit, fact: Fact) -> bool:
    try:
        edit.add([fact])
    except EditRejected:
        return True
    return False


def _lost(before: float, after: float) -> float:
    """The share that is lost; 0 of nothing."""
    return (before - after) / before if before > 0 else 0.0


def _divergence(before: Sequence[float], after: Sequence[float]) -> float:
    """Jensen-Shannon divergence of two vectors that are scaled to sum 1, in nats."""
    tiny = np.finfo(float).tiny
    p, q = (np.maximum(x, tiny) / np.maximum(x, tiny).sum() for x in map(np.array, (before, after)))
    middle = (p + q) / 2
    return float((p * np.log(p / middle)).sum() + (q * np.log(q / middle)).sum()) / 2


def _cells(records: Sequence[PitfallRecord], samples: int, seed: int) -> dict[str, dict[str, Cell]]:
    """The mean of each score over the cases of a kind that have it."""
    made: dict[str, dict[str, Cell]] = {}
    for kind in dict.fromkeys(record.kind for record in records):
        own = [record.scores for record in records if record.kind == kind]
        names = dict.fromkeys(name for scores in own for name in scores)
        made[kind] = {
            name: mean_cell([scores[name] for scores in own if name in scores], samples, seed, name)
            for name in names
        }
    return made
