"""The entropy router: how undecided the model is (Moskvoretskii et al., ACL 2025, 2501.12835).

Idea. The entropy of the next token's distribution is high where the model does not know. In that
study of 35 methods the mean and maximum token entropy of the closed-book answer are among the best
gates, and the cheapest.

    over      signal              costs, beyond the closed-book answer itself
    first     entropy             a prefill where text is fetched, else nothing
    mean      answer_entropy      a whole closed-book answer where text is fetched, else nothing
    max       answer_entropy_max  the same
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from memkit.errors import BadInput
from memkit.routing.base import Signals, number
from memkit.routing.signal import ThresholdRouter
from memkit.types import Question

__all__ = ["EntropyRouter"]

SIGNALS = {"first": "entropy", "mean": "answer_entropy", "max": "answer_entropy_max"}


@dataclass
class EntropyRouter(ThresholdRouter):
    """Retrieve where the entropy (nats, at least 0) is above a threshold.

    over: "first", the answer's first token; "mean" or "max", over the closed-book answer's tokens.

    Raises `BadInput` for anything else.
    """

    retrieves = "above"
    called = "entropy"

    over: Literal["first", "mean", "max"] = "first"

    def __post_init__(self) -> None:
        """Check the hyper-parameter."""
        if self.over not in SIGNALS:
            raise BadInput(
                f"EntropyRouter.over is {self.over!r}; allowed: 'first', 'mean' or 'max'."
            )

    def score(self, question: Question, signals: Signals) -> float:
        """The entropy in nats."""
        return number(signals, SIGNALS[self.over], "EntropyRouter")
