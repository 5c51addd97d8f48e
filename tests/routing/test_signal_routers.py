"""Routers that compare a signal with a threshold: the contract, and thresholds by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memkit.errors import BadInput, MissingSignal, NotTrained
from memkit.routing.base import Outcome, decided, edits, number, vector
from memkit.routing.combined import CombinedRouter
from memkit.routing.entropy import EntropyRouter
from memkit.routing.margin import MarginRouter
from memkit.routing.neighbour import NeighbourRouter
from memkit.routing.probe import ProbeRouter
from memkit.routing.score import ScoreRouter
from memkit.testing.router import TrainableRouterContract
from memkit.types import Question


class TestMargin(TrainableRouterContract):
    @pytest.fixture
    def untrained(self):
        return MarginRouter()


class TestEntropy(TrainableRouterContract):
    @pytest.fixture(params=["first", "mean", "max"])
    def untrained(self, request):
        return EntropyRouter(over=request.param)


class TestScore(TrainableRouterContract):
    @pytest.fixture
    def untrained(self):
        return ScoreRouter()


class TestProbe(TrainableRouterContract):
    @pytest.fixture(params=[None, 1])
    def untrained(self, request):
        return ProbeRouter(layer=request.param)


class TestNeighbour(TrainableRouterContract):
    """The contract's questions are alike but for their number, so that is what is encoded."""

    @pytest.fixture
    def untrained(self):
        return NeighbourRouter(k=3, encoder=by_number)

    def test_representation_makes_an_equal_router(self, router):
        assert "encoder=<function by_number" in repr(router)  # a function is data


class TestCombined(TrainableRouterContract):
    @pytest.fixture(
        params=[("popularity", "margin"), ("relation", "popularity"), ("score", "entropy")]
    )
    def untrained(self, request):
        return CombinedRouter(request.param)


def by_number(texts):
    """Angles that differ by the number at the end of a question."""
    angle = np.array([int(text.rstrip("?").split()[-1]) for text in texts]) / 10
    return np.column_stack([np.cos(angle), np.sin(angle)])


def outcome(weights, retrieval, text="Who?", subject=None, **signals):
    return Outcome(Question(text, subject=subject), weights, retrieval, signals)


@pytest.mark.parametrize(
    ("router", "signal", "low"),
    [
        (MarginRouter(), "margin", "retrieval"),
        (EntropyRouter(), "entropy", "weights"),
        (EntropyRouter("mean"), "answer_entropy", "weights"),
        (EntropyRouter("max"), "answer_entropy_max", "weights"),
        (ScoreRouter(), "score", "weights"),
    ],
)
def test_the_weights_have_the_threshold_itself(router, signal, low):
    high = {"weights": "retrieval", "retrieval": "weights"}[low]
    right = {"weights": (1, 0), "retrieval": (0, 1)}
    rows = [(1.0, low), (2.0, low), (3.0, high), (4.0, high)]
    router.fit([outcome(*right[side], **{signal: value}) for value, side in rows])
    assert router.threshold_ == (3.0 if low == "retrieval" else 2.0)
    question = Question("Who?")
    for value, side in rows:
        decision = router.decide(question, {signal: value})
        assert (decision.source, decision.score) == (side, value)
    assert router.decide(question, {signal: router.threshold_}).source == "weights"
    with pytest.raises(MissingSignal, match=f"needs the signal '{signal}'; given: none") as raised:
        router.decide(question)
    assert raised.value.names == (signal,)


@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_is_the_best_there_is(seed):
    rng = np.random.default_rng(seed)
    margins = rng.integers(0, 30, 120).astype(float)
    known = rng.random(120) < margins / 30
    rows = [
        outcome(float(k), float(rng.random() < 0.5), margin=m)
        for m, k in zip(margins, known, strict=True)
    ]

    def right(threshold):
        return sum(o.retrieval if o.signals["margin"] < threshold else o.weights for o in rows)

    candidates = [-np.inf, *sorted(set(margins)), np.inf]
    best = max(candidates, key=right)  # the first of equals
    assert MarginRouter().fit(rows).threshold_ == best


def test_where_nothing_is_found_the_weights_answer():
    rows = [outcome(0, 1, score=value) for value in (1.0, 2.0, 3.0)]
    router = ScoreRouter().fit([*rows, outcome(1, 0, score=-np.inf)])
    assert router.threshold_ == -np.inf
    assert router.decide(Question("Who?"), {"score": 0.5}).source == "retrieval"
    assert router.decide(Question("Who?"), {"score": -np.inf}).source == "weights"


