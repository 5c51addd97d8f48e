from __future__ import annotations

import numpy as np
import pytest

from memkit.errors import BadInput, MissingSignal
from memkit.routing.base import Outcome
from memkit.routing.baselines import Always
from memkit.routing.cascade import Cascade
from memkit.routing.edits import EditScope
from memkit.routing.margin import MarginRouter
from memkit.routing.popularity import PopularityRouter
from memkit.testing.router import RouterContract, TrainableRouterContract
from memkit.types import EditReport, Fact, FactReport, Question


class TestCascade(TrainableRouterContract):
    @pytest.fixture
    def untrained(self):
        return Cascade((PopularityRouter(scope="global", splits=0), MarginRouter()))


class TestUntrainable(RouterContract):
    @pytest.fixture
    def router(self):
        return Cascade((EditScope(), Always("retrieval")))


def two_signals(n=400, seed=0):
    """Popularity tells the far ends apart, the margin everything."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        views = float(np.exp(rng.uniform(0, 12)).round())
        known = rng.random() < 1 / (1 + np.exp(2 * (6 - np.log1p(views))))
        question = Question(f"q{i}?", subject=f"s{i}", popularity=views)
        margin = {"margin": float(known) + 0.2 * rng.normal()}
        rows.append(Outcome(question, float(known), float(not known), margin))
    return rows


@pytest.mark.parametrize("defer", [0.0, 0.2, 0.5])
def test_a_share_is_passed_on_and_only_that_wants_the_next_signal(defer):
    rows = two_signals()
    cascade = Cascade((PopularityRouter(splits=0), MarginRouter()), defer).fit(rows)
    asked = 0
    for o in rows:
        stage = cascade.decide(o.question, o.signals).reason.split(":")[0]
        if stage == "MarginRouter":
            with pytest.raises(MissingSignal, match="'margin'"):
                cascade.decide(o.question)
            asked += 1
        else:
            assert cascade.decide(o.question).reason.startswith("PopularityRouter: ")
    assert asked / len(rows) == pytest.approx(defer, abs=0.02)


def test_it_beats_its_first_stage():
    train, test = two_signals(), two_signals(seed=1)

    def right(router):
        sources = [router.decide(o.question, o.signals).source for o in test]
        return np.mean([getattr(o, source) for o, source in zip(test, sources, strict=True)])

    first = PopularityRouter(splits=0)
    cascade = Cascade((first, MarginRouter()), 0.4).fit(train)
    assert right(cascade) > right(PopularityRouter(splits=0).fit(train)) + 0.03


def test_unknown_popularity_is_passed_on():
    cascade = Cascade((PopularityRouter(splits=0), MarginRouter()), 0.0).fit(two_signals())
    decision = cascade.decide(Question("Who?"), {"margin": 1.0})
    assert (decision.source, decision.reason[:13]) == ("weights", "MarginRouter:")


def test_the_edit_scope_comes_first():
    fact = Fact("Erewhon", "{} was written by", "Ann Onym", relation="author")
    report = EditReport("x", (FactReport(fact, -9, -0.1, False, True),))
    router = PopularityRouter(splits=0).fit([Outcome(Question("q?", popularity=9), 0, 1)])
    cascade = Cascade((EditScope(), router))
    cascade.fit([Outcome(Question("q?", popularity=9), 0, 1)])
    question = Question("Who wrote Erewhon?", subject="Erewhon", relation="author", popularity=1)
    assert router.decide(question).source == "retrieval"  # the trivial case: rare
    assert cascade.decide(question, {"edits": ()}).source == "retrieval"
    decision = cascade.decide(question, {"edits": (report,)})
    assert decision.source == "weights"
    assert decision.reason.startswith("EditScope: 'Erewhon was written by' was edited")


@pytest.mark.parametrize(
    ("stages", "defer", "message"),
    [
        ((), 0.1, r"stages is \(\)"),
        ((Always("weights"), 3), 0.1, "the last of which is a router"),
        ((3, Always("weights")), 0.1, "3 is no stage"),
        ((Always("weights"),), 1.0, "defer is 1.0"),
    ],
)
def test_refuses(stages, defer, message):
    with pytest.raises(BadInput, match=message):
        Cascade(stages, defer)
