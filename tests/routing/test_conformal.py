"""The promise of `Conformal` against the true risk, which a made-up world knows exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from memkit.errors import BadInput
from memkit.routing.base import Outcome
from memkit.routing.baselines import Always
from memkit.routing.conformal import Conformal, p_value
from memkit.routing.popularity import PopularityRouter
from memkit.testing.router import TrainableRouterContract
from memkit.types import Question

KINDS = 20  # of questions, each with its own popularity
KNOWN = 1 / (1 + np.exp(7 - 0.6 * np.arange(KINDS)))  # p(right from weights), by kind
FOUND = np.linspace(0.99, 0.4, KINDS)  # p(right with retrieval)


class TestConformal(TrainableRouterContract):
    """Twelve subjects prove little: the promise is weak, so that something is answered."""

    @pytest.fixture
    def untrained(self):
        return Conformal(PopularityRouter(splits=0), alpha=0.45, delta=0.45, seed=1)


def kind(number):
    return Question(f"kind {number}?", popularity=float(2**number))


def draw(n, seed):
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, KINDS, n)
    return [
        Outcome(
            Question(f"q{i}?", subject=f"s{i}", popularity=float(2**k)),
            float(rng.random() < KNOWN[k]),
            float(rng.random() < FOUND[k]),
        )
        for i, k in enumerate(kinds)
    ]


def true_risk(router):
    """Expected error among what is answered, and the share that is, over all kinds."""
    sources = [router.decide(kind(number)).source for number in range(KINDS)]
    errors = {"weights": 1 - KNOWN, "retrieval": 1 - FOUND}
    wrong = [errors[s][number] for number, s in enumerate(sources) if s != "abstain"]
    return (np.mean(wrong) if wrong else 0.0), len(wrong) / KINDS


@pytest.mark.parametrize(("alpha", "delta"), [(0.1, 0.05), (0.15, 0.05)])
def test_promised_error_holds_in_95_of_100_resamples(alpha, delta):
    plain, held, answered = [], 0, []
    for seed in range(100):
        outcomes = draw(600, seed)
        router = Conformal(PopularityRouter(scope="global", splits=0), alpha, delta, seed=seed)
        risk, share = true_risk(router.fit(outcomes))
        held += risk <= alpha
        answered.append(share)
        plain.append(true_risk(router.router)[0])
    assert np.mean(np.array(plain) > alpha) > 0.9  # trivial case: without it more is wrong
    assert held >= 95
    assert np.mean(answered) > 0.2  # and it does answer


def test_abstains_from_everything_where_nothing_can_be_promised():
    outcomes = [Outcome(Question(f"q{i}?", popularity=5), float(i % 2), 0) for i in range(60)]
    router = Conformal(Always("weights"), alpha=0.05).fit(outcomes)
    assert router.threshold_ == math.inf
    decision = router.decide(Question("q?", popularity=5))
    assert decision.source == "abstain"
    assert "no confidence is enough" in decision.reason
    assert router.tested_ == (0, 0.0)


def test_answers_everything_where_all_is_right():
    outcomes = [Outcome(Question(f"q{i}?"), 1, 0) for i in range(60)]
    router = Conformal(Always("weights"), alpha=0.1, delta=0.1).fit(outcomes)
    decision = router.decide(Question("q?"))
    assert (decision.source, decision.promise) == ("weights", 0.1)
    assert "promised: at most 10 % of answers wrong, with 90 % confidence" in decision.reason
    assert router.tested_ == (30, 0.0)


def test_p_values_by_hand():
    assert p_value(np.zeros(10), 0.1) == pytest.approx(0.9**10)
    two = np.array([1.0, 1.0] + [0.0] * 18)
    expected = sum(stats.binom.pmf(k, 20, 0.3) for k in range(3))
    assert p_value(two, 0.3) == pytest.approx(expected)
    assert p_value(np.empty(0), 0.1) == 1
    # losses between 0 and 1: the smaller of the two bounds, here Hoeffding's
    half = np.full(100, 0.25)
    divergence = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    bentkus = math.e * stats.binom.cdf(25, 100, 0.5)
    assert p_value(half, 0.5) == pytest.approx(min(math.exp(-100 * divergence), bentkus))
    assert p_value(np.full(9, 0.7), 0.5) == 1


@pytest.mark.parametrize("loss", [0.3, 0.25])
def test_p_values_are_seldom_small_where_the_promise_is_broken(loss):
    """At the boundary at most a share delta of p-values lies below delta."""
    rng = np.random.default_rng(0)
    binary = [p_value((rng.random(80) < loss).astype(float), loss) for _ in range(400)]
    beta = [p_value(rng.beta(2 * loss, 2 * (1 - loss), 80), loss) for _ in range(400)]
    assert np.mean(np.array(binary) <= 0.1) <= 0.13
    assert np.mean(np.array(beta) <= 0.1) <= 0.13
    assert np.mean(np.array(binary) <= 0.6) > 0.3  # and they do become small


@pytest.mark.parametrize(
    "arguments", [{"alpha": 0}, {"alpha": 1.0}, {"delta": -0.1}, {"learning": 1}]
)
def test_refuses(arguments):
    (name,) = arguments
    with pytest.raises(BadInput, match=f"Conformal.{name} is .*between 0 and 1"):
        Conformal(Always("weights"), **arguments)
    with pytest.raises(BadInput, match="outcomes of 1 subject"):
        Conformal(Always("weights")).fit([Outcome(Question("q?"), 1, 0)])
