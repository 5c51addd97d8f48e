"""One batch of facts spread over several layers: what MEMIT and AlphaEdit share.

For facts with targets z (the residual stream after the last layer, at the subject's end, before any
change) and for the layers in ascending order, each with those below already changed:

    K = keys, E = Z - the stream as it is now, R = E / (layers left)
    Delta = R K^T A^-1,  A = A_0 + sum of past K_p K_p^T + K K^T

(Meng et al., MEMIT, arXiv:2210.07229, eq. 14, 19, 20). What differs is A_0: lambda C for MEMIT, and
a I within the null space of the keys to preserve for AlphaEdit. All that is asked of it is how its
inverse acts on keys, since with P = [past keys, K], Y = A_0^-1 P

    A^-1 P = Y (I + P^T Y)^-1

which is solved in float64 for as many unknowns as P has directions, also for small A_0. The
past keys keep what was written before: without them a sequence of batches forgets the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from memkit.editors.base import Draft, Made
from memkit.editors.reading import context_keys, streams
from memkit.editors.values import Objective, find_values

if TYPE_CHECKING:
    from memkit.lm.layouts import Site

__all__ = ["Inverse", "new_columns", "spread"]

Inverse = Callable[[Tensor], Tensor]  # A_0^-1 P from P [d_in, n], float64


def new_columns(inverse: Inverse, keys: Tensor, count: int) -> Tensor:
    """(A_0 + P P^T)^-1 P for the last `count` columns of P, [d_in, count], float64.

    P is taken apart into its singular vectors first: where A_0 is small, keys that depend on each
    other (one subject twice, or more keys than d_in) would cost all digits.
    """
    left, sizes, right = torch.linalg.svd(keys, full_matrices=False)
    kept = sizes > sizes[0] * max(keys.shape) * torch.finfo(keys.dtype).eps
    own = left[:, kept] * sizes[kept]
    solved = inverse(own)
    inner = torch.eye(own.shape[1], dtype=keys.dtype, device=keys.device) + own.T @ solved
    columns: Tensor = torch.linalg.solve(inner, solved, left=False) @ right[kept, -count:]
    return columns


def spread(
    draft: Draft,
    sites: Sequence[Site],
    layers: Sequence[int],
    contexts: Sequence[str],
    goal: Objective,
    inverses: Sequence[Inverse],
    *,
    history: bool,
) -> Made:
    """Write the draft's facts into the sites' weights; `inverses` are the sites' A_0^-1."""
    lm, facts = draft.lm, draft.facts
    values = find_values(lm, facts, contexts, layers[-1], goal, "stream")
    wanted = torch.stack([value.target for value in values]).double()
    state: dict[str, Tensor] = {}
    for place, (site, inverse) in enumerate(zip(sites, inverses, strict=True)):
        keys = mean_keys(context_keys(lm, facts, contexts, site)).T
        name = f"keys.{site.name}"
        past = [step.state[name].to(keys) for step in draft.past if history and name in step.state]
        residual = (wanted.to(keys) - streams(lm, facts, layers[-1])).T
        right = new_columns(inverse, torch.cat([*past, keys], dim=1), len(facts))
        draft.add(site, residual / (len(sites) - place), right)
        state[name] = keys.float()
    left = wanted.to(residual) - streams(lm, facts, layers[-1])
    details: list[Mapping[str, float]] = [
        {
            "loss before": value.first,
            "loss": value.last,
            "steps": value.steps,
            "delta / v0": float(value.delta.norm() / value.clean.norm()),
            "residual / delta": float(rest.norm() / value.delta.norm().clamp(min=1e-30)),
        }
        for value, rest in zip(values, left, strict=True)
    ]
    return Made(details, state=state)


def mean_keys(keys: Tensor) -> Tensor:
    """One key a fact from [facts, contexts, d_in]: half the bare prompt's, half the others' mean.

    As MEMIT's published code weighs them.
    """
    if keys.shape[1] == 1:
        return keys[:, 0]
    return (keys[:, 0] + keys[:, 1:].mean(dim=1)) / 2