def test_a_failed_fit_leaves_the_router_as_it_was():
    probe = ProbeRouter().fit(known_by_direction(60)[0])
    combined = CombinedRouter(("margin",)).fit(
        [outcome(float(m > 2), float(m <= 2), margin=float(m)) for m in range(6)]
    )
    same = [outcome(1, 1, margin=1.0, hidden=np.ones(3))] * 3
    before = combined.model_, combined.fill_
    with pytest.raises(BadInput, match=r"nothing to tell apart.*memkit\.Always"):
        combined.fit(same)
    assert (combined.model_, combined.fill_) == before
    threshold = probe.threshold_
    with pytest.raises(BadInput, match="ProbeRouter has nothing to tell apart"):
        probe.fit(same)
    assert probe.threshold_ == threshold
    with pytest.raises(MissingSignal, match="'margin'"):
        combined.fit([outcome(1, 0), outcome(0, 1)])


# --- the probe ------------------------------------------------------------------------------------


def known_by_direction(n, seed=0, width=12):
    """Outcomes whose weights are right if the hidden state points along a direction."""
    rng = np.random.default_rng(seed)
    direction = np.random.default_rng(99).normal(size=width)
    states = rng.normal(size=(n, width)) * 3 + 5
    margin = (states - 5) @ direction
    rows = [
        outcome(
            float(m + rng.normal() > 0), 0.5, f"question {i}?", subject=f"s{i // 2}", hidden=state
        )
        for i, (state, m) in enumerate(zip(states, margin, strict=True))
    ]
    return rows, margin


def test_probe_finds_the_direction_and_is_scikit_learns():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rows, _ = known_by_direction(300)
    probe = ProbeRouter(strength=2.0).fit(rows)
    fresh, margin = known_by_direction(200, seed=1)
    scores = np.array([probe.score(o.question, o.signals) for o in fresh])
    assert np.corrcoef(scores, margin > 0)[0, 1] > 0.8
    x = np.stack([o.signals["hidden"] for o in rows])
    scaled = StandardScaler().fit(x)
    model = LogisticRegression(C=0.5, max_iter=1000, tol=1e-8)
    model.fit(scaled.transform(x), [o.weights for o in rows])
    expected = model.predict_proba(scaled.transform(np.stack([o.signals["hidden"] for o in fresh])))
    assert scores == pytest.approx(expected[:, 1], abs=1e-3)


def test_probe_sets_its_threshold_on_scores_of_unseen_subjects():
    """With more numbers than questions the probe is sure of every question that it saw."""
    rng = np.random.default_rng(0)
    rows = [
        outcome(float(rng.random() < 0.5), 0.5, f"q{i}?", hidden=rng.normal(size=80))
        for i in range(60)
    ]
    probe = ProbeRouter(strength=1e-3).fit(rows)
    seen = np.array([probe.score(o.question, o.signals) for o in rows])
    assert ((seen > 0.5) == np.array([o.weights for o in rows])).all()  # the trivial case
    unseen = probe.learn(rows)
    assert ((unseen > 0.5) == np.array([o.weights for o in rows])).mean() < 0.75


def test_a_probe_in_single_precision_is_that_in_double():
    rows, _ = known_by_direction(300)
    single, double = (
        [
            replace(o, signals={"hidden": o.signals["hidden"].astype(np.float32).astype(dtype)})
            for o in rows
        ]
        for dtype in (np.float32, np.float64)
    )
    near, exact = ProbeRouter().fit(single), ProbeRouter().fit(double)
    assert near.probe_.w == pytest.approx(exact.probe_.w, abs=1e-5)
    assert near.threshold_ == pytest.approx(exact.threshold_, abs=1e-5)
    assert exact.threshold_ not in (0, np.inf)


def test_probe_refuses_states_of_two_models():
    rows, _ = known_by_direction(40)
    rows[7] = replace(rows[7], signals={"hidden": np.ones(3)})
    with pytest.raises(BadInput, match=r"shapes \(12,\), \(3,\)"):
        ProbeRouter().fit(rows)


def test_probe_refuses_another_width():
    probe = ProbeRouter().fit(known_by_direction(40)[0])
    with pytest.raises(BadInput, match="has 3 numbers, the probe 12"):
        probe.decide(Question("Who?"), {"hidden": np.ones(3)})


# --- the combination ------------------------------------------------------------------------------


def test_combined_beats_each_of_its_signals():
    rng = np.random.default_rng(0)
    rows = []
    for i in range(800):
        views, margin = rng.normal(6, 2), rng.normal()
        better = (views - 6) / 2 + margin + 0.3 * rng.normal() > 0
        question = Question(f"q{i}?", popularity=float(np.exp(views).round()))
        rows.append(Outcome(question, float(better), float(not better), {"margin": margin}))
    train, test = rows[:400], rows[400:]

    def right(names):
        router = CombinedRouter(names).fit(train)
        sources = [router.decide(o.question, o.signals).source for o in test]
        return np.mean([getattr(o, source) for o, source in zip(test, sources, strict=True)])

    both = right(("popularity", "margin"))
    assert both > 0.9 > max(right(("popularity",)), right(("margin",)))


