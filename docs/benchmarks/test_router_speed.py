"""How long routing takes: `pytest docs/benchmarks/test_router_speed.py`.

A decision is promised to take less than 50 microseconds. The data are made up: as many questions
and relations as PopQA has.
"""

from __future__ import annotations

import numpy as np
import pytest

from memkit.routing.base import Outcome
from memkit.routing.popularity import PopularityRouter
from memkit.routing.table import PopularityTable
from memkit.types import Question

QUESTIONS, RELATIONS = 14_267, 16


@pytest.fixture(scope="module")
def outcomes():
    rng = np.random.default_rng(0)
    views = np.ceil(np.exp(rng.normal(7, 2, QUESTIONS)))
    known = rng.random(QUESTIONS) < 1 / (1 + np.exp(9 - np.log(views)))
    found = rng.random(QUESTIONS) < 0.4
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
