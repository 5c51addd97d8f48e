"""The combined router: a logistic regression on named signals.

Idea. Popularity, the model's margin and the retriever's score know different things. Each is one
feature of p(weights better | the two roads differ), a logistic regression on the outcomes where
one road is better (on the others nothing is to be learnt); text is used where that is below a
threshold, learnt on all outcomes from probabilities of models that had not seen them (five folds
of subjects). This is the recommended combination of cheap signals: about ten parameters, some
hundred labelled questions.

    popularity    ln(1 + page views), and one more feature for "unknown" (with the mean elsewhere)
    relation      one feature for each relation of the fitting outcomes
    any other     the signal of that name, a number; minus infinity counts as the least one seen
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput
from memkit.routing.base import Outcome, Signals, number
from memkit.routing.logistic import Logistic, fit_logistic
from memkit.routing.signal import ThresholdRouter
from memkit.routing.table import PopularityTable
from memkit.types import Question

__all__ = ["CombinedRouter"]

Floats = npt.NDArray[np.float64]


@dataclass
class CombinedRouter(ThresholdRouter):
    """Retrieve where p(weights better), of a logistic regression on signals, is below a threshold.

    signals: names of numbers in `memkit.routing.base`, "popularity" and "relation".
    popularity: where page views come from for questions that bring none.
    strength: of the L2 penalty, on standardised features; above 0.

    Learnt by `fit`: `model_`, `relations_`, `fill_` (what stands for a missing popularity, and for
    an infinite signal), and what `ThresholdRouter` has.

    Raises `BadInput` for no signals, one that is named twice, and other values.
    """

    called = "p(weights better)"

    signals: tuple[str, ...] = ("popularity", "margin")
    popularity: PopularityTable | None = None
    strength: float = 1.0
    model_: Logistic = field(init=False, repr=False, compare=False)
    relations_: tuple[str, ...] = field(init=False, repr=False, compare=False)
    fill_: dict[str, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        names = self.signals
        bad = type(names) is not tuple or not names or len(set(names)) < len(names)
        if bad or not all(isinstance(n, str) and not n.startswith("hidden") for n in names):
            raise BadInput(
                f"CombinedRouter.signals is {names!r}; allowed: a tuple of different names of "
                "numbers, such as ('popularity', 'margin'). For hidden states take a ProbeRouter."
            )
        if not self.strength > 0:
            raise BadInput(f"CombinedRouter.strength is {self.strength!r}; allowed: above 0.")

    def score(self, question: Question, signals: Signals) -> float:
        """The probability that the weights do better than text, in [0, 1]."""
        return self.model_(np.array(self._features(question, signals)))

    def learn(self, outcomes: Sequence[Outcome]) -> Floats:
        """Fit the model."""
        self.relations_ = tuple(sorted({o.question.relation or "" for o in outcomes}))
        self.fill_, columns = {}, []
        for name in self.signals:
            if name == "relation":
                own = np.array([o.question.relation or "" for o in outcomes])
                columns += [(own == relation).astype(float) for relation in self.relations_]
                continue
            values = (self._value(name, o.question, o.signals) for o in outcomes)
            column = np.array([np.nan if value is None else value for value in values])
            fine = np.isfinite(column)
            known = column[fine]
            least = known.mean if name == "popularity" else known.min
            self.fill_[name] = float(least()) if len(known) else 0.0
            columns.append(np.where(fine, column, self.fill_[name]))
            if name == "popularity":
                columns.append((~fine).astype(float))
        x = np.column_stack(columns)
        gain = np.array([outcome.weights - outcome.retrieval for outcome in outcomes])
        groups = [o.question.subject or o.question.text for o in outcomes]
        self.model_, unseen = fit_logistic(
            x,
            (gain > 0).astype(float),
            np.abs(gain),
            groups,
            strength=self.strength,
            who="CombinedRouter",
        )
        return unseen

    def _features(self, question: Question, signals: Signals) -> list[float]:
        row: list[float] = []
        for name in self.signals:
            if name == "relation":
                own = question.relation or ""
                row += [float(own == relation) for relation in self.relations_]
                continue
            value = self._value(name, question, signals)
            fine = value is not None and np.isfinite(value)
            row.append(value if value is not None and fine else self.fill_[name])
            if name == "popularity":
                row.append(float(not fine))
        return row

    def _value(self, name: str, question: Question, signals: Signals) -> float | None:
        if name != "popularity":
            return number(signals, name, "CombinedRouter")
        views = question.popularity
        if views is None and self.popularity is not None:
            views = self.popularity.lookup(question).value
        return None if views is None else float(np.log1p(views))
