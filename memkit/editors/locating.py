"""Causal tracing (Meng, Bau, Andonian and Belinkov, NeurIPS 2022, arXiv:2202.05262, section 2.1).

Where does a model keep what it says of a subject? Three runs of a fact's prompt, of which each
gives the probability p of the target:

    clean       as it is
    corrupted   noise is added to the input embeddings of the subject's tokens; p falls
    restored    corrupted, but one state gets back its clean value; does p come back?

    total effect       TE = p(clean) - p(corrupted)
    indirect effect    IE(state) = p(restored) - p(corrupted)

States are, at one token and layer, the residual stream after the layer ("stream"), or the outputs
of the MLPs ("mlp") or of attention ("attention") in a window of layers around it. Means over facts
are the averaged effects, ATE and AIE. p is that of the target's first token, or with `whole` of all
its tokens, by teacher forcing.

Noise is Gaussian, of `noise` times the standard deviation of the embeddings of all subject tokens
that were given. p is a mean over `samples` draws, which are the same for all states of a fact.

Departures from the published code (kmeng01/rome): a fact counts as known if the model says the
whole target; draws differ from fact to fact; middle and further tokens are averaged within a fact
first, so that facts weigh the same; tokens before the subject are left out, since no effect can
be there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from memkit.editors.tokens import check_facts, row, target_ids, target_text
from memkit.editors.tracing import (
    KINDS,
    LAST_SUBJECT,
    POSITIONS,
    ROWS,
    Kind,
    Runs,
    deviation,
    draw,
)
from memkit.editors.tracing_views import draw_maps, text
from memkit.errors import BadInput, UnsupportedModel
from memkit.lm.batching import batches
from memkit.lm.checks import check_count
from memkit.lm.evaluation import evaluating
from memkit.metrics import bootstrap_means
from memkit.progress import track
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["Traced", "locate"]

Floats = npt.NDArray[np.float64]

SHARE = 10 / 48  # of the layers: the paper's window on GPT-2 XL
TOKENS = 4  # a fact has more from its subject on; so many fill a batch of restored runs


def locate(
    lm: LM,
    facts: Sequence[Fact],
    *,
    kinds: Sequence[Kind] = KINDS,
    window: int | None = None,
    noise: float = 3.0,
    samples: int = 10,
    seed: int = 0,
    whole: bool = False,
) -> Traced:
    """Find the layers that matter for what a decoder says of the facts' subjects.

    Only what the model knows can be traced: a fact is skipped unless greedy decoding says its
    target. `window` is the number of layers in which MLP or attention outputs are restored
    together; None takes the paper's share of the layers, 10 of 48, at least one. The other
    parameters are explained in the module's docstring. The model and its random state are only
    read; a seed gives the same result again.

    Raises `UnsupportedModel` if the model is no decoder; `BadInput` if there are no facts or none
    that the model knows, if facts contradict each other or do not fit into the model's window, or
    if a parameter is out of range.
    """
    _check(lm, kinds, window, noise, samples)
    facts = check_facts(lm, facts)
    started = time.perf_counter()
    scores = lm.logprob([f.text for f in facts], [target_text(f, lm) for f in facts])
    said = [(fact, all(score.argmax)) for fact, score in zip(facts, scores, strict=True)]
    known = [fact for fact, right in said if right]
    if not known:
        raise BadInput(_unknown(lm, facts))
    spread = deviation(lm, [row(lm, fact) for fact in facts])
    rows = [row(lm, fact, target=target_ids(fact, lm)[: None if whole else 1]) for fact in known]
    depth = len(lm.layout.layers(lm.model))
    window = window or max(1, round(SHARE * depth))
    clean, corrupted = np.zeros(len(known)), np.zeros(len(known))
    effects = {kind: np.zeros((len(known), depth, len(POSITIONS))) for kind in kinds}
    size = max(1, ROWS // (TOKENS * samples))
    for some in track(list(batches([len(r.ids) for r in rows], size)), "tracing"):
        drawn = [
            draw(lm, known[i], rows[i].subject - rows[i].first + 1, samples, seed) for i in some
        ]
        with evaluating(lm.model):
            runs = Runs(lm, [rows[i] for i in some], [noise * spread * one for one in drawn])
            for kind, found in effects.items():
                found[some] = runs.effects(kind, 1 if kind == "stream" else window)
        clean[some] = runs.clean.cpu()
        corrupted[some] = runs.corrupted.mean(dim=1).cpu()
    return Traced(
        facts=tuple(known),
        skipped=tuple(fact for fact, right in said if not right),
        clean=clean,
        corrupted=corrupted,
        effects=effects,
        window=window,
        noise=noise,
        deviation=spread,
        samples=samples,
        seed=seed,
        whole=whole,
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, eq=False)
class Traced:
    """What causal tracing found; the terms are those of the module's docstring.

    `facts` were traced, `skipped` are not known to the model. `clean` and `corrupted` [facts] are
    probabilities of the target. `effects` maps a kind to indirect effects [facts, layers,
    positions], NaN where a fact has no token at a position of `positions`. A subject of one token
    is its own first and last; the token after it, or its own last, can be the prompt's last too.
    `deviation` is that of the embeddings: the noise was `noise` times as large.
    """

    facts: tuple[Fact, ...]
    skipped: tuple[Fact, ...]
    clean: Floats
    corrupted: Floats
    effects: Mapping[Kind, Floats]
    window: int
    noise: float
    deviation: float
    samples: int
    seed: int
    whole: bool
    seconds: float
    positions: tuple[str, ...] = POSITIONS

    @property
    def total(self) -> float:
        """The averaged total effect: how much the noise lowers the target's probability."""
        return float((self.clean - self.corrupted).mean())

    @property
    def probabilities(self) -> dict[str, tuple[float, float, float]]:
        """Means with their 95 % intervals: "clean", "corrupted" and "total effect"."""
        columns = np.stack([self.clean, self.corrupted, self.clean - self.corrupted], axis=1)
        low, high = _bounds(columns)
        rows = np.stack([columns.mean(axis=0), low, high], axis=1).tolist()
        names = ("clean", "corrupted", "total effect")
        return {name: (mean, a, b) for name, (mean, a, b) in zip(names, rows, strict=True)}

    @property
    def counts(self) -> list[int]:
        """How many facts have a token at each of `positions`."""
        effects = next(iter(self.effects.values()))
        return [int(count) for count in (~np.isnan(effects[:, 0])).sum(axis=0)]

    def average(self, kind: Kind = "mlp") -> Floats:
        """AIE [layers, positions] of a kind; NaN where no fact has such a token."""
        effects = self._of(kind)
        with np.errstate(invalid="ignore"):
            mean: Floats = np.nansum(effects, axis=0) / (~np.isnan(effects)).sum(axis=0)
        return mean

    def interval(self, kind: Kind = "mlp") -> tuple[Floats, Floats]:
        """Bounds of the 95 % intervals of `average`, by resampling facts."""
        effects = self._of(kind)
        low, high = _bounds(effects.reshape(len(effects), -1))
        return low.reshape(effects.shape[1:]), high.reshape(effects.shape[1:])

    def best(self, kind: Kind = "mlp") -> int:
        """The layer with the largest AIE at the last subject token, of equals the lowest.

        For "mlp" it is where ROME edits. With a window it is the window's middle.
        """
        return int(self.average(kind)[:, LAST_SUBJECT].argmax())

    def support(self, kind: Kind = "mlp") -> float:
        """The share of 1,000 resamples of the facts in which `best` is the same layer."""
        drawn = bootstrap_means(self._of(kind)[:, :, LAST_SUBJECT])
        return float((drawn.argmax(axis=1) == self.best(kind)).mean())

    def __str__(self) -> str:
        """Effects by layer at the last subject token, the largest by position, and the layer."""
        return text(self)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw AIE by position and layer, a heat map for each kind, as a PNG or SVG file.

        Each map has its own scale, from 0 on; grey is where no fact has a token. A frame marks the
        best layer at the last subject token.

        Raises `BadInput` if the path ends in neither .png nor .svg.
        """
        draw_maps(self, Path(path))

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers; None where no fact has a token."""
        kinds = {}
        for kind in self.effects:
            low, high = map(_plain, self.interval(kind))
            best = {"best": self.best(kind), "support": self.support(kind)}
            kinds[kind] = {"average": _plain(self.average(kind)), "low": low, "high": high, **best}
        names = "window noise deviation samples seed whole seconds total probabilities counts"
        ends = zip(self.facts, self.clean.tolist(), self.corrupted.tolist(), strict=True)
        return {
            **{name: getattr(self, name) for name in names.split()},
            "positions": list(self.positions),
            "kinds": kinds,
            "facts": [{**_named(f), "clean": p, "corrupted": q} for f, p, q in ends],
            "skipped": [_named(fact) for fact in self.skipped],
        }

    def _of(self, kind: Kind) -> Floats:
        if kind not in self.effects:
            allowed = ", ".join(map(repr, self.effects))
            raise BadInput(
                f"kind is {kind!r}; allowed: {allowed}, which were traced. Choose one of these, "
                "or trace it: locate(..., kinds=[...])."
            )
        return self.effects[kind]


