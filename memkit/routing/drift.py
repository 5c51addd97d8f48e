"""When a router has to be fitted again: its scores, or what they mean, have shifted.

Each edit moves log-probabilities a little, so that after N sequential edits a margin of 2 nats is
not what it was when the threshold was learnt. `drift` is given outcomes that were measured now:

    statistic, p    two-sample Kolmogorov-Smirnov test of the scores now against those at `fit`
                    (scipy): an early sign, cheap, and no reason by itself, since a threshold can
                    stay right while scores move
    gain            accuracy of a router fitted anew, out of sample (two folds of subjects, each
                    decided by a router fitted on the other), less that of this one; a paired
                    bootstrap over subjects gives the interval

Fit again where the interval lies above 0: then the old thresholds cost accuracy beyond chance.
Where there is no such loss the old fit is kept, since it rests on more outcomes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memkit.errors import BadInput
from memkit.metrics import Difference, paired_bootstrap
from memkit.routing.base import Outcome, check_outcomes, decided

__all__ = ["Drift", "Drifts"]


@dataclass(frozen=True, slots=True)
class Drift:
    """What `drift` found; `refit` is the advice, the rest its grounds (see the module).

    `shift` is the median of the scores now less that at `fit`, in the score's unit. The first
    three are None where a router has no score for a question, or kept none.
    """

    outcomes: int
    statistic: float | None
    p: float | None
    shift: float | None
    gain: Difference
    refit: bool

    def __str__(self) -> str:
        """The advice, and why."""
        points = f"{100 * self.gain.value:+.1f} points ({100 * self.gain.low:+.1f} to "
        points += f"{100 * self.gain.high:+.1f}) on {self.outcomes} outcomes"
        moved = ""
        if self.p is not None:
            moved = f"; scores moved by {self.shift:+.3g} (KS {self.statistic:.2f}, p {self.p:.2g})"
        return f"{'fit again' if self.refit else 'keep'}: a new fit gains {points}{moved}"


class Drifts:
    """A router that can say whether its fit still holds."""

    def drift(self, outcomes: Sequence[Outcome], *, seed: int = 0) -> Drift:
        """Compare this fit with outcomes that were measured now; the router stays as it is.

        `seed` deals the subjects into the two folds and draws the bootstrap.

        Raises `NotTrained` before `fit`, `BadInput` for outcomes of fewer than two subjects.
        """
        router: Any = self
        check_outcomes(outcomes, type(self).__name__)
        subjects = [o.question.subject or o.question.text for o in outcomes]
        names = list(dict.fromkeys(subjects))
        if len(names) < 2:
            raise BadInput(
                f"drift got outcomes of {len(names)} subject; allowed: at least two, so that a new "
                "fit can be scored on others than it saw. Measure more questions."
            )
        decisions = [decided(router, o.question, o.signals) for o in outcomes]
        old = [_right(o, d.source) for o, d in zip(outcomes, decisions, strict=True)]
        turn = np.random.default_rng(seed).permutation(len(names)) % 2
        fold = dict(zip(names, turn.tolist(), strict=True))
        new = np.empty(len(outcomes))
        for part in (0, 1):
            train = [o for o, name in zip(outcomes, subjects, strict=True) if fold[name] != part]
            fresh = copy.deepcopy(router).fit(train)
            for row, outcome in enumerate(outcomes):
                if fold[subjects[row]] == part:
                    choice = decided(fresh, outcome.question, outcome.signals)
                    new[row] = _right(outcome, choice.source)
        gain = paired_bootstrap(new, old, subjects, seed=seed)
        now = np.array([d.score for d in decisions if d.score is not None and np.isfinite(d.score)])
        then = getattr(self, "scores_", np.empty(0))
        then = then[np.isfinite(then)]
        statistic = p = shift = None
        if len(now) and len(then):
            from scipy import stats

            tested = stats.ks_2samp(now, then)
            statistic, p = float(tested.statistic), float(tested.pvalue)
            shift = float(np.median(now) - np.median(then))
        return Drift(len(outcomes), statistic, p, shift, gain, gain.low > 0)


def _right(outcome: Outcome, source: str) -> float:
    """What the chosen road scored; nothing for an abstention."""
    return {"weights": outcome.weights, "retrieval": outcome.retrieval}.get(source, 0.0)
