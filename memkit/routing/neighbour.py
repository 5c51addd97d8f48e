"""The neighbour router: what helped with the most similar questions (SKR-kNN, Wang et al. 2023).

Idea. Self-Knowledge guided Retrieval (2310.05002, section 3.2) labels questions by which road was
better, and gives a new one the majority label of its k nearest. The score here is the mean over the
k nearest of (right from the weights - right with retrieval): negative where text helped, and then
text is fetched. Questions on which both roads fare alike are neighbours of nobody, as there.

Similarity is the cosine of the questions' vectors: TF-IDF over words and pairs of words
(scikit-learn), or those of `encoder`, e.g. a sentence encoder as in the paper.

Departure: no threshold is learnt, as in the paper, and ties go to the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput, NotTrained
from memkit.routing.base import NO_SIGNALS, Outcome, Signals, check_outcomes
from memkit.routing.drift import Drifts
from memkit.types import Decision, Question

__all__ = ["NeighbourRouter"]

Floats = npt.NDArray[np.float64]


@dataclass
class NeighbourRouter(Drifts):
    """Retrieve where text helped more than it hurt among the k most similar questions.

    k: how many neighbours; at least 1; all, if there are fewer.
    encoder: from texts to vectors [n, d]; None is TF-IDF.

    Learnt by `fit`: `vectors_` [n, d], `gain_` [n] of weights over retrieval.

    Raises `BadInput` for k < 1.
    """

    k: int = 5
    encoder: Callable[[Sequence[str]], npt.NDArray[Any]] | None = None
    vectors_: Any = field(init=False, repr=False, compare=False)
    gain_: Floats = field(init=False, repr=False, compare=False)
    encode_: Callable[[Sequence[str]], Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check k."""
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise BadInput(f"NeighbourRouter.k is {self.k!r}; allowed: an integer of at least 1.")

    def fit(self, outcomes: Sequence[Outcome]) -> NeighbourRouter:
        """Keep the questions on which the roads differ; returns itself.

        Raises `BadInput` if an outcome lacks an arm or is not in [0, 1], or if no two differ; the
        router is then as it was.
        """
        check_outcomes(outcomes, "NeighbourRouter")
        apart = [outcome for outcome in outcomes if outcome.weights != outcome.retrieval]
        if not apart:
            raise BadInput(
                f"both roads fare alike on all {len(outcomes)} outcomes; allowed: some that differ."
                " Measure more questions, or take memkit.Always."
            )
        apart.sort(key=lambda o: (o.question.text, o.question.id or "", o.weights))
        texts = [outcome.question.text for outcome in apart]
        self.vectors_, self.encode_ = self._encoded(texts)
        self.gain_ = np.array([outcome.weights - outcome.retrieval for outcome in apart])
        return self

    def decide(self, question: Question, signals: Signals = NO_SIGNALS) -> Decision:
        """Retrieval where the neighbours' mean gain is below 0, weights at 0 and above.

        Raises `NotTrained` before `fit`.
        """
        if not hasattr(self, "gain_"):
            raise NotTrained(
                "this NeighbourRouter knows no questions yet; call fit(outcomes) first, with "
                "outcomes of both roads (memkit.protocols.outcomes makes them)."
            )
        score = float(self._scores([question.text])[0])
        k = min(self.k, len(self.gain_))
        reason = f"the weights gained {score:+.2f} on the {k} most similar questions"
        return Decision("retrieval" if score < 0 else "weights", score, 0.0, reason)

    def _encoded(self, texts: Sequence[str]) -> tuple[Any, Callable[[Sequence[str]], Any]]:
        """The texts' vectors, and how others are made."""
        if (encoder := self.encoder) is not None:

            def encode(given: Sequence[str]) -> Floats:
                return _unit(np.asarray(encoder(given), dtype=float))

            return encode(texts), encode
        from sklearn.feature_extraction.text import TfidfVectorizer

        words = TfidfVectorizer(
            ngram_range=(1, 2), token_pattern=r"\w+", sublinear_tf=True, norm="l2"
        )
        return words.fit_transform(texts), words.transform

    def _scores(self, texts: Sequence[str]) -> Floats:
        """The mean gain of each text's neighbours; of equally similar ones the first counts."""
        k, found = min(self.k, len(self.gain_)), []
        for start in range(0, len(texts), 512):
            similar = self.encode_(texts[start : start + 512]) @ self.vectors_.T
            dense = similar.toarray() if hasattr(similar, "toarray") else similar
            nearest = np.argsort(-dense.round(9), axis=1, kind="stable")[:, :k]
            found.append(self.gain_[nearest].mean(axis=1))
        return np.concatenate(found)


def _unit(rows: Floats) -> Floats:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1.0)
