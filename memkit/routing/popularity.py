"""The popularity router (Mallen, Asai, Zhong, Das, Khashabi, Hajishirzi, ACL 2023).

arXiv:2212.10511, section 6.

Idea. A model knows popular entities by heart and is distracted by passages about them; of rare
ones it knows little, and passages help. So retrieve exactly when the popularity of the question's
subject is below a threshold, one for each relation, that maximises the accuracy on questions
whose outcome on both roads is known:

    accuracy(t) = [ sum over s < t of right with retrieval + sum over s >= t of right without ] / n

s    popularity of a question's subject, monthly page views
t    a candidate threshold; 0 never retrieves, infinity always does

The paper compares log s with log t; the logarithm keeps the order, so thresholds are stored in page
views and zero needs no special case.

Rules for the candidates:
- "exact" (default): 0, every distinct s, infinity. Between two neighbouring values all thresholds
  have the same accuracy; the upper value stands for them, so that a threshold is a popularity that
  occurs: the smallest that is answered from the weights.
- "binned": the paper's. 0, the inner edges of `bins` equal-width bins of ln s, infinity: bins + 1
  candidates. A popularity of 0 lies in the lowest bin, where upstream takes its logarithm.

Of equally good candidates the lowest is taken, as upstream does: in doubt less is retrieved.

Departures from the paper's notebook (AlexTMallen/adaptive-retrieval):
- Edges come from the fitting questions, not from those that are scored too; `edges_from="all"`
  gives upstream's figures.
- A global threshold, fitted on all questions, for relations unseen in fitting and questions
  without one; with `scope="global"` for all. Unknown popularity is a case of `decide`; there such
  rows are dropped.
- The estimate's deviation is that over splits. Upstream prints 2 deviations / sqrt(test size),
  which is an interval of nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput, NotTrained
from memkit.routing.base import NO_SIGNALS, Outcome, Signals, check_outcomes
from memkit.routing.drift import Drifts
from memkit.routing.table import PopularityTable
from memkit.routing.thresholds import best_threshold
from memkit.types import Decision, Question

__all__ = ["PopularityRouter", "SplitEstimate"]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
LARGEST_LOG = 25.0  # ln of 7e10 views a month


@dataclass(frozen=True, slots=True)
class SplitEstimate:
    """Out-of-sample figures over random splits; relations weigh by the size of their test parts.

    `accuracy` and `retrieval_rate` are means over splits, in [0, 1]; `deviation` is the standard
    deviation of the accuracy over splits (the test parts overlap: no interval follows from it);
    `questions` is the size of one test part.
    """

    accuracy: float
    deviation: float
    retrieval_rate: float
    questions: int


@dataclass
class PopularityRouter(Drifts):
    """Retrieve for subjects less popular than a threshold, one for each relation.

    popularity: where page views come from for questions that bring none; without a table such
        questions count as unknown.
    rule: "exact" or "binned", see the module.
    scope: "relation", a threshold for each, as in the paper; or "global", one for all questions.
    bins: how many bins the binned rule has; at least 1.
    edges_from: "train" or, for parity with upstream, "all": whether the edges of the binned rule
        in the splits of the estimate are those of the fitting part or of both parts.
    splits: how many random splits the estimate is a mean over; 0 makes none.
    train_share: the share of each relation that is fitted on in a split; in (0, 1).
    seed: of the splits. Thresholds do not depend on it.

    Learnt by `fit`: `thresholds_` (page views by relation), `global_threshold_`, `estimate_`.
    """

    popularity: PopularityTable | None = None
    rule: Literal["exact", "binned"] = "exact"
    scope: Literal["relation", "global"] = "relation"
    bins: int = 10
    edges_from: Literal["train", "all"] = "train"
    splits: int = 100
    train_share: float = 0.75
    seed: int = 0
    thresholds_: dict[str, float] = field(init=False, repr=False, compare=False)
    global_threshold_: float = field(init=False, repr=False, compare=False)
    estimate_: SplitEstimate | None = field(init=False, repr=False, compare=False)
    scores_: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        table = self.popularity
        for name, fine, allowed in (
            (
                "popularity",
                table is None or isinstance(table, PopularityTable),
                "a PopularityTable or None; make one with PopularityTable({name: page views})",
            ),
            ("rule", self.rule in ("exact", "binned"), "'exact' or 'binned'"),
            ("scope", self.scope in ("relation", "global"), "'relation' or 'global'"),
            ("bins", self.bins >= 1, "at least 1"),
            ("edges_from", self.edges_from in ("train", "all"), "'train' or 'all'"),
            ("splits", self.splits >= 0, "at least 0"),
            ("train_share", 0 < self.train_share < 1, "between 0 and 1, both excluded"),
        ):
            if not fine:
                raise BadInput(
                    f"PopularityRouter.{name} is {getattr(self, name)!r}; allowed: {allowed}."
                )

    def fit(self, outcomes: Sequence[Outcome]) -> PopularityRouter:
        """Learn the thresholds; returns itself.

        Outcomes of unknown popularity are left out, as in the paper. `estimate_` is None if
        `splits` is 0, or if no relation has a question to spare for a test part.

        Raises `BadInput` if an outcome lacks an arm or is not in [0, 1], if no popularity is known,
        or if popularities look like logarithms or differ from the table's by more than a factor of
        five, which two units do; the router is then as it was.
        """
        views, gain, weights, groups = self._arrays(outcomes)
        thresholds = {
            relation: self._best(views[rows], gain[rows], views[rows])
            for relation, rows in groups.items()
            if relation is not None
        }
        overall = self._best(views, gain, views)
        estimate = self._estimate(views, gain, weights, groups)
        self.thresholds_, self.global_threshold_ = thresholds, overall
        self.estimate_, self.scores_ = estimate, np.sort(views)
        return self

    def decide(self, question: Question, signals: Signals = NO_SIGNALS) -> Decision:
        """Retrieval if the popularity is below the threshold, weights at it and above.

        A popularity of 0 is known, and rare. Unknown popularity (None, and nothing found by the
        table) is treated as rare: retrieval, score None. Negative numbers and NaN are no
        popularity: `Question` and the table refuse them. The threshold is the relation's, or the
        global one if the relation was not in the fitting questions or is None.

        Raises `NotTrained` before `fit`.
        """
        if not hasattr(self, "thresholds_"):
            raise NotTrained(
                "this PopularityRouter has no thresholds yet; call fit(outcomes) first, with "
                "outcomes of both roads (memkit.protocols.outcomes makes them)."
            )
        views, origin = question.popularity, ""
        if views is None:
            origin = "no popularity table"
            if self.popularity is not None:
                found = self.popularity.lookup(question)
                views, origin = found.value, str(found)
        relation = question.relation
        threshold = None if relation is None else self.thresholds_.get(relation)
        scope = f"for relation {relation}"
        if threshold is None:
            threshold = self.global_threshold_
            scope = "over all relations" + ("" if relation is None else f" ({relation} is unseen)")
        if views is None:
            reason = f"popularity unknown, treated as rare: {origin}"
            return Decision("retrieval", None, threshold, reason)
        below = views < threshold
        reason = f"{views:.10g} {'<' if below else '>='} {threshold:.10g} {scope}"
        if origin:
            reason += f"; {origin}"
        return Decision("retrieval" if below else "weights", views, threshold, reason)

    def _arrays(
        self, outcomes: Sequence[Outcome]
    ) -> tuple[Floats, Floats, Floats, Mapping[str | None, Rows]]:
        """Popularity, gain by retrieval, correctness of weights; and the rows of each relation."""
        check_outcomes(outcomes, "PopularityRouter")
        table: list[tuple[float, float, float]] = []
        groups: dict[str | None, list[int]] = {}
        for outcome in outcomes:
            question = outcome.question
            views = question.popularity
            if views is None and self.popularity is not None:
                views = self.popularity.lookup(question).value
            if views is not None:
                own = question.relation if self.scope == "relation" else None
                groups.setdefault(own, []).append(len(table))
                table.append((views, outcome.retrieval - outcome.weights, outcome.weights))
        if not table:
            raise BadInput(
                f"none of {len(outcomes)} outcomes has a known popularity; allowed: at least one. "
                "Give the questions a popularity, or the router a PopularityTable."
            )
        views_, gain, weights = np.array(table, dtype=float).T
        _check_unit(views_, self.popularity, outcomes)
        return views_, gain, weights, {name: np.array(rows) for name, rows in groups.items()}

    def _best(self, views: Floats, gain: Floats, seen: Floats) -> float:
        """The best threshold among the rule's candidates; `seen` makes the bins."""
        inner = np.unique(views) if self.rule == "exact" else self._edges(seen)
        return best_threshold(views, gain, np.concatenate([[0.0], inner, [np.inf]]))

    def _edges(self, seen: Floats) -> Floats:
        """Inner edges of equal-width bins of ln popularity; a single value makes a single bin."""
        logs = np.log(np.unique(seen[seen > 0]))
        if logs.size < 2:
            return np.empty(0)
        return np.exp(np.linspace(logs[0], logs[-1], self.bins + 1)[1:-1])

    def _estimate(
        self, views: Floats, gain: Floats, weights: Floats, groups: Mapping[str | None, Rows]
    ) -> SplitEstimate | None:
        """Fit on a random part of each relation, score the rest; mean over the splits."""
        cuts = {name: max(1, int(self.train_share * len(r))) for name, r in groups.items()}
        tested = len(views) - sum(cuts.values())
        if not self.splits or not tested:
            return None
        rng = np.random.default_rng(self.seed)
        accuracies, rates = np.empty(self.splits), np.empty(self.splits)
        for split in range(self.splits):
            mixed = {name: rng.permutation(rows) for name, rows in groups.items()}
            right = retrieved = 0.0
            for name, rows in mixed.items():
                train, test, seen = rows[: cuts[name]], rows[cuts[name] :], rows
                if name is None:  # such questions are decided by the global threshold
                    train = np.concatenate([r[: cuts[n]] for n, r in mixed.items()])
                    seen = np.arange(len(views))
                basis = views[seen] if self.edges_from == "all" else views[train]
                below = views[test] < self._best(views[train], gain[train], basis)
                right += float((weights[test] + below * gain[test]).sum())
                retrieved += float(below.sum())
            accuracies[split], rates[split] = right / tested, retrieved / tested
        return SplitEstimate(
            float(accuracies.mean()), float(accuracies.std()), float(rates.mean()), tested
        )


def _check_unit(views: Floats, table: PopularityTable | None, outcomes: Sequence[Outcome]) -> None:
    """Raise `BadInput` for popularities that are not page views, or not in the table's unit."""
    if len(views) >= 20 and views.max() <= LARGEST_LOG and (views != np.round(views)).mean() > 0.5:
        raise BadInput(
            f"the popularities lie in [{views.min():.4g}, {views.max():.4g}] and are not whole, as "
            "logarithms are; allowed: monthly page views. Give exp (or 10 to the power) of them."
        )
    if table is None:
        return
    both = [
        (own, theirs)
        for own, theirs in (
            (o.question.popularity, table.lookup(replace(o.question, popularity=None)).value)
            for o in outcomes
            if o.question.popularity and o.question.subject is not None
        )
        if theirs
    ]
    if len(both) < 20:
        return
    ratio = float(np.median([own / theirs for own, theirs in both]))
    if not 0.2 <= ratio <= 5:
        raise BadInput(
            f"the questions' popularity is {ratio:.3g} times (median) that of the PopularityTable "
            f"for the same {len(both)} subjects; allowed: the same unit, monthly page views, in "
            "both. Convert one of them."
        )
