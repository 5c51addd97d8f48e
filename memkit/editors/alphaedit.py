"""AlphaEdit (Fang et al., ICLR 2025, arXiv:2410.02355): MEMIT within the null space of kept keys.

With C = U S U^T and P = U_0 U_0^T over the singular values below a threshold, an update of the form
Delta = X^T P leaves the outputs of the keys that C is made of (nearly) as they are:

    Delta = R K^T P (K_p K_p^T P + K K^T P + ridge I)^-1

which is the form of `memkit.editors.spread` with A_0^-1 = P / ridge. Layers, contexts, targets and
residuals are MEMIT's; the keys of the handle's earlier steps are always kept (K_p).

Departures from the published code: P is kept with the moments it comes from, never in a global or
the working directory; float64; the solve has as many unknowns as there are keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from memkit.editors.base import Draft, Editor, Made
from memkit.editors.choice import choose
from memkit.editors.contexts import memit_contexts
from memkit.editors.memit import check_layers
from memkit.editors.moments import Moments
from memkit.editors.reading import moments
from memkit.editors.rome import check_contexts, objective
from memkit.editors.spread import Inverse, spread
from memkit.editors.statistics import Statistics
from memkit.errors import BadInput
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["AlphaEdit", "null_space"]


@dataclass(frozen=True, kw_only=True)
class AlphaEdit(Editor):
    """Write a batch of facts where the keys to preserve do not reach.

    layers: as in MEMIT.
    threshold: singular values of C below it span the null space; absolute, as in the paper. None:
        the preset's, else 2e-2.
    null_share: take the directions of the smallest singular values, this share of d_in, in place
        of a threshold. None: by the threshold.
    ridge: of the solve. None: the preset's, else 10.
    steps, lr, clamp, decay, drift, stop, contexts, statistics: as in MEMIT.
    """

    layers: tuple[int, ...] | None = None
    threshold: float | None = None
    null_share: float | None = None
    ridge: float | None = None
    steps: int | None = None
    lr: float | None = None
    clamp: float | None = None
    decay: float | None = None
    drift: float = 0.0625
    stop: float = 0.05
    contexts: tuple[str, ...] | None = None
    statistics: Statistics = Statistics()

    def __post_init__(self) -> None:
        """Check layers, share, ridge and contexts."""
        super().__post_init__()
        check_layers(self.layers)
        if self.null_share is not None and not 0 < self.null_share <= 1:
            raise BadInput(
                f"null_share is {self.null_share!r}; allowed: above 0 and at most 1, or None."
            )
        if self.ridge is not None and not self.ridge > 0:
            raise BadInput(f"ridge is {self.ridge!r}; allowed: a number above 0, or None.")
        check_contexts(self.contexts)

    def fitted(self, lm: LM, facts: Sequence[Fact]) -> tuple[Self, dict[str, str]]:
        """Layers and settings chosen for the model."""
        return choose(self, lm, facts, "alphaedit")

    def write(self, draft: Draft) -> Made:
        """Write the draft's facts, all at once."""
        assert self.layers is not None
        assert self.ridge is not None
        lm, ridge = draft.lm, self.ridge
        sites = [lm.layout.site(lm.model, layer) for layer in self.layers]
        contexts = self.contexts or draft.once("contexts", lambda: memit_contexts(lm, self.seed))
        bases = self._bases(draft, moments(draft, self.statistics, sites))

        def inverse(basis: Tensor) -> Inverse:
            def apply(keys: Tensor) -> Tensor:
                own = basis.to(keys)
                return own @ (own.T @ keys) / ridge

            return apply

        inverses = [inverse(basis) for basis in bases]
        made = spread(draft, sites, self.layers, contexts, objective(self), inverses, history=True)
        sizes = ", ".join(f"{basis.shape[1]} of {basis.shape[0]}" for basis in bases)
        return replace(made, chosen={"null space": f"{sizes} dimensions"})

    def _bases(self, draft: Draft, seconds: Sequence[Moments]) -> list[Tensor]:
        """The null spaces' bases, kept as the moments are."""
        key = ("null spaces", self.statistics, self.layers, self.threshold, self.null_share)
        assert self.threshold is not None
        lm, threshold, share = draft.lm, self.threshold, self.null_share

        def find() -> list[Tensor]:
            return [null_space(second, threshold, share) for second in seconds]

        return draft.once(key, lambda: lm.keep(key, find, slot="null spaces"))


def null_space(second: Moments, threshold: float, share: float | None = None) -> Tensor:
    """Basis U_0 [d_in, r] of the directions in which the keys of C hardly reach; P = U_0 U_0^T.

    Those with singular values below the threshold, or the smallest ones that make up a share of
    d_in. Raises `BadInput` if there is none.
    """
    values, vectors = torch.linalg.eigh(second.matrix)
    count = int((values < threshold).sum()) if share is None else round(share * len(values))
    if count == 0:
        raise BadInput(
            f"the null space of {second.site} is empty: the smallest singular value is "
            f"{float(values[0]):.3g}, threshold {threshold!r}, null_share {share!r}; allowed: at "
            "least one direction. Raise the threshold, or name a null_share."
        )
    basis: Tensor = vectors[:, :count]
    return basis
