"""What every router promises: subclass, override the `router` fixture, run with pytest."""

from __future__ import annotations

import dataclasses

import pytest

import memkit.types
from memkit.errors import NotTrained
from memkit.routing.base import Outcome, Router, TrainableRouter
from memkit.types import Decision, Question

__all__ = ["RouterContract", "TrainableRouterContract"]


class RouterContract:
    """A router is pure. Override `router`, and `questions` where it needs others."""

    @pytest.fixture
    def router(self) -> Router:
        """A router that is ready to decide."""
        raise NotImplementedError

    @pytest.fixture
    def outcomes(self) -> list[Outcome]:
        """Outcomes of two relations: popular subjects from weights, rare ones with retrieval."""
        return [
            Outcome(
                Question(
                    f"{relation} of entity {number}?",
                    answers=("x",),
                    subject=f"entity {number}",
                    relation=relation,
                    popularity=10.0 * number,
                    id=f"{relation}-{number}",
                ),
                weights=float(number >= turn),
                retrieval=float(number < turn),
            )
            for relation, turn in (("author", 4), ("capital", 8))
            for number in range(12)
        ]

    @pytest.fixture
    def questions(self, outcomes: list[Outcome]) -> list[Question]:
        """What is asked."""
        return [outcome.question for outcome in outcomes]

    def test_chooses_one_of_two_memories_and_says_why(
        self, router: Router, questions: list[Question]
    ) -> None:
        """Every decision names a source, and a reason in words."""
        for question in questions:
            decision = router.decide(question)
            assert isinstance(decision, Decision)
            assert decision.source in ("weights", "retrieval")
            assert decision.reason

    def test_equal_questions_give_equal_decisions(
        self, router: Router, questions: list[Question]
    ) -> None:
        """Neither the object, nor what was asked before, nor its order counts."""
        first = [router.decide(question) for question in questions]
        copies = [dataclasses.replace(question) for question in questions]
        assert [router.decide(copy) for copy in copies] == first
        assert [router.decide(copy) for copy in reversed(copies)] == first[::-1]

    def test_deciding_leaves_the_router_as_it_was(
        self, router: Router, questions: list[Question]
    ) -> None:
        """The representation is the same before and after."""
        before = repr(router)
        for question in questions:
            router.decide(question)
        assert repr(router) == before

    def test_representation_makes_an_equal_router(self, router: Router) -> None:
        """`eval(repr(router)) == router`: a record of results holds what made them."""
        names = {**vars(memkit.types), "Outcome": Outcome, type(router).__name__: type(router)}
        assert eval(repr(router), names) == router


class TrainableRouterContract(RouterContract):
    """A router with `fit`. Override `untrained`; `router` is that one, fitted on `outcomes`."""

    @pytest.fixture
    def untrained(self) -> TrainableRouter:
        """A router that was made and not fitted."""
        raise NotImplementedError

    @pytest.fixture
    def router(self, untrained: TrainableRouter, outcomes: list[Outcome]) -> Router:
        """The fitted one."""
        return untrained.fit(outcomes)

    def test_refuses_to_decide_before_fit(
        self, untrained: TrainableRouter, questions: list[Question], outcomes: list[Outcome]
    ) -> None:
        """`NotTrained`, which names `fit`; afterwards it decides."""
        with pytest.raises(NotTrained, match="fit"):
            untrained.decide(questions[0])
        assert untrained.fit(outcomes) is untrained
        untrained.decide(questions[0])

    def test_fit_learns(self, router: Router, outcomes: list[Outcome]) -> None:
        """It beats both constants on outcomes that popularity separates."""
        never = sum(outcome.weights for outcome in outcomes)
        always = sum(outcome.retrieval for outcome in outcomes)
        fitted = 0.0
        for outcome in outcomes:
            retrieved = router.decide(outcome.question).source == "retrieval"
            fitted += outcome.retrieval if retrieved else outcome.weights
        assert fitted > max(never, always)

    def test_fit_leaves_hyper_parameters(
        self, untrained: TrainableRouter, outcomes: list[Outcome]
    ) -> None:
        """What was given to the constructor is not changed, nor are the outcomes."""
        before, given = repr(untrained), list(outcomes)
        untrained.fit(outcomes)
        assert repr(untrained) == before
        assert outcomes == given

    def test_fit_forgets_and_does_not_depend_on_order(
        self, untrained: TrainableRouter, outcomes: list[Outcome], questions: list[Question]
    ) -> None:
        """Fitting on other outcomes changes decisions; fitting on the first again restores them."""
        first = [untrained.fit(outcomes).decide(question) for question in questions]
        turned = [Outcome(o.question, weights=o.retrieval, retrieval=o.weights) for o in outcomes]
        assert [untrained.fit(turned).decide(question) for question in questions] != first
        again = untrained.fit(outcomes[::-1])
        assert [again.decide(question) for question in questions] == first
