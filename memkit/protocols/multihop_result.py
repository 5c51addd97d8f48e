"""What the multi-hop protocol found: what was said of each case, cells, and the table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from memkit.benchmarks.cases import MultihopCase
from memkit.errors import BadInput
from memkit.metrics import contains, exact_match
from memkit.protocols.cells import Cell, aligned, cell_text, heading, mean_cell
from memkit.protocols.editing_probes import first_answer

__all__ = ["Column", "MultihopRecord", "MultihopResult", "Rule", "Said", "Stage", "scored"]

Rule = Literal["exact", "contains"]
Stage = Literal["unedited", "edited", "edited, known"]
Column = Literal["edit-wise", "instance-wise", "multi-hop", "walk", "old answer"]
RULES: tuple[Rule, ...] = get_args(Rule)
STAGES: tuple[Stage, ...] = get_args(Stage)
COLUMNS: tuple[Column, ...] = get_args(Column)


@dataclass(frozen=True, slots=True)
class Said:
    """What a model wrote: to each edit's prompt, each new hop, each wording; and hop by hop.

    `walk` has the texts of the walk's hops; it is shorter than the chain where the answer to a hop
    could not be asked further. `before` are the hops of the old chain, of the unedited model.
    """

    edits: tuple[str, ...]
    hops: tuple[str, ...]
    questions: tuple[str, ...]
    walk: tuple[str, ...]
    before: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MultihopRecord:
    """One case: its group (from 0), what was said before and after, and whether it was known.

    `known` says whether the unedited model answers every hop of the old chain (exact match).
    `rejected` is the message of the guard that refused its group's edits; then `after` is `before`.
    """

    case: MultihopCase
    group: int
    rejected: str | None
    known: bool
    before: Said
    after: Said


@dataclass(frozen=True, slots=True)
class MultihopResult:
    """What `memkit.protocols.multihop` found.

    `cells` are by rule, column and stage; what has no case is absent. `known` and `rejected` count
    cases.
    """

    model: str
    editor: str
    settings: Mapping[str, Any]
    chosen: Mapping[str, str]
    groups: int
    known: int
    rejected: int
    cells: Mapping[Rule, Mapping[Column, Mapping[Stage, Cell]]]
    records: tuple[MultihopRecord, ...]

    def cell(
        self, column: Column = "multi-hop", stage: Stage = "edited", rule: Rule = "exact"
    ) -> Cell:
        """A cell. Raises `BadInput` if there is none."""
        cells = self.cells.get(rule, {}).get(column, {})
        if stage not in cells:
            raise BadInput(
                f"there is no cell {column!r}, {stage!r}, {rule!r}; allowed: columns "
                f"{', '.join(COLUMNS)}, rules {', '.join(RULES)}, and here the stages "
                f"{', '.join(cells) or 'none'}."
            )
        return cells[stage]

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """The table: the unedited model first, 95 % intervals in brackets."""
        counts = (
            f"{len(self.records)} cases in {self.groups} groups, {self.known} known before, "
            f"{self.rejected} refused by a guard; walk: oracle decomposition"
        )
        lines = [*heading(self.editor, self.model, counts, self.settings, self.chosen), ""]
        rows = [["", *COLUMNS]]
        for rule in RULES:
            for stage in STAGES:
                cells = [self.cells[rule][column].get(stage) for column in COLUMNS]
                if any(cells):
                    shown = (cell_text(cell) if cell else "" for cell in cells)
                    rows.append([f"{stage}, {rule}", *shown])
        return "\n".join([*lines, *aligned(rows)])


def scored(
    *,
    model: str,
    editor: str,
    settings: Mapping[str, Any],
    chosen: Mapping[str, str],
    records: tuple[MultihopRecord, ...],
) -> MultihopResult:
    """The result of these records, with all counts and cells."""
    draw = settings["samples"], settings["seed"]
    cells: dict[Rule, dict[Column, dict[Stage, Cell]]] = {}
    for rule in RULES:
        judge = _judge(rule, settings["stop"])
        cells[rule] = {column: {} for column in COLUMNS}
        for stage in STAGES:
            own = [record for record in records if record.known or stage != "edited, known"]
            for column, values in _values(own, stage, judge).items():
                if values:
                    cells[rule][column][stage] = mean_cell(values, *draw)
    return MultihopResult(
        model=model,
        editor=editor,
        settings=settings,
        chosen=chosen,
        groups=len({record.group for record in records}),
        known=sum(record.known for record in records),
        rejected=sum(record.rejected is not None for record in records),
        cells=cells,
        records=records,
    )


Judge = Callable[[str, Sequence[str]], bool]


def _judge(rule: Rule, stop: Sequence[str]) -> Judge:
    def right(text: str, answers: Sequence[str]) -> bool:
        if rule == "contains":
            return bool(contains(text, answers))
        return bool(exact_match(first_answer(text, stop, answers), answers))

    return right


def _values(
    records: Sequence[MultihopRecord], stage: Stage, right: Judge
) -> dict[Column, list[float]]:
    """One value an edit for edit-wise, else one a case."""
    found: dict[Column, list[float]] = {column: [] for column in COLUMNS}
    for record in records:
        case, said = record.case, record.before if stage == "unedited" else record.after
        hops = [hop.answers for hop in case.new_hops]
        targets = [_names(case, place) for place in range(len(case.facts))]
        found["edit-wise"] += [
            float(right(*pair)) for pair in zip(said.edits, targets, strict=True)
        ]
        found["instance-wise"].append(
            float(all(right(*pair) for pair in zip(said.hops, hops, strict=True)))
        )
        new, old = (
            float(any(right(text, answers) for text in said.questions))
            for answers in (case.new_answers, case.answers)
        )
        found["multi-hop"].append(new)
        found["old answer"].append(old)
        whole = len(said.walk) == len(hops)
        found["walk"].append(float(whole and right(said.walk[-1], case.new_answers)))
    return found


def _names(case: MultihopCase, place: int) -> tuple[str, ...]:
    """The accepted names of an edit's target: with the aliases of the new hop that it makes."""
    fact = case.facts[place]
    for hop in case.new_hops:
        if hop.subject == fact.subject and hop.answers[0] == fact.target:
            return hop.answers
    return (fact.target,)