def _check(lm: LM, kinds: Sequence[Kind], window: int | None, noise: float, samples: int) -> None:
    """Raise unless the model is a decoder and every parameter is allowed."""
    if lm.kind != "decoder":
        raise UnsupportedModel(
            f"causal tracing cannot run on a {lm.kind} model ({type(lm.model).__name__}): it "
            "follows a prompt to its next token; allowed: a decoder. Choose layers by a sweep."
        )
    if isinstance(kinds, str) or not kinds or any(kind not in KINDS for kind in kinds):
        allowed = ", ".join(map(repr, KINDS))
        raise BadInput(f"kinds is {kinds!r}; allowed: a list of {allowed}. Name at least one.")
    if not 0 < noise < float("inf"):
        raise BadInput(
            f"noise is {noise!r}; allowed: a number above 0, in standard deviations of the "
            "embeddings. The paper's is 3."
        )
    check_count("samples", samples)
    if window is not None:
        check_count("window", window)


def _unknown(lm: LM, facts: Sequence[Fact]) -> str:
    """What to say where the model knows none of the facts."""
    first = facts[0]
    (said,) = lm.generate([first.text], max_new_tokens=8)
    return (
        f"the model says the target of none of {len(facts)} facts: after {first.text!r} it says "
        f"{said.strip()!r}, not {first.target!r}; allowed: at least one fact that the model "
        "knows. Give what it says as the targets, or other facts."
    )


def _named(fact: Fact) -> dict[str, str]:
    return {"text": fact.text, "target": fact.target}


def _bounds(rows: Floats) -> tuple[Floats, Floats]:
    """Bounds [k] of the 95 % intervals of the means of columns [facts, k]; NaN without a value."""
    drawn = bootstrap_means(rows)
    there = (~np.isnan(drawn)).sum(axis=0) > 0
    bounds = np.full((2, drawn.shape[1]), np.nan)
    bounds[:, there] = np.nanquantile(drawn[:, there], [0.025, 0.975], axis=0)
    return bounds[0], bounds[1]


def _plain(values: Floats) -> list[list[float | None]]:
    return [[None if np.isnan(value) else float(value) for value in line] for line in values]
