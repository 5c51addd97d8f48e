"""What is said of a step: how well its facts were learnt, what the guards found, what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from memkit.editors.cost import Cost
from memkit.editors.draft import Draft
from memkit.editors.erasing import REVEALS, erases
from memkit.editors.guards import check_learnt, check_perplexity, check_size
from memkit.editors.steps import Made, Step, stored_bytes
from memkit.editors.tokens import target_text
from memkit.types import EditReport, Fact, FactReport

if TYPE_CHECKING:
    from memkit.editors.edit import Edit
    from memkit.lm.model import LM

__all__ = ["Known", "checked", "known", "told"]

Known = tuple[float, bool]  # log p(target | prompt), and whether each target token is the argmax


def known(lm: LM, facts: Sequence[Fact]) -> list[Known]:
    """How well the model knows each fact as it is."""
    scores = lm.logprob([fact.text for fact in facts], [target_text(fact, lm) for fact in facts])
    return [(score.total, all(score.argmax)) for score in scores]


def checked(edit: Edit, draft: Draft, made: Made, before: Sequence[Known]) -> Step:
    """The step with its report; what a guard finds stands among the warnings."""
    details = made.details or [{}] * len(draft.facts)
    rows = tuple(
        FactReport(fact, old, new, was, learnt, dict(more), edit.editor.erases)
        for fact, (old, was), (new, learnt), more in zip(
            draft.facts, before, known(edit.lm, draft.facts), details, strict=True
        )
    )
    changes = {name: tuple(change) for name, change in draft.changes.items()}
    warnings = [*made.warnings, *check_learnt(rows), *_sizes(edit, changes)]
    warnings += check_perplexity(edit.lm, edit.editor.guards, edit.memo["perplexity"])
    stored = sum(stored_bytes(change) for row in changes.values() for change in row)
    sites = [] if edit.adaptor is None else [site.name for site in edit.adaptor.sites]
    if sites:
        stored += sum(tensor.nbytes for tensor in made.state.values())
    report = EditReport(
        editor=repr(edit.editor),
        facts=rows,
        chosen={**edit.memo.get("chosen", {}), **made.chosen},
        parameters=(*changes, *sites),
        warnings=tuple(warnings),
        stored_bytes=stored,
    )
    return Step(draft.facts, changes, made.state, report)


def told(edit: Edit, report: EditReport, cost: Cost) -> EditReport:
    """The report with its cost, and with a warning where weights were changed to erase."""
    facts = [row.fact for row in report.facts]
    erased = edit.adaptor is None and (edit.editor.erases or any(map(erases, facts)))
    warnings = (*report.warnings, REVEALS) if erased else report.warnings
    return replace(report, warnings=warnings, seconds=cost.seconds, peak_bytes=cost.peak_bytes)


def _sizes(edit: Edit, names: Iterable[str]) -> list[str]:
    """Changes of matrices that are out of proportion to them."""
    found = []
    for name in names:
        old = edit.value(name)
        if old.dim() < 2:  # biases may be zero, and what would be out of proportion then?
            continue
        touched = edit.touched[name]
        new = touched.view(touched.parameter.detach()).to(old.dtype)
        change, weight = float((new - old).norm()), float(old.norm())
        found += check_size(name, edit.editor.guards, change, weight)
    return found
