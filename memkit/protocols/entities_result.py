"""What the protocol of entities found: rows with their intervals, and the tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from memkit.benchmarks.probes import EntityProbe
from memkit.errors import BadInput
from memkit.metrics import bootstrap_means, wilson_interval
from memkit.protocols.cells import EMPTY, Cell, aligned, cell_text, settings_text
from memkit.protocols.entities_spans import View

__all__ = [
    "ALL",
    "BASE",
    "Aside",
    "EntitiesResult",
    "Row",
    "Summary",
    "cells_of",
    "perplexity",
    "share",
    "summarised",
]

Floats = npt.NDArray[np.float64]
BASE = "base"
NOISE = 1e-6  # of a probability: what another batch may change it by
ALL = "all"  # the kind that stands for all kinds


@dataclass(frozen=True, slots=True)
class Aside:
    """What a method did to probes that it is not about, before and after.

    The mean over them of right (1) or wrong (0), or of nats a token where they have no candidates.
    `kind` is None for popular ones.
    """

    entity: str
    kind: str | None
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Row:
    """One method on all probes, in their order.

    `method` is the editor's representation with what was chosen filled in, `chosen` says why.
    `aside` and `known` are for specificity and for the popular probes, `tokens` the length of each
    prompt, `milliseconds` the mean time in which a probe was looked up and scored, `seconds` those
    of each edit, `rejected` the messages of guards by the fact's text.
    """

    name: str
    method: str
    before: tuple[View, ...]
    after: tuple[View, ...]
    aside: tuple[Aside, ...]
    known: tuple[Aside, ...]
    tokens: tuple[int, ...]
    milliseconds: float
    seconds: tuple[float, ...] = ()
    rejected: Mapping[str, str] = field(default_factory=dict)
    chosen: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Summary:
    """A row, and its cells by kind of probe ("all" for all of them) and score.

    accuracy, accuracy_difference, gain, improved; or perplexity, perplexity_difference, macro,
    macro_difference; specificity, specificity_difference, and of "all" popular,
    popular_difference. A score without a case is absent.
    """

    row: Row
    cells: Mapping[str, Mapping[str, Cell]]


@dataclass(frozen=True, slots=True)
class EntitiesResult:
    """What `memkit.protocols.entities` found, a summary a method, the unedited model first."""

    model: str
    settings: Mapping[str, Any]
    probes: tuple[EntityProbe, ...]
    popular: int
    rows: Mapping[str, Summary]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The probes' kinds, in the order in which they come; "all" where there is one or none."""
        kinds = tuple(dict.fromkeys(str(probe.kind) for probe in self.probes))
        return kinds if len(kinds) > 1 else (ALL,)

    def cell(self, method: str, score: str, kind: str = ALL) -> Cell:
        """A method's cell. Raises `BadInput` if there is none."""
        cells = self.rows[method].cells.get(kind, {}) if method in self.rows else {}
        if score not in cells:
            raise BadInput(
                f"there is no score {score!r} of {method!r} for the kind {kind!r}; allowed: "
                f"methods {', '.join(self.rows)}; kinds {', '.join((ALL, *self.kinds))}; of these "
                f"the scores {', '.join(cells) or 'none'}."
            )
        return cells[score]

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return dataclasses.asdict(self)

    def table(self) -> list[list[str]]:
        """Header and a row a method, in the paper's layout: target (difference), specificity.

        Shares in per cent; 95 % intervals of the differences in brackets. "s / edit" are seconds,
        "tok." the prompt's mean length in tokens, "ms" the mean time of a probe.
        """
        main = "accuracy" if self.probes[0].candidates else "perplexity"
        columns = [(f"{kind} {main}" if kind != ALL else main, main, kind) for kind in self.kinds]
        if main == "perplexity":
            columns.append(("macro", "macro", ALL))
        columns += [("specificity", "specificity", ALL), ("popular", "popular", ALL)]
        found = [
            c for c in columns if any(c[1] in s.cells.get(c[2], {}) for s in self.rows.values())
        ]
        header = ["", *(title for title, _, _ in found), "s / edit", "tok.", "ms"]
        rows = []
        for name, summary in self.rows.items():
            row = summary.row
            cells = [
                self._shown(summary.cells.get(kind, {}), score, name) for _, score, kind in found
            ]
            seconds = f"{np.mean(row.seconds):.2f}" if row.seconds else ""
            rows.append(
                [name, *cells, seconds, f"{np.mean(row.tokens):.0f}", f"{row.milliseconds:.1f}"]
            )
        return [header, *rows]

    def __str__(self) -> str:
        """The table, with counts, settings, gains, and what was chosen and refused."""
        entities = len({probe.entity for probe in self.probes})
        counts = ", ".join(
            f"{sum(str(p.kind) == kind for p in self.probes)} {kind}"
            for kind in self.kinds
            if kind != ALL
        )
        settings = settings_text(self.settings)
        lines = [
            f"{self.model}",
            f"{len(self.probes)} probes of {entities} entities{f' ({counts})' if counts else ''}, "
            f"{self.popular} popular ones; {settings}",
            "",
            *aligned(self.table()),
        ]
        gains = [["P(gold)", *(f"{kind} gain" for kind in self.kinds), "improved"]]
        for name, summary in self.rows.items():
            if name != BASE and "gain" in summary.cells[ALL]:
                own = [summary.cells[kind]["gain"] for kind in self.kinds]
                shown = [cell_text(cell, "+.3f", "+.2f") for cell in own]
                gains.append([name, *shown, cell_text(summary.cells[ALL]["improved"])])
        lines += ["", *aligned(gains)] if len(gains) > 1 else []
        for name, summary in self.rows.items():
            row = summary.row
            lines += [f"{name}: {key} = {why}" for key, why in row.chosen.items()]
            if row.rejected:
                first = next(iter(row.rejected.values()))
                lines.append(
                    f"{name}: {len(row.rejected)} edits refused by a guard; first: {first}"
                )
        return "\n".join(lines)

    def _shown(self, cells: Mapping[str, Cell], score: str, name: str) -> str:
        """Mean, and in brackets the difference to the unedited model with its interval."""
        if score not in cells:
            return ""
        scale, form = (100, ".1f") if self.probes[0].candidates else (1, ".4g")
        text = f"{scale * cells[score].mean:{form}}"
        if name == BASE:
            return text
        d = cells[f"{score}_difference"]
        mean, low, high = (f"{scale * x:+{form}}" for x in (d.mean, d.low, d.high))
        return f"{text} ({mean} [{low}, {high}])"


