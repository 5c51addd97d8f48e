"""The probe router: a linear probe on a hidden state says whether the model knows.

Idea. Whether an answer will be right can be read off the hidden state at the question's last token,
before a word is said (2509.10625; Probing-RAG): a logistic regression p(right from the weights |
h). Text is fetched where that probability is below a threshold, which is learnt on probabilities
of outcomes that the probe had not seen (five folds of subjects). A probe belongs to one model, and
to the state of its weights: fit it again when `drift` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput
from memkit.routing.base import Outcome, Signals, vector, vectors
from memkit.routing.logistic import Logistic, fit_logistic
from memkit.routing.signal import ThresholdRouter
from memkit.types import Question

__all__ = ["ProbeRouter"]

Floats = npt.NDArray[np.float64]


@dataclass
class ProbeRouter(ThresholdRouter):
    """Retrieve where the probe's probability that the weights are right is below a threshold.

    layer: the layer after which the hidden state is read, from 0; None is the middle one.
    strength: of the probe's L2 penalty, on standardised features; above 0.

    Outcomes count as right from the weights at a score of at least 0.5. Learnt by `fit`: `probe_`,
    and what `ThresholdRouter` has.

    Raises `BadInput` for other values.
    """

    called = "p(known)"

    layer: int | None = None
    strength: float = 10.0
    probe_: Logistic = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        if self.layer is not None and self.layer < 0:
            raise BadInput(f"ProbeRouter.layer is {self.layer!r}; allowed: at least 0, or None.")
        if not self.strength > 0:
            raise BadInput(f"ProbeRouter.strength is {self.strength!r}; allowed: above 0.")

    def score(self, question: Question, signals: Signals) -> float:
        """The probability that the weights are right, in [0, 1]."""
        state = self._state(signals)
        if len(state) != len(self.probe_.w):
            raise BadInput(
                f"the hidden state has {len(state)} numbers, the probe {len(self.probe_.w)}; "
                "allowed: the model that the router was fitted on. Fit it again."
            )
        return self.probe_(state)

    def learn(self, outcomes: Sequence[Outcome]) -> Floats:
        """Fit the probe."""
        x = vectors(outcomes, self._name(), "ProbeRouter")
        y = np.array([float(outcome.weights >= 0.5) for outcome in outcomes])
        groups = [o.question.subject or o.question.text for o in outcomes]
        self.probe_, unseen = fit_logistic(
            x, y, np.ones(len(y)), groups, strength=self.strength, who="ProbeRouter"
        )
        return unseen

    def _state(self, signals: Signals) -> Floats:
        return vector(signals, self._name(), "ProbeRouter")

    def _name(self) -> str:
        return "hidden" if self.layer is None else f"hidden@{self.layer}"
