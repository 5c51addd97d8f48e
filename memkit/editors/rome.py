"""ROME (Meng, Bau, Andonian and Belinkov, NeurIPS 2022, arXiv:2202.05262), r-ROME by default.

An MLP's down-projection W is read as a linear associative memory of keys k (its input at the
subject's last token) and values v (its output). One pair (k*, v*) is written by the rank-one change
that disturbs the stored keys least in the metric of their second moment C:

    u = C^-1 k* / |C^-1 k*|,   W' = W + (v* - (W k + b)) u^T / (k . u),   so that W' k + b = v*

k* is the mean key over contexts; v* comes from `memkit.editors.values`. Which k stands in the last
formula is the variant:

    "r"         the same mean key in both halves (Gupta et al. 2024, Rebuilding ROME); the default
    "official"  the bare prompt's key, as the published code does: two keys are mixed, and where
                they disagree k . u vanishes and the change blows up ("disabling edits")
    "p"         the bare prompt's key everywhere

Departures from the published code: contexts, C and all else are this handle's, never a global;
positions come from character offsets; several facts are written one after another; C is solved in
float64 by a Cholesky factor. `statistics.identity` is a labelled ablation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from memkit.editors.base import Draft, Editor, Made
from memkit.editors.choice import choose
from memkit.editors.contexts import rome_contexts
from memkit.editors.guards import check_divisor
from memkit.editors.reading import context_keys, moments
from memkit.editors.statistics import Statistics
from memkit.editors.values import Objective, find_values
from memkit.errors import BadInput
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["ROME"]


@dataclass(frozen=True, kw_only=True)
class ROME(Editor):
    """Write facts one at a time into one MLP down-projection.

    layer: where, counted from 0. None: of the known model's preset, else by a sweep over the layers
        on the first facts.
    variant: which key the update divides by; see above.
    steps, lr, clamp, decay, drift, stop: of the search for v*, as `memkit.editors.values` says; the
        first four are those of the known model's preset where they are None.
    contexts: templates with one "{}", the first one "{}" itself. None: ROME's own 21, sampled from
        the model.
    statistics: how C is estimated.
    """

    layer: int | None = None
    variant: Literal["r", "official", "p"] = "r"
    steps: int | None = None
    lr: float | None = None
    clamp: float | None = None
    decay: float | None = None
    drift: float = 0.0625
    stop: float = 0.05
    contexts: tuple[str, ...] | None = None
    statistics: Statistics = Statistics()

    def __post_init__(self) -> None:
        """Check the variant and the contexts."""
        super().__post_init__()
        if self.variant not in ("r", "official", "p"):
            raise BadInput(f"variant is {self.variant!r}; allowed: 'r', 'official' or 'p'.")
        check_contexts(self.contexts)

    def fitted(self, lm: LM, facts: Sequence[Fact]) -> tuple[Self, dict[str, str]]:
        """Layer and settings chosen for the model."""
        return choose(self, lm, facts, "rome")

    def write(self, draft: Draft) -> Made:
        """Write the draft's facts, one after another."""
        assert self.layer is not None
        lm = draft.lm
        site = lm.layout.site(lm.model, self.layer)
        (second,) = moments(draft, self.statistics, [site])
        contexts = self.contexts or draft.once("contexts", lambda: rome_contexts(lm, self.seed))
        goal = objective(self)
        details: list[Mapping[str, float]] = []
        warnings: list[str] = []
        for fact in draft.facts:
            keys = context_keys(lm, [fact], contexts, site)[0]
            mean = keys[0] if self.variant == "p" else keys.mean(dim=0)
            key = mean if self.variant == "r" else keys[0]
            (value,) = find_values(lm, [fact], contexts, self.layer, goal, "mlp")
            direction = second.solve(mean[:, None])[:, 0]
            direction = direction / direction.norm()
            divisor = float(key @ direction)
            warnings += check_divisor(fact, self.guards, divisor / float(mean @ direction))
            output = site.weight.to(key.dtype).to(key.device) @ key
            if site.bias is not None:
                output = output + site.bias.to(output)
            change = (value.target.to(output) - output) / divisor
            draft.add(site, change[:, None].to(site.weight.device), direction[:, None])
            details.append(
                {
                    "loss before": value.first,
                    "loss": value.last,
                    "steps": value.steps,
                    "delta / v0": float(value.delta.norm() / value.clean.norm()),
                    "divisor": divisor,
                }
            )
        return Made(details, warnings)


def objective(editor: Any) -> Objective:
    """The search's settings, once they are chosen."""
    return Objective(editor.steps, editor.lr, editor.clamp, editor.decay, editor.drift, editor.stop)


def check_contexts(contexts: tuple[str, ...] | None) -> None:
    """Raise `BadInput` unless there is one "{}" in each and the first one is "{}" itself."""
    if contexts is None:
        return
    if not contexts or contexts[0] != "{}" or any(text.count("{}") != 1 for text in contexts):
        raise BadInput(
            f"contexts is {contexts!r:.200}; allowed: templates with one '{{}}' each, the first "
            "one '{}' itself. Put it first."
        )