def summarised(row: Row, probes: Sequence[EntityProbe], samples: int, seed: int) -> Summary:
    """The row with its cells."""
    kinds: dict[str, list[int]] = {ALL: list(range(len(probes)))}
    for i, probe in enumerate(probes):
        kinds.setdefault(str(probe.kind), []).append(i)
    cells: dict[str, dict[str, Cell]] = {}
    for kind, rows in kinds.items():
        entities = [probes[i].entity for i in rows]
        pairs = [(row.before[i], row.after[i]) for i in rows]
        own = _choices if probes[0].candidates else _perplexities
        cells[kind] = own(pairs, entities, samples, seed)
        aside = [a for a in row.aside if kind in (ALL, str(a.kind))]
        score = share if probes[0].candidates else perplexity
        cells[kind] |= _asides("specificity", aside, score, samples, seed)
    cells[ALL] |= _asides("popular", row.known, score, samples, seed)
    return Summary(row, cells)


Score = Callable[[Floats], Any]  # from means [..., 2], before and after, to [...]


def share(means: Floats) -> Any:
    """The mean itself."""
    return means[..., 1]


def perplexity(means: Floats) -> Any:
    """exp of nats a token; infinite beyond what a number holds."""
    with np.errstate(over="ignore"):
        return np.exp(means[..., 1])


def _choices(
    pairs: Sequence[tuple[View, View]], entities: Sequence[str], samples: int, seed: int
) -> dict[str, Cell]:
    """Accuracy, its difference, the gain in P(gold), and the share of probes that gained."""
    right = np.array([[float(bool(view.right)) for view in pair] for pair in pairs])
    p = np.array([[view.probability or 0.0 for view in pair] for pair in pairs])
    gain = p[:, 1] - p[:, 0]
    rest = {"gain": gain, "improved": (gain > NOISE).astype(float)}
    cells = cells_of("accuracy", right, entities, share, samples, seed)
    for name, values in rest.items():
        columns = np.column_stack([p[:, 0], values])
        cells[name] = cells_of(name, columns, entities, share, samples, seed)[name]
    return cells


def _perplexities(
    pairs: Sequence[tuple[View, View]], entities: Sequence[str], samples: int, seed: int
) -> dict[str, Cell]:
    """Perplexity over probes and, as "macro", over entities, with their differences."""
    nll = np.array([[view.nll for view in pair] for pair in pairs])
    names = list(dict.fromkeys(entities))
    where = np.array([names.index(entity) for entity in entities])
    means = np.array([nll[where == i].mean(axis=0) for i in range(len(names))])
    return {
        **cells_of("perplexity", nll, entities, perplexity, samples, seed),
        **cells_of("macro", means, names, perplexity, samples, seed),
    }


def _asides(
    name: str, rows: Sequence[Aside], score: Score, samples: int, seed: int
) -> dict[str, Cell]:
    if not rows:
        return {}
    values = np.array([[row.before, row.after] for row in rows])
    return cells_of(name, values, [row.entity for row in rows], score, samples, seed)


def cells_of(
    name: str,
    values: Floats,
    groups: Sequence[Hashable],
    score: Score,
    samples: int,
    seed: int,
) -> dict[str, Cell]:
    """A score of the means of [cases, (before, after)], and its difference, by resampling groups.

    Where all resamples agree a share's interval is Wilson's over groups, as in `editing`.
    """
    index = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(index), 3))
    for group, (before, after) in zip(groups, values, strict=True):
        sums[index[group]] += (before, after, 1)
    drawn = bootstrap_means(sums, resamples=samples, seed=seed)
    drawn = drawn[:, :2] / drawn[:, 2:]
    means = values.mean(axis=0)
    cell = _interval(float(score(means)), score(drawn))
    if score is share and name != "gain" and cell.high - cell.low < EMPTY:
        cell = Cell(cell.mean, *wilson_interval(values[:, 1].clip(0, 1), groups))
    gap = score(means) - score(means[::-1])
    return {name: cell, f"{name}_difference": _interval(gap, score(drawn) - score(drawn[:, ::-1]))}


def _interval(mean: float, drawn: Floats) -> Cell:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Cell(float(mean), float(low), float(high))
