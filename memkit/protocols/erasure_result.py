"""What the erasure protocol found: one row a model or memory, scores, verdicts, the tables."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memkit.errors import BadInput
from memkit.metrics import Difference, paired_bootstrap
from memkit.protocols.cells import Cell, aligned, cell_text, mean_cell, settings_text
from memkit.protocols.erasure_probes import Answers, Verdict

__all__ = ["TABLES", "ErasureResult", "ErasureRow", "row_cells"]

# Title, and the scores with the names that a table gives them
TABLES: tuple[tuple[str, Mapping[str, str]], ...] = (
    (
        "Truthfulness: more is better",
        {
            "mc1": "MC1",
            "mc2": "MC2",
            "mc3": "MC3",
            "bleu_acc": "BLEU acc",
            "rouge1_acc": "ROUGE-1 acc",
            "judged": "judged true",
        },
    ),
    (
        "Toxicity of what is written: less is better",
        {"toxicity": "mean", "toxic": "share above 0.8", "repetition": "repetition"},
    ),
    (
        "Safe responses (SafeEdit): more is better",
        {
            "ds": "DS",
            "dg_only_q": "DG onlyQ",
            "dg_other_a": "DG otherA",
            "dg_other_q": "DG otherQ",
            "dg_other_aq": "DG otherAQ",
        },
    ),
    (
        "What survives",
        {
            "exact_match": "questions",
            "instructions": "instructions",
            "perplexity": "perplexity",
        },
    ),
    (
        "Facts to be forgotten: share of what was answered before",
        {
            "forgotten": "forgotten",
            "paraphrase_forgotten": "paraphrases",
            "context_forgotten": "in context",
            "indirect_forgotten": "indirect",
            "choice_forgotten": "by choice",
            "relearnt_forgotten": "after lessons",
            "neighbours_kept": "neighbours kept",
            "fluency": "fluency GE",
        },
    ),
)
LOGARITHMIC = "perplexity"  # its scores are nats a token


@dataclass(frozen=True, slots=True)
class ErasureRow:
    """One model: the unedited one, or what an edit, an editor or another model made of it.

    `what` is its representation, `rejected` the messages of guards that refused an edit (the scores
    are then of the model without it), `warnings` those of edits that were kept. `scores` are one
    value a case (NaN where the case has none), `cells` their means with 95 % intervals; those of
    perplexity are nats a token. `verdicts` and `answers` have one entry a fact.
    """

    name: str
    what: str
    scores: Mapping[str, tuple[float, ...]]
    cells: Mapping[str, Cell]
    verdicts: tuple[Verdict, ...] = ()
    answers: tuple[Answers, ...] = ()
    rejected: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ErasureResult:
    """What `memkit.protocols.erasure` found; the first row is the unedited model."""

    model: str
    settings: Mapping[str, Any]
    rows: tuple[ErasureRow, ...]

    def row(self, name: str) -> ErasureRow:
        """The row of this name. Raises `BadInput` if there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        names = ", ".join(repr(row.name) for row in self.rows)
        raise BadInput(f"there is no row {name!r}; allowed: {names}. Name one of these.")

    def cell(self, name: str, score: str) -> Cell:
        """A row's cell. Raises `BadInput` if there is none."""
        row = self.row(name)
        if score not in row.cells:
            raise BadInput(
                f"the row {name!r} has no score {score!r}; allowed: {', '.join(row.cells)}."
            )
        return row.cells[score]

    def difference(self, name: str, score: str, other: str = "unedited") -> Difference:
        """How much more a row has than another, on the cases that both have, paired.

        Of perplexity it is in nats a token.
        """
        pair = [np.array(self.row(n).scores.get(score, ())) for n in (name, other)]
        if not len(pair[0]) == len(pair[1]) > 0:
            raise BadInput(
                f"{score!r} has {len(pair[0])} cases in {name!r} and {len(pair[1])} in {other!r}; "
                "allowed: as many in both, and some. Measure it of both."
            )
        both = ~np.isnan(pair[0]) & ~np.isnan(pair[1])
        return paired_bootstrap(pair[0][both], pair[1][both], seed=self.settings["seed"])

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers; None where a case has no score."""
        values = dataclasses.asdict(self)
        for row in values["rows"]:
            row["scores"] = {
                name: [None if np.isnan(value) else value for value in scores]
                for name, scores in row["scores"].items()
            }
        return values

    def __str__(self) -> str:
        """The tables: the unedited model first, 95 % intervals in brackets."""
        settings = settings_text(self.settings)
        lines = [f"erasure on {self.model}", settings]
        for title, names in TABLES:
            lines += self._table(title, names)
        lines += self._verdicts()
        told: dict[str, list[str]] = {}
        for row in self.rows:
            for message in row.warnings[:1]:
                told.setdefault(message, []).append(row.name)
            lines += [f"{row.name}: rejected: {message}" for message in row.rejected[:1]]
        lines += [f"{', '.join(names)}: warning: {message}" for message, names in told.items()]
        return "\n".join(lines)

    def _table(self, title: str, names: Mapping[str, str]) -> list[str]:
        """One table; scores that no row has are left out, and a table without any."""
        kept = [n for n in names if any(n in row.cells for row in self.rows)]
        if not kept:
            return []
        counts = [max(_cases(row.scores.get(n, ())) for row in self.rows) for n in kept]
        made = [["", *(names[n] for n in kept)], ["cases", *(f"{c:,}" for c in counts)]]
        for row in self.rows:
            shown = [_shown(row.cells[n], n) if n in row.cells else "" for n in kept]
            made.append([row.name, *shown])
        return ["", title, *aligned(made)]

    def _verdicts(self) -> list[str]:
        rows = [row for row in self.rows[1:] if row.verdicts]
        if not rows:
            return []
        kinds: tuple[Verdict, ...] = ("erased", "suppressed", "kept", "not known")
        made: list[list[str]] = [["", *kinds]]
        for row in rows:
            counts = Counter(row.verdicts)
            made.append([row.name, *(str(counts[kind]) for kind in kinds)])
        title = "Facts; suppressed: the own prompt no longer has the answer, another way still does"
        return ["", title, *aligned(made)]


def row_cells(scores: Mapping[str, Sequence[float]], samples: int, seed: int) -> dict[str, Cell]:
    """The mean of each score over the cases that have it; none where no case has."""
    cells = {}
    for name, values in scores.items():
        there = [value for value in values if not np.isnan(value)]
        if there:
            kind = "nll" if name == LOGARITHMIC else name
            cells[name] = mean_cell(there, samples, seed, kind)
    return cells


def _shown(cell: Cell, name: str) -> str:
    if name == LOGARITHMIC:
        mean, low, high = (float(np.exp(min(x, 700.0))) for x in dataclasses.astuple(cell))
        return cell_text(Cell(mean, low, high), ".4g", ".3g")
    return cell_text(cell)


def _cases(values: Sequence[float]) -> int:
    return sum(not np.isnan(value) for value in values)
