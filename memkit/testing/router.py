"""What every router promises: subclass, override the `router` fixture, run with pytest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import memkit.types
from memkit.errors import BadInput, MissingSignal, NotTrained
from memkit.routing.base import NO_SIGNALS, Outcome, Router, TrainableRouter, decided
from memkit.types import Decision, Question

__all__ = ["RouterContract", "TrainableRouterContract"]

Choose = Callable[[Router, Question], Decision]


class RouterContract:
    """A router is pure. Override `router`, and `questions` where it needs others."""

    @pytest.fixture
    def router(self) -> Router:
        """A router that is ready to decide."""
        raise NotImplementedError

    @pytest.fixture
    def outcomes(self) -> list[Outcome]:
        """Outcomes of two relations: popular subjects from weights, rare ones with retrieval.

        They carry every signal that a router may ask for, each in accord with popularity.
        """
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
                signals=_signals(number),
            )
            for relation, turn in (("author", 4), ("capital", 8))
            for number in range(12)
        ]

    @pytest.fixture
    def questions(self, outcomes: list[Outcome]) -> list[Question]:
        """What is asked."""
        return [outcome.question for outcome in outcomes]

    @pytest.fixture
    def choose(self, outcomes: list[Outcome]) -> Choose:
        """Asks a router for a question, with the signals of its outcome if it wants any."""
        signals = {outcome.question: outcome.signals for outcome in outcomes}
        return lambda router, question: decided(router, question, signals.get(question, NO_SIGNALS))

    def test_chooses_a_memory_or_none_and_says_why(
        self, router: Router, questions: list[Question], choose: Choose
    ) -> None:
        """Every decision names a source, and a reason in words."""
        for question in questions:
            decision = choose(router, question)
            assert isinstance(decision, Decision)
            assert decision.source in ("weights", "retrieval", "abstain")
            assert decision.reason

    def test_equal_questions_give_equal_decisions(
        self, router: Router, questions: list[Question], choose: Choose
    ) -> None:
        """Neither the object, nor what was asked before, nor its order counts."""
        first = [choose(router, question) for question in questions]
        copies = [dataclasses.replace(question) for question in questions]
        assert [choose(router, copy) for copy in copies] == first
        assert [choose(router, copy) for copy in reversed(copies)] == first[::-1]

    def test_deciding_leaves_the_router_as_it_was(
        self, router: Router, questions: list[Question], choose: Choose
    ) -> None:
        """The representation is the same before and after."""
        before = repr(router)
        for question in questions:
            choose(router, question)
        assert repr(router) == before

    def test_asks_for_a_missing_signal_by_name(
        self, router: Router, questions: list[Question], outcomes: list[Outcome]
    ) -> None:
        """Without signals it decides, or says which one it wants: one that outcomes carry."""
        missing = None
        try:
            router.decide(questions[0])
        except MissingSignal as raised:
            missing = raised
        if missing is not None:
            assert missing.names
            assert set(missing.names) <= set(outcomes[0].signals)
            assert all(repr(name) in str(missing) for name in missing.names)

    def test_representation_makes_an_equal_router(self, router: Router) -> None:
        """`eval(repr(router)) == router`: a record of results holds what made them."""
        names = {**vars(memkit.types), "Outcome": Outcome, **_types(router)}
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
        self,
        untrained: TrainableRouter,
        questions: list[Question],
        outcomes: list[Outcome],
        choose: Choose,
    ) -> None:
        """`NotTrained`, which names `fit`; afterwards it decides."""
        with pytest.raises(NotTrained, match="fit"):
            untrained.decide(questions[0])
        assert untrained.fit(outcomes) is untrained
        choose(untrained, questions[0])

    def test_fit_learns(self, router: Router, outcomes: list[Outcome], choose: Choose) -> None:
        """It beats both constants on outcomes that popularity separates."""
        never = sum(outcome.weights for outcome in outcomes)
        always = sum(outcome.retrieval for outcome in outcomes)
        fitted = 0.0
        for outcome in outcomes:
            source = choose(router, outcome.question).source
            fitted += {"weights": outcome.weights, "retrieval": outcome.retrieval}.get(source, 0)
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
        self,
        untrained: TrainableRouter,
        outcomes: list[Outcome],
        questions: list[Question],
        choose: Choose,
    ) -> None:
        """Fitting on other outcomes changes decisions; fitting on the first again restores them."""
        first = [choose(untrained.fit(outcomes), question) for question in questions]
        turned = [
            dataclasses.replace(o, weights=o.retrieval, retrieval=o.weights) for o in outcomes
        ]
        assert [choose(untrained.fit(turned), question) for question in questions] != first
        again = untrained.fit(outcomes[::-1])
        assert [choose(again, question) for question in questions] == first

    def test_refuses_outcomes_without_both_arms(
        self, untrained: TrainableRouter, outcomes: list[Outcome]
    ) -> None:
        """`BadInput` that names the question, also for scores outside of [0, 1]."""
        for change, message in (
            ({"retrieval": None}, "has no retrieval arm"),
            ({"weights": None}, "has no weights arm"),
            ({"weights": 2}, r"allowed: scores in \[0, 1\]"),
            ({"retrieval": float("nan")}, "nan with retrieval"),
        ):
            bad = [*outcomes[1:], dataclasses.replace(outcomes[0], **change)]
            with pytest.raises(BadInput, match=message):
                untrained.fit(bad)
        with pytest.raises(BadInput, match="outcomes"):
            untrained.fit([])


def _signals(number: int) -> dict[str, Any]:
    """Every signal, of a subject with this place in popularity."""
    wave = np.sin(np.arange(4) * (number + 1))
    hidden = np.array([number / 3, *wave])
    return {
        "margin": number / 4,
        "entropy": 3 - number / 4,
        "answer_entropy": 2 - number / 8,
        "answer_entropy_max": 4 - number / 3,
        "answer_logprob": number / 5 - 4,
        "hidden": hidden,
        "hidden@1": hidden[::-1],
        "score": 12.0 - number,
        "edits": (),
    }


def _types(value: object) -> dict[str, type]:
    """The dataclasses that a value is made of, by name."""
    if isinstance(value, tuple | list):
        return {name: made for part in value for name, made in _types(part).items()}
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return {}
    fields = [getattr(value, f.name, None) for f in dataclasses.fields(value) if f.repr]
    return {type(value).__name__: type(value), **_types(fields)}
