"""FT+Retrain: fine-tuning, and every so many facts a new start on all of them.

A baseline of the GRACE paper (Hartvigsen et al., NeurIPS 2023, arXiv:2211.11031): facts are
fine-tuned as they come; when the handle has written another `every` of them, the base weights are
put back and trained on all facts so far. Its cost grows with the history.

Departures from the paper's code (Thartvigsen/GRACE, which does not run): it never puts the base
weights back (`reset=False`); there the fact that comes is written once more after the retraining;
the retraining's time is not logged. A fact that was written anew with another target counts with
its newest one only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from memkit.editors.base import Draft, Made
from memkit.editors.finetune import FineTune, history
from memkit.lm.checks import check_count

__all__ = ["FineTuneRetrain"]


@dataclass(frozen=True, kw_only=True)
class FineTuneRetrain(FineTune):
    """Fine-tuning that starts anew from the base weights every `every` facts.

    every: the step of a handle in which its facts reach a multiple of this trains on all facts so
        far instead of its own. The weights then depend on these facts, their order and the seed,
        and not on how they were written before.
    retrain_epochs: passes over them at most.
    reset: put the base weights back before; False goes on from the present ones.

    The other fields are those of `FineTune`, `batch_size` of the retraining too. The report's
    details have "trained on", the number of facts, besides.
    """

    batch_size: int = 1
    every: int = 50
    retrain_epochs: int = 5
    reset: bool = True

    def __post_init__(self) -> None:
        """Check the counts."""
        super().__post_init__()
        check_count("every", self.every)
        check_count("retrain_epochs", self.retrain_epochs)

    def write(self, draft: Draft) -> Made:
        """Train on the facts of the draft, or on all of the handle's."""
        before = sum(len(step.facts) for step in draft.past)
        rows = own = self._examples(draft.lm, draft.facts)
        if before // self.every == (before + len(own)) // self.every:
            steps = self._fit(draft, rows)
        else:
            rows = [*self._examples(draft.lm, history(draft)), *own]
            if self.reset:
                for name in self._names(draft.lm):
                    draft.reset(name)
            steps = replace(self, epochs=self.retrain_epochs)._fit(draft, rows)
        return self._made(draft.lm, own, steps, **{"trained on": len(rows)})
