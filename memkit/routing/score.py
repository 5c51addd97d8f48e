"""The score router: text is used where the retriever is sure of what it found.

Idea. A high score of the best passage says that the corpus speaks of the question; on PopQA the
score of Contriever's first passage tells hits from misses with an AUROC of about .70. The search
has to run before the decision, so this router saves reading, not searching. Scores of different
retrievers or indexes are not comparable: fit it on outcomes of the index that it serves.
"""

from __future__ import annotations

from dataclasses import dataclass

from memkit.routing.base import Signals, number
from memkit.routing.signal import ThresholdRouter
from memkit.types import Question

__all__ = ["ScoreRouter"]


@dataclass
class ScoreRouter(ThresholdRouter):
    """Use text where the best passage's score is above a threshold, in the retriever's unit.

    A question for which nothing is found has the score minus infinity, and goes to the weights.
    """

    retrieves = "above"
    called = "retriever's score"

    def score(self, question: Question, signals: Signals) -> float:
        """The score of the best passage."""
        return number(signals, "score", "ScoreRouter")
