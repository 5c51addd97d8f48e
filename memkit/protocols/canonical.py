"""Model editing with canonical examples (Hewitt et al. 2024, arXiv:2402.06155).

A model learns from simple statements ("The capital of Mauritius is Port Louis"), and is asked for
the same in natural text. It may lose next to nothing elsewhere: of an editor's rounds (one writes
all examples once) the last one counts whose loss on general texts is at most (1 + d) times that of
the unedited model, for bounds d; where none is, the unedited model does.

    success     share of the evaluation's examples whose loss is within the task's bound, see
                `memkit.benchmarks.canonical_examples`
    general     nats a token of `texts`, such as ME-PPL's; the paper takes OpenWebText
    rest        nats a token of texts in which the examples' subjects occur
    hard        of hard negatives: mean nats of a suffix, or nats a token where they are texts

In the row "in the prompt" the examples whose subject the prefix names stand before it, and the
weights are as they were: it keeps every bound, and the other losses are the unedited model's.

Departure: the paper draws 25 settings at random, takes the best on val, and scores it with other
seeds on test; here an editor has the settings that it is given. Intervals (95 %) are by resampling
examples; differences are to the unedited model on the same ones.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from memkit.benchmarks.canonical_examples import CanonicalTask, Continuation
from memkit.benchmarks.cases import stated
from memkit.errors import BadInput, EditRejected
from memkit.lm.checks import check_count, check_texts
from memkit.mentions import Mentions
from memkit.metrics import paired_bootstrap
from memkit.progress import track
from memkit.protocols.cells import Cell, aligned, cell_text, mean_cell, settings_text
from memkit.types import Passage

if TYPE_CHECKING:
    from memkit.editors.base import Editor
    from memkit.lm.model import LM

__all__ = ["BOUNDS", "CanonicalResult", "CanonicalRow", "Seen", "canonical"]

BOUNDS = (1e-3, 1e-4, 1e-5)
UNEDITED, PROMPT = "unedited", "in the prompt"


@dataclass(frozen=True, slots=True)
class Seen:
    """A model at one point: the losses of the evaluation's examples, and losses elsewhere."""

    losses: tuple[float, ...]
    general: float
    rest: float | None
    hard: float | None


@dataclass(frozen=True, slots=True)
class CanonicalRow:
    """An editor's rounds, the unedited model first; `rejected` is why they ended early."""

    name: str
    method: str
    rounds: tuple[Seen, ...]
    rejected: str | None = None

    def within(self, bound: float) -> int:
        """The last round whose general loss is within the bound; 0 is the unedited model."""
        most = self.rounds[0].general * (1 + bound)
        return max(n for n, seen in enumerate(self.rounds) if n == 0 or seen.general <= most)


@dataclass(frozen=True, slots=True)
class CanonicalResult:
    """What `memkit.protocols.canonical` found, the unedited model's row first."""

    model: str
    task: CanonicalTask
    settings: Mapping[str, Any]
    rows: Mapping[str, CanonicalRow]

    def success(self, name: str, bound: float) -> Cell:
        """The share that succeeds after the round that a bound allows. Raises `BadInput`."""
        return mean_cell(self._succeeded(name, bound), *self._draw())

    def difference(self, name: str, bound: float) -> Cell:
        """That share less the unedited model's, on the same examples. Raises `BadInput`."""
        pair = self._succeeded(name, bound), self._succeeded(UNEDITED, bound)
        found = paired_bootstrap(*pair, resamples=self.settings["samples"], seed=self._draw()[1])
        return Cell(found.value, found.low, found.high)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """A row a method: success by bound with the round that counts, gains, losses elsewhere."""
        bounds = self.settings["bounds"]
        lines = [
            self.model,
            f"{self.task.name}: {len(self.task.facts)} examples, {len(self.task.evaluation)} to "
            f"evaluate on, {len(self.task.hard)} hard negatives; {settings_text(self.settings)}",
        ]
        success = [["success, @ round", *(f"{bound:g}" for bound in bounds)]]
        gains = [["gain", *(f"{bound:g}" for bound in bounds)]]
        losses = [["after the last round", "general", "rest", "hard"]]
        for name, row in self.rows.items():
            cells = [cell_text(self.success(name, bound)) for bound in bounds]
            rounds = [f" @ {row.within(bound)}" if name != UNEDITED else "" for bound in bounds]
            success.append([name, *map("".join, zip(cells, rounds, strict=True))])
            if name != UNEDITED:
                own = (self.difference(name, bound) for bound in bounds)
                gains.append([name, *(cell_text(cell, "+.3f", "+.2f") for cell in own)])
            last = row.rounds[-1]
            shown = (last.general, last.rest, last.hard)
            losses.append([name, *("" if x is None else f"{x:.4f}" for x in shown)])
        for table in (success, gains, losses):
            lines += ["", *aligned(table)]
        refused = [
            f"{name}: refused by a guard in round {len(row.rounds)}: {row.rejected}"
            for name, row in self.rows.items()
            if row.rejected
        ]
        return "\n".join([*lines, *refused])

    def _succeeded(self, name: str, bound: float) -> list[float]:
        if name not in self.rows or bound not in self.settings["bounds"]:
            raise BadInput(
                f"there is no {name!r} with the bound {bound!r}; allowed: {', '.join(self.rows)}, "
                f"with {', '.join(map(str, self.settings['bounds']))}. Choose one of each."
            )
        row = self.rows[name]
        return [float(x <= self.task.bound) for x in row.rounds[row.within(bound)].losses]

    def _draw(self) -> tuple[int, int]:
        return self.settings["samples"], self.settings["seed"]


