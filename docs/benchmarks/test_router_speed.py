"""How long routing takes: `pytest docs/benchmarks/test_router_speed.py`.

A decision of a router that looks something up is promised to take less than 50 microseconds, a fit
on 14,000 outcomes less than 0.1 s. The data are made up: as many questions and relations as PopQA
has, and hidden states of 64 numbers.
"""

from __future__ import annotations

import numpy as np
import pytest

from memkit.routing.base import Outcome
from memkit.routing.cascade import Cascade
from memkit.routing.combined import CombinedRouter
from memkit.routing.conformal import Conformal
from memkit.routing.edits import EditScope
from memkit.routing.entropy import EntropyRouter
from memkit.routing.margin import MarginRouter
from memkit.routing.neighbour import NeighbourRouter
from memkit.routing.popularity import PopularityRouter
from memkit.routing.probe import ProbeRouter
from memkit.routing.score import ScoreRouter
from memkit.routing.table import PopularityTable
from memkit.types import EditReport, Fact, FactReport, Question

QUESTIONS, RELATIONS = 14_267, 16


@pytest.fixture(scope="module")
def outcomes():
    rng = np.random.default_rng(0)
    views = np.ceil(np.exp(rng.normal(7, 2, QUESTIONS)))
    known = rng.random(QUESTIONS) < 1 / (1 + np.exp(9 - np.log(views)))
    found = rng.random(QUESTIONS) < 0.4
    margins, scores = rng.random(QUESTIONS), rng.gamma(3, 4, QUESTIONS)
    states = rng.normal(size=(QUESTIONS, 64)).astype(np.float32)
    return [
        Outcome(
            Question(
                f"What is the relation {n % RELATIONS} of Subject Number {n}?",
                subject=f"Subject Number {n}",
                relation=f"relation {n % RELATIONS}",
                popularity=float(views[n]),
            ),
            float(known[n]),
            float(found[n]),
            {
                "margin": float(known[n] + margins[n]),
                "entropy": float(3 - known[n] - margins[n]),
                "score": float(scores[n]),
                "hidden": states[n] + known[n],
            },
        )
        for n in range(QUESTIONS)
    ]


def test_decision(benchmark, outcomes):
    router = PopularityRouter(splits=0).fit(outcomes)
    benchmark(router.decide, outcomes[5].question)


@pytest.mark.parametrize("given", ["subject", "text"])
def test_decision_by_the_table(benchmark, outcomes, given):
    table = PopularityTable.from_questions(outcome.question for outcome in outcomes)
    router = PopularityRouter(table, splits=0).fit(outcomes)
    subject = "Subject Number 77" if given == "subject" else None
    question = Question("Who wrote Subject Number 77?", subject=subject, relation="relation 3")
    assert "Subject Number 77" in router.decide(question).reason
    benchmark(router.decide, question)


@pytest.mark.parametrize("rule", ["exact", "binned"])
def test_fit_with_100_splits(benchmark, outcomes, rule):
    benchmark.pedantic(PopularityRouter(rule=rule).fit, args=(outcomes,), rounds=3)


ROUTERS = {
    "popularity": lambda: PopularityRouter(splits=0),
    "margin": MarginRouter,
    "entropy": EntropyRouter,
    "score": ScoreRouter,
    "cascade": lambda: Cascade((PopularityRouter(splits=0), MarginRouter())),
    "conformal": lambda: Conformal(PopularityRouter(splits=0)),
    "combined": CombinedRouter,
    "probe": ProbeRouter,
    "neighbours": NeighbourRouter,
}


@pytest.mark.parametrize("name", ROUTERS)
def test_fit(benchmark, outcomes, name):
    benchmark.pedantic(lambda: ROUTERS[name]().fit(outcomes), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("name", ROUTERS)
def test_decision_of(benchmark, outcomes, name):
    router = ROUTERS[name]().fit(outcomes)
    outcome = outcomes[5]
    benchmark(router.decide, outcome.question, outcome.signals)


@pytest.mark.parametrize("subject", ["Subject Number 77", None])
def test_decision_of_the_edit_scope(benchmark, subject):
    """1,000 live edits; by the question's subject, and by the name in its text."""
    facts = [
        Fact(f"Subject Number {n}", "{} was written by", "me", relation="author")
        for n in range(1_000)
    ]
    rows = tuple(FactReport(fact, -9.0, -0.1, False, True) for fact in facts)
    signals = {"edits": (EditReport("ROME()", rows),)}
    question = Question("Who wrote Subject Number 77?", subject=subject, relation="author")
    scope = EditScope()
    assert scope.consider(question, signals).source == "weights"
    benchmark(scope.consider, question, signals)
