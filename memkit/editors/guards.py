"""Guards: figures that say that an edit did harm, each with its bound.

Sources of the alarms: one edit can collapse a model and its perplexity shows it (Yang et al., ACL
Findings 2024); a vanishing k.u in ROME's denominator blows the update up ("disabling edits", Gupta
et al. 2024, Rebuilding ROME).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from memkit.errors import BadInput
from memkit.types import Fact, FactReport

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = [
    "Guards",
    "base_perplexity",
    "check_divisor",
    "check_learnt",
    "check_perplexity",
    "check_size",
]

PARAGRAPHS = 8  # of the built-in sample, whose perplexity is watched
TOKENS = 128  # of each of them at most


@dataclass(frozen=True, slots=True)
class Guards:
    """Bounds on what an edit may do; infinity switches one off.

    perplexity: a decoder's perplexity on a fixed text, after a step relative to before the edit.
    size: Frobenius norm of a step's change of a matrix, relative to the matrix's.
    divisor: least k.u of the key that is divided by, relative to that of the mean key (ROME).
    text: what the perplexity is taken of; None is the beginning of the built-in sample.
    """

    perplexity: float = 10.0
    size: float = 3.0
    divisor: float = 0.05
    text: str | None = None

    def __post_init__(self) -> None:
        """Check that the bounds are numbers of at least 0."""
        for name in ("perplexity", "size", "divisor"):
            bound = getattr(self, name)
            if not bound >= 0:
                raise BadInput(
                    f"Guards.{name} is {bound!r}; allowed: a number of at least 0, or "
                    "float('inf') to switch it off (for the divisor: 0)."
                )


def check_learnt(rows: Sequence[FactReport]) -> list[str]:
    """A non-finite log-probability or loss."""
    found = []
    for row in rows:
        figures = {"log-probability": row.after, **row.details}
        found += [
            f"the {name} of {row.fact.text!r} is {figure}, allowed: a finite number"
            for name, figure in figures.items()
            if not math.isfinite(figure)
        ]
    return found


def check_size(name: str, guards: Guards, change: float, weight: float) -> list[str]:
    """A change out of proportion to the weight."""
    if math.isfinite(change) and (math.isinf(guards.size) or change <= guards.size * weight):
        return []
    return [
        f"{name} changed by {change:.3g} (Frobenius norm) where the weight has {weight:.3g}, "
        f"allowed: {guards.size:.3g} times as much (Guards.size)"
    ]


def check_divisor(fact: Fact, guards: Guards, share: float) -> list[str]:
    """ROME's divisor, relative to that of the mean key."""
    if abs(share) >= guards.divisor:
        return []
    return [
        f"the divisor k.u of {fact.text!r} is {share:.3g} of the mean key's, allowed: at least "
        f"{guards.divisor:.3g} (Guards.divisor); the two keys of variant 'official' disagree"
    ]


def base_perplexity(lm: LM, guards: Guards) -> float | None:
    """Perplexity on the guarded texts of the model as it is; None where it is not watched."""
    if lm.kind != "decoder" or math.isinf(guards.perplexity):
        return None
    return lm.keep(("perplexity", guards.text), lambda: lm.perplexity(_texts(lm, guards)))


def check_perplexity(lm: LM, guards: Guards, base: float | None) -> list[str]:
    """Perplexity beyond its bound, which is relative to that of the model before the edit."""
    if base is None:
        return []
    now = lm.perplexity(_texts(lm, guards))
    if math.isfinite(now) and now <= guards.perplexity * base:
        return []
    return [
        f"perplexity rose from {base:.4g} to {now:.4g}, allowed: {guards.perplexity:.3g} times as "
        "much (Guards.perplexity)"
    ]


def _texts(lm: LM, guards: Guards) -> list[str]:
    """The guarded texts, each cut to some words that fit into the window."""
    from memkit.editors.statistics import sample

    texts = [guards.text] if guards.text else list(islice(sample(), PARAGRAPHS))
    words = min(TOKENS, lm.window) // 4
    return texts if guards.text else [" ".join(text.split()[:words]) for text in texts]