def canonical(
    lm: LM,
    editors: Editor | Mapping[str, Editor],
    task: CanonicalTask,
    texts: Sequence[str | Passage],
    *,
    rounds: int = 1,
    bounds: Sequence[float] = BOUNDS,
    samples: int = 1000,
    seed: int = 0,
    batch_size: int = 32,
) -> CanonicalResult:
    """Learn from a task's examples, as the module says; the model is afterwards as it was.

    `texts` are general ones. An editor writes all examples `rounds` times on one handle, so that a
    `FineTune` of one epoch is looked at after each epoch, as in the paper.

    Raises `BadInput` for a task without examples that an editor can write, no texts, a bound below
    0, or an editor under the name of another row; what `Editor.apply` raises but `EditRejected`,
    which ends the editor's rounds; as `LM.logprob` for what does not fit into the window, and as
    `LM.perplexity` for a model that is no decoder.
    """
    for name, count in {"rounds": rounds, "samples": samples, "batch_size": batch_size}.items():
        check_count(name, count)
    plain = [text.text if isinstance(text, Passage) else text for text in texts]
    check_texts("texts", plain)
    named = dict(editors) if isinstance(editors, Mapping) else {type(editors).__name__: editors}
    _check(task, plain, bounds, named)
    look = _Look(lm, task, plain, batch_size)
    base = look.seen()
    rows = {UNEDITED: CanonicalRow(UNEDITED, UNEDITED, (base,))}
    for name, editor in named.items():
        rows[name] = _written(look, name, editor, base, rounds)
    told = dataclasses.replace(base, losses=look.losses(_prompted(task)))
    rows[PROMPT] = CanonicalRow(PROMPT, PROMPT, (base, told))
    settings = {"rounds": rounds, "bounds": tuple(bounds), "samples": samples, "seed": seed}
    return CanonicalResult(repr(lm), task, settings, rows)


@dataclass(frozen=True, slots=True)
class _Look:
    """How a model is looked at."""

    lm: LM
    task: CanonicalTask
    texts: Sequence[str]
    batch_size: int

    def seen(self) -> Seen:
        return Seen(
            losses=self.losses(self.task.evaluation),
            general=self._per_token(self.texts),
            rest=self._per_token(self.task.rest) if self.task.rest else None,
            hard=self._hard() if self.task.hard else None,
        )

    def losses(self, asked: Sequence[Continuation]) -> tuple[float, ...]:
        """The loss of each continuation by the task's rule."""
        own = self._totals([(one.prefix, one.suffix) for one in asked])
        others = self._totals([(c.prefix, c.other) for c in asked if c.other is not None])
        return tuple(map(self.task.loss, own, others or [0.0] * len(own)))

    def _hard(self) -> float:
        hard = [one for one in self.task.hard if isinstance(one, Continuation)]
        if len(hard) < len(self.task.hard):
            return self._per_token([text for text in self.task.hard if isinstance(text, str)])
        return float(-np.mean(self._totals([(one.prefix, one.suffix) for one in hard])))

    def _totals(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        prefixes, suffixes = [a for a, _ in pairs], [b for _, b in pairs]
        return [x.total for x in self.lm.logprob(prefixes, suffixes, self.batch_size)]

    def _per_token(self, texts: Sequence[str]) -> float:
        return math.log(self.lm.perplexity(texts, self.batch_size))


def _written(look: _Look, name: str, editor: Editor, base: Seen, rounds: int) -> CanonicalRow:
    """The rounds of an editor, on one handle that is then rolled back."""
    from memkit.editors.base import Edit  # loads torch

    edit, seen, rejected = Edit(editor, look.lm), [base], None
    try:
        for _ in track(range(rounds), name):
            try:
                edit.add(look.task.facts)
            except EditRejected as error:
                rejected = str(error)
                break
            seen.append(look.seen())
    finally:
        edit.rollback()
    return CanonicalRow(name, repr(edit.editor), tuple(seen), rejected)


def _prompted(task: CanonicalTask) -> list[Continuation]:
    """The evaluation with the examples before it whose subject it names."""
    statements: dict[str, list[str]] = {}
    for fact in task.facts:
        statements.setdefault(fact.subject, []).append(stated(fact))
    find = Mentions(statements).find
    made = []
    for one in task.evaluation:
        named = dict.fromkeys(mention.name for mention in find(one.prefix))
        told = [text for subject in named for text in statements[subject]]
        made.append(dataclasses.replace(one, prefix=" ".join((*told, one.prefix))))
    return made


def _check(
    task: CanonicalTask,
    texts: Sequence[str],
    bounds: Sequence[float],
    editors: Mapping[str, Editor],
) -> None:
    """Raise `BadInput` for what cannot be scored."""
    if not task.facts or not texts:
        raise BadInput(
            f"the task {task.name!r} has {len(task.facts)} facts, and there are {len(texts)} "
            "texts; allowed: at least one of each. A balanced task has no facts: make some of its "
            "examples, and load general texts."
        )
    if not bounds or not all(bound >= 0 for bound in bounds):
        raise BadInput(f"bounds is {tuple(bounds)!r}; allowed: numbers of 0 or more. Choose some.")
    for name in (UNEDITED, PROMPT):
        if name in editors:
            raise BadInput(
                f"an editor is named {name!r}, as another row; allowed: other names. Rename it."
            )
