from __future__ import annotations

import numpy as np
import pytest

from memkit.errors import BadInput
from memkit.routing.base import Outcome
from memkit.routing.baselines import Always, Oracle, Random
from memkit.testing.router import RouterContract
from memkit.types import Question


class TestAlways(RouterContract):
    @pytest.fixture(params=["weights", "retrieval"])
    def router(self, request):
        return Always(request.param)


class TestRandom(RouterContract):
    @pytest.fixture
    def router(self):
        return Random(0.3, seed=5)


class TestOracle(RouterContract):
    @pytest.fixture
    def router(self, outcomes):
        return Oracle(tuple(outcomes))


def test_always_is_that_road():
    question = Question("Who wrote Erewhon?")
    assert Always("weights").decide(question).source == "weights"
    assert Always("retrieval").decide(question).source == "retrieval"
    with pytest.raises(BadInput, match=r"source is 'web'.*'weights' or 'retrieval'"):
        Always("web")


@pytest.mark.parametrize("rate", [0, 0.2, 0.7, 1])
def test_random_retrieves_at_its_rate(rate):
    questions = [Question(f"question {number}?") for number in range(4000)]
    decisions = [Random(rate).decide(question) for question in questions]
    share = np.mean([decision.source == "retrieval" for decision in decisions])
    deviation = np.sqrt(rate * (1 - rate) / 4000)
    assert abs(share - rate) <= 4 * deviation  # exact at 0 and 1
    numbers = np.array([decision.score for decision in decisions])
    assert numbers.mean() == pytest.approx(0.5, abs=0.03)
    assert ((numbers >= 0) & (numbers < 1)).all()


def test_random_seeds_and_ids_are_independent():
    questions = [Question("the same words?", id=str(number)) for number in range(2000)]
    one, other = (
        np.array([Random(0.5, seed).decide(question).score for question in questions])
        for seed in (0, 1)
    )
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.1
    with pytest.raises(BadInput, match=r"rate is 1\.2.*\[0, 1\]"):
        Random(1.2)


def test_oracle_retrieves_only_where_strictly_better():
    cases = [(0, 0, "weights"), (1, 0, "weights"), (0, 1, "retrieval"), (1, 1, "weights")]
    questions = [Question(f"question {number}?") for number in range(4)]
    oracle = Oracle(tuple(Outcome(q, w, r) for q, (w, r, _) in zip(questions, cases, strict=True)))
    assert [oracle.decide(question).source for question in questions] == [c[2] for c in cases]
    with pytest.raises(BadInput, match=r"'another\?' is not among the 4 outcomes"):
        oracle.decide(Question("another?"))
