from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from memkit.errors import BadInput, NotTrained
from memkit.routing.base import Outcome
from memkit.routing.margin import MarginRouter
from memkit.routing.neighbour import NeighbourRouter
from memkit.types import Question


def outcomes(shift=0.0, seed=0, n=300):
    """The weights are right where the margin is above 2; an edit shifts what margins mean."""
    rng = np.random.default_rng(seed)
    margins = rng.uniform(0, 4, n)
    known = rng.random(n) < 1 / (1 + np.exp(6 * (2 - margins)))
    return [
        Outcome(
            Question(f"q{i}?", subject=f"s{i // 2}"),
            float(k),
            float(not k),
            {"margin": float(m + shift)},
        )
        for i, (m, k) in enumerate(zip(margins, known, strict=True))
    ]


def test_keeps_where_nothing_moved():
    drifts = [MarginRouter().fit(outcomes()).drift(outcomes(seed=s)) for s in range(1, 8)]
    assert not any(drift.refit for drift in drifts)
    assert np.mean([drift.p < 0.05 for drift in drifts]) < 0.5
    assert str(drifts[0]).startswith("keep: a new fit gains ")


@pytest.mark.parametrize("shift", [-1.5, 1.5])
def test_fit_again_where_the_threshold_no_longer_fits(shift):
    router = MarginRouter().fit(outcomes())
    threshold = router.threshold_
    drift = router.drift(outcomes(shift, seed=1))
    assert drift.refit
    assert drift.gain.low > 0.1
    assert router.threshold_ == threshold  # the router stays as it is
    now = [o.signals["margin"] for o in outcomes(shift, seed=1)]
    then = [o.signals["margin"] for o in outcomes()]
    assert drift.p == pytest.approx(stats.ks_2samp(now, then).pvalue)
    assert drift.shift == pytest.approx(np.median(now) - np.median(then))
    assert drift.shift * shift > 0
    assert str(drift).startswith("fit again: a new fit gains +")


def test_scores_that_move_without_harm_are_no_reason():
    """All margins grow, and none crosses the threshold."""
    router = MarginRouter().fit(outcomes())
    fresh = [
        Outcome(o.question, o.weights, o.retrieval, {"margin": o.signals["margin"] * grow})
        for o in outcomes(seed=1)
        for grow in [5.0 if o.signals["margin"] > 2.2 else 1.0]
    ]
    drift = router.drift(fresh)
    assert drift.p < 1e-6
    assert not drift.refit


def test_a_router_that_kept_no_scores_still_says_what_a_new_fit_gains():
    drift = NeighbourRouter().fit(outcomes()).drift(outcomes(seed=1))
    assert (drift.statistic, drift.p, drift.shift) == (None, None, None)
    assert drift.outcomes == 300


def test_refuses():
    router = MarginRouter().fit(outcomes())
    with pytest.raises(BadInput, match="drift got outcomes of 1 subject"):
        router.drift(outcomes()[:2])
    with pytest.raises(NotTrained):
        MarginRouter().drift(outcomes())
