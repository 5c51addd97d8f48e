"""The margin router: how far the model's first word is ahead of its second (TARG, 2511.09803).

Idea. A model that knows the answer puts one token far ahead; one that guesses does not. The margin
log p(best) - log p(second best) of the answer's first token comes from the closed-book prefill,
which has to run anyway for a question that is answered from the weights: `QA` goes on from its
cache then, and the margin has cost nothing. For a question that goes to retrieval it costs one
prefill of the bare prompt. It needs no entity and no popularity.

Departure: TARG takes the margin over a short draft, this one that of the first token; the entropy
router can look at the whole answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from memkit.routing.base import Signals, number
from memkit.routing.signal import ThresholdRouter
from memkit.types import Question

__all__ = ["MarginRouter"]


@dataclass
class MarginRouter(ThresholdRouter):
    """Retrieve where the first token's margin (nats, at least 0) is below a threshold."""

    called = "margin"

    def score(self, question: Question, signals: Signals) -> float:
        """The margin in nats."""
        return number(signals, "margin", "MarginRouter")
