"""What every router is compared with: always one road, chance, and perfect knowledge."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from memkit.errors import BadInput
from memkit.routing.base import Outcome
from memkit.types import Decision, Question, Source

__all__ = ["Always", "Oracle", "Random"]


@dataclass(frozen=True)
class Always:
    """One road for every question: "weights" (never retrieve) or "retrieval" (always).

    Raises `BadInput` for anything else.
    """

    source: Source

    def __post_init__(self) -> None:
        """Check the source."""
        if self.source not in ("weights", "retrieval"):
            raise BadInput(
                f"Always.source is {self.source!r}; allowed: 'weights' or 'retrieval'. Name one."
            )

    def decide(self, question: Question) -> Decision:
        """That road."""
        return Decision(self.source, reason=f"always {self.source}")


@dataclass(frozen=True)
class Random:
    """Retrieve for a share `rate` of all questions, whatever they ask; rate in [0, 1].

    Pure: a question's number in [0, 1) is a hash of seed and question id (its text, if it has no
    id), and it is retrieved for if that number is below the rate, which is so with probability
    `rate` exactly.

    Raises `BadInput` for a rate outside [0, 1].
    """

    rate: float
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the rate."""
        if not 0 <= self.rate <= 1:
            raise BadInput(f"Random.rate is {self.rate!r}; allowed: a share in [0, 1].")

    def decide(self, question: Question) -> Decision:
        """Retrieval if the question's number is below the rate."""
        name = question.text if question.id is None else question.id
        digest = hashlib.sha256(f"{self.seed}\0{name}".encode()).digest()
        number = int.from_bytes(digest[:6]) / 2**48
        source: Source = "retrieval" if number < self.rate else "weights"
        return Decision(source, number, self.rate, f"by chance, at a rate of {self.rate:g}")


@dataclass(frozen=True)
class Oracle:
    """Retrieve exactly where it is strictly better: the bound of every router, not a router.

    It knows the outcomes that it was given and no others; the last outcome of a question counts.
    """

    outcomes: tuple[Outcome, ...]

    def decide(self, question: Question) -> Decision:
        """The better road; weights where both fare alike. `BadInput` for an unknown question."""
        outcome = self._by_question.get(question)
        if outcome is None:
            raise BadInput(
                f"{question.text!r} is not among the {len(self.outcomes)} outcomes that this "
                "Oracle knows; allowed: one of those questions. Measure it on both roads first."
            )
        better = outcome.retrieval > outcome.weights
        reason = f"{outcome.retrieval:g} with retrieval, {outcome.weights:g} from weights"
        return Decision("retrieval" if better else "weights", reason=reason)

    @cached_property
    def _by_question(self) -> dict[Question, Outcome]:
        return {outcome.question: outcome for outcome in self.outcomes}