def test_combined_learns_nothing_from_ties():
    rows = [outcome(float(m > 2), float(m <= 2), f"q{m}?", margin=float(m)) for m in range(8)]
    ties = [outcome(1, 1, f"tie {m}?", margin=float(-m)) for m in range(200)]
    alone, with_ties = CombinedRouter(("margin",)).fit(rows), CombinedRouter(("margin",))
    with_ties.fit([*rows, *ties])
    assert with_ties.model_.w == pytest.approx(alone.model_.w)


def test_combined_treats_the_unknown_apart():
    rows = [
        Outcome(Question(f"q{i}?", popularity=float(10**k)), float(k > 2), float(k <= 2))
        for i, k in enumerate([1, 2, 3, 4] * 10)
    ]
    unknown = [Outcome(Question(f"u{i}?"), 1, 0) for i in range(20)]
    router = CombinedRouter(("popularity",)).fit([*rows, *unknown])
    assert router.decide(Question("new?")).source == "weights"
    assert router.decide(Question("new?", popularity=1)).source == "retrieval"


# --- neighbours -----------------------------------------------------------------------------------


def test_neighbours_by_hand():
    rows = [
        outcome(1, 0, "What is the capital of Peru?"),
        outcome(1, 0, "What is the capital of Chile?"),
        outcome(0, 1, "Who directed the film Alien?"),
        outcome(0, 1, "Who directed the film Jaws?"),
        outcome(1, 1, "Who directed the film Heat?"),  # a tie is nobody's neighbour
    ]
    router = NeighbourRouter(k=2).fit(rows)
    assert len(router.gain_) == 4
    capital = router.decide(Question("What is the capital of Cuba?"))
    film = router.decide(Question("Who directed the film Up?"))
    assert (capital.source, capital.score) == ("weights", 1)
    assert (film.source, film.score) == ("retrieval", -1)
    assert film.reason == "the weights gained -1.00 on the 2 most similar questions"
    everyone = NeighbourRouter(k=99).fit(rows).decide(Question("Who directed the film Up?"))
    assert (everyone.source, everyone.score) == ("weights", 0)  # a tie goes to the weights
    with pytest.raises(BadInput, match="both roads fare alike on all 1 outcomes"):
        router.fit([outcome(1, 1)])
    assert len(router.gain_) == 4


# --- signals --------------------------------------------------------------------------------------


def test_signals_are_checked():
    assert number({"margin": np.float32(2)}, "margin", "X") == 2
    assert vector({"hidden": [1, 2]}, "hidden", "X").tolist() == [1, 2]
    assert edits({"edits": ()}, "X") == ()
    with pytest.raises(MissingSignal, match="X needs the signal 'score'; given: 'margin'"):
        number({"margin": 1.0}, "score", "X")
    with pytest.raises(BadInput, match="'margin' is nan; allowed: a number"):
        number({"margin": float("nan")}, "margin", "X")
    with pytest.raises(BadInput, match=r"'hidden' has shape \(1, 2\)"):
        vector({"hidden": np.ones((1, 2))}, "hidden", "X")


def test_a_plain_router_never_sees_signals():
    class Plain:
        def decide(self, question):
            return f"decided {question.text}"

    assert decided(Plain(), Question("Who?"), {"margin": 1.0}) == "decided Who?"
    with pytest.raises(NotTrained):
        decided(MarginRouter(), Question("Who?"), {"margin": 1.0})


def test_outcomes_are_equal_whatever_their_signals():
    one = outcome(1, 0, margin=1.0)
    assert one == replace(one, signals={})
    assert hash(one) == hash(outcome(1, 0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EntropyRouter("last"), "over is 'last'.*'first', 'mean' or 'max'"),
        (lambda: ProbeRouter(layer=-1), "layer is -1"),
        (lambda: ProbeRouter(strength=0), "strength is 0"),
        (lambda: NeighbourRouter(k=0), "k is 0"),
        (lambda: CombinedRouter(()), r"signals is \(\)"),
        (lambda: CombinedRouter("margin"), "signals is 'margin'"),
        (lambda: CombinedRouter(("margin", "margin")), "signals is"),
        (lambda: CombinedRouter(("hidden",)), "take a ProbeRouter"),
        (lambda: CombinedRouter(strength=-1), "strength is -1"),
    ],
)
def test_refuses_hyper_parameters(make, message):
    with pytest.raises(BadInput, match=message):
        make()
