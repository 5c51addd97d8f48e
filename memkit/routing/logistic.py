"""Logistic regression for routers: standardised features, and scores as if unseen."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput

__all__ = ["Logistic", "fit_logistic"]

Floats = npt.NDArray[np.float64]
FOLDS = 5
NEWTON = 512  # features up to which the Hessian is cheaper than many gradient steps


@dataclass(frozen=True, slots=True)
class Logistic:
    """p(y = 1 | x) = 1 / (1 + exp(-(w . x + b))), with x as given: the scales are in w and b."""

    w: Floats
    b: float

    def __call__(self, x: Floats) -> float:
        """The probability for one row of features [d]."""
        return float(1 / (1 + np.exp(-np.clip(self.w @ x + self.b, -500, 500))))


def fit_logistic(
    x: npt.NDArray[Any],
    y: Floats,
    counts: Floats,
    groups: Sequence[Hashable],
    *,
    strength: float,
    who: str,
) -> tuple[Logistic, Floats]:
    """A model of y in {0, 1} given x [n, d], and the probability of each row as if unseen [n].

    Rows with `counts` 0 are scored and not learnt from. `groups` are dealt into five folds, each of
    which is scored by a model of the others. `strength` is that of the L2 penalty |w|^2 / 2 on
    standardised features. The regression runs in the precision of x, single or double.

    Raises `BadInput` if y has one value only.
    """
    from sklearn.linear_model import LogisticRegression

    used = counts > 0
    if len(set(y[used].tolist())) < 2:
        raise BadInput(
            f"{who} has nothing to tell apart: {int(used.sum())} outcomes that differ all go one "
            "way; allowed: both kinds. Measure more questions, or take memkit.Always."
        )
    names = [repr(group) for group in groups]
    place = {name: turn % FOLDS for turn, name in enumerate(sorted(set(names)))}
    fold = np.array([place[name] for name in names])
    mean, scale = x[used].mean(axis=0, dtype=float), x[used].std(axis=0, dtype=float)
    scale = np.where(scale > 0, scale, 1.0)
    x = (x - mean.astype(x.dtype)) / scale.astype(x.dtype)
    solver = "newton-cholesky" if x.shape[1] <= NEWTON else "lbfgs"
    model: Any = LogisticRegression(C=1 / strength, solver=solver, max_iter=500, warm_start=True)
    model.fit(x[used], y[used], sample_weight=counts[used])
    w = model.coef_[0] / scale
    whole = Logistic(w, float(model.intercept_[0] - w @ mean))
    start = model.coef_.copy(), model.intercept_.copy()
    unseen = np.empty(len(y))
    for number in np.unique(fold):
        rest, own = (fold != number) & used, fold == number
        model.coef_, model.intercept_ = start[0].copy(), start[1].copy()
        if len(set(y[rest].tolist())) == 2:  # from where the whole ended, a few steps are enough
            model.fit(x[rest], y[rest], sample_weight=counts[rest])
        unseen[own] = 1 / (1 + np.exp(-np.clip(model.decision_function(x[own]), -500, 500)))
    return whole, unseen
