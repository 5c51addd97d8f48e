"""Does a definition help where its words come again? The analysis of Onoe et al. (ACL 2023).

For each probe of `memkit.protocols.entities` how like the definition and the probe are, its gold
span filled in, against what a method gained on it; Pearson's r over probes. Where an editor's r is
high and that of the definition in the prompt is not, the editor has stored words rather than what
follows from them: the paper's finding.

    gain        P(gold) after less before; without candidates, nats a token before less after (the
                paper's code takes the perplexity after less before, so that its signs are reversed)
    bleu        BLEU-4 / 100 of the definition against the probe, case counts, no smoothing, as in
                the paper's code: 0 unless four words in a row come again
    rouge1, rouge2, rougeL    recall of the probe's n-grams, or of its longest common subsequence
    cosine      of sentence vectors, if an encoder is given

BERTScore, BLEURT and METEOR, which the paper has too, need models or word lists of their own; the
cosine stands for them. Intervals (95 %) are by resampling entities.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput
from memkit.lm.checks import check_count
from memkit.protocols.cells import Cell, aligned, cell_text
from memkit.protocols.entities_result import BASE, EntitiesResult
from memkit.protocols.unstructured import similarities

if TYPE_CHECKING:
    from memkit.retrieval.encoders import Encoder

__all__ = ["OverlapResult", "overlap"]

ROUGE = ("rouge1", "rouge2", "rougeL")
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OverlapResult:
    """What `memkit.protocols.overlap` found.

    `correlations` are Pearson's r by method and measure; one is absent where a measure, or all
    gains, are the same for all probes. `measures` has a value a probe, `gains` one a probe and
    method.
    """

    settings: Mapping[str, Any]
    correlations: Mapping[str, Mapping[str, Cell]]
    measures: Mapping[str, tuple[float, ...]]
    gains: Mapping[str, tuple[float, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """A row a method, 95 % intervals in brackets."""
        rows = [["r of the gain with", *self.measures]]
        for name, cells in self.correlations.items():
            shown = (cells.get(measure) for measure in self.measures)
            rows.append([name, *(cell_text(c, "+.2f", "+.2f") if c else "-" for c in shown)])
        return "\n".join(aligned(rows))


def overlap(
    result: EntitiesResult,
    *,
    encoder: Encoder | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> OverlapResult:
    """Correlate the gains of all methods of a result with overlap, as the module says.

    Raises `BadInput` for a result of fewer than two entities or without a method;
    `MissingDependency` without rouge-score or sacrebleu (extra `scores`).
    """
    check_count("samples", samples)
    entities = list(dict.fromkeys(probe.entity for probe in result.probes))
    methods = [name for name in result.rows if name != BASE]
    if len(entities) < 2 or not methods:
        raise BadInput(
            f"the result has {len(entities)} entities and {len(methods)} methods; allowed: 2 or "
            "more, and at least one, for a correlation. Ask more probes."
        )
    measures = _measures(result, encoder)
    gains = {name: _gains(result, name) for name in methods}
    index = {entity: i for i, entity in enumerate(entities)}
    groups = np.array([index[probe.entity] for probe in result.probes])
    shares = [1 / len(entities)] * len(entities)
    counts = np.random.default_rng(seed).multinomial(len(entities), shares, size=samples)
    drawn = counts.astype(float)[:, groups]
    cells: dict[str, dict[str, Cell]] = {}
    for name, gain in gains.items():
        found = {measure: _correlation(row, gain, drawn) for measure, row in measures.items()}
        cells[name] = {measure: cell for measure, cell in found.items() if cell is not None}
    return OverlapResult(
        settings={"samples": samples, "seed": seed},
        correlations=cells,
        measures={name: tuple(row.tolist()) for name, row in measures.items()},
        gains={name: tuple(row.tolist()) for name, row in gains.items()},
    )


def _measures(result: EntitiesResult, encoder: Encoder | None) -> dict[str, Floats]:
    """How like each definition and its probe are, by measure."""
    similar = similarities(encoder)
    from sacrebleu.metrics import BLEU

    bleu = BLEU(smooth_method="none", effective_order=False)
    rows = []
    for probe in result.probes:
        told, text = probe.definition.text, probe.cloze.text
        found = similar(told, text)
        own = {"bleu": float(bleu.corpus_score([told], [[text]]).score) / 100}
        own |= {name: found.get(name, 0.0) for name in ROUGE}
        rows.append(own | ({"cosine": found["cosine"]} if encoder is not None else {}))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _gains(result: EntitiesResult, name: str) -> Floats:
    row = result.rows[name].row
    views = zip(row.before, row.after, strict=True)
    if result.probes[0].candidates:
        return np.array([(a.probability or 0.0) - (b.probability or 0.0) for b, a in views])
    return np.array([before.nll - after.nll for before, after in views])


def _correlation(x: Floats, y: Floats, drawn: Floats) -> Cell | None:
    """Pearson's r, and its interval from how often each probe was drawn [resamples, probes]."""
    whole = _pearson(x, y, np.ones((1, len(x))))[0]
    if np.isnan(whole):
        return None
    found = _pearson(x, y, drawn)
    low, high = np.quantile(found[~np.isnan(found)], [0.025, 0.975])
    return Cell(float(whole), float(low), float(high))


def _pearson(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Pearson's r with weights [n, cases]; NaN where x or y does not vary."""
    total = weights.sum(axis=1)
    mean_x, mean_y = weights @ x / total, weights @ y / total
    xx = weights @ (x * x) / total - mean_x**2
    yy = weights @ (y * y) / total - mean_y**2
    xy = weights @ (x * y) / total - mean_x * mean_y
    flat = (xx <= 1e-12 * (1 + mean_x**2)) | (yy <= 1e-12 * (1 + mean_y**2))
    r = xy / np.sqrt(np.where(flat, 1.0, xx * yy))
    return np.where(flat, np.nan, r.clip(-1, 1))
