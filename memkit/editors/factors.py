"""Arithmetic on low-rank changes: sums, rows, and the nearest change of a smaller rank.

A change [d_out, d_in] is left [d_out, r] times right [d_in, r] transposed; none of these functions
makes the matrix, and all compute in float64 and give float32. A matrix that has full rank goes with
an identity as one of its factors, so that there is one form for all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memkit.editors.steps import LowRank

__all__ = [
    "dense",
    "of_matrix",
    "row_norms",
    "scaled_rows",
    "summed",
    "svd",
    "truncated",
]


NOISE = torch.finfo(torch.float32).eps  # in which factors are kept


def of_matrix(matrix: Tensor) -> LowRank:
    """A matrix [d_out, d_in] as factors, one of which is an identity."""
    d_out, d_in = matrix.shape
    matrix = matrix.float()
    if d_out <= d_in:
        return LowRank(torch.eye(d_out, device=matrix.device), matrix.T.contiguous())
    return LowRank(matrix.contiguous(), torch.eye(d_in, device=matrix.device))


def dense(change: LowRank) -> Tensor:
    """The matrix [d_out, d_in], in float64."""
    return change.left.double() @ change.right.double().T


def summed(changes: Sequence[LowRank]) -> LowRank:
    """The sum of changes of one shape: their factors side by side, or full rank where that is less.

    A single change is given as it is.
    """
    if len(changes) == 1:
        return changes[0]
    rank = sum(change.left.shape[1] for change in changes)
    if rank > min(changes[0].left.shape[0], changes[0].right.shape[0]):
        total = dense(changes[0])
        for change in changes[1:]:
            total = total + dense(change)
        return of_matrix(total)
    return LowRank(
        torch.cat([change.left for change in changes], dim=1),
        torch.cat([change.right for change in changes], dim=1),
    )


def row_norms(change: LowRank) -> Tensor:
    """The Euclidean norm of each row, [d_out], in float64.

    It is 0 where the rank-one parts of a row cancel down to what rounding of their factors leaves,
    so that nobody takes that for a direction.
    """
    left, right = change.left.double(), change.right.double()
    triangle = torch.linalg.qr(right, mode="r").R
    norms = (left @ triangle.T).norm(dim=1)
    parts = left.abs() @ right.norm(dim=0)
    return torch.where(norms > NOISE * parts, norms, 0.0)


def scaled_rows(change: LowRank, scales: Tensor | float) -> LowRank:
    """Each row times its scale, [d_out], or all times one."""
    scales = torch.as_tensor(scales, dtype=torch.float64, device=change.left.device)
    left = change.left.double() * (scales[:, None] if scales.dim() else scales)
    return LowRank(left.float(), change.right)


def truncated(change: LowRank, rank: int) -> tuple[LowRank, float]:
    """The nearest change of at most this rank, and how far it is, relative to the norm.

    By the Eckart-Young theorem that is the truncated singular value decomposition; the distance is
    the root of the share of the squared singular values that are left out.
    """
    left, values, right = svd(change)
    total = float(values.square().sum())
    lost = float(values[rank:].square().sum())
    roots = values[:rank].sqrt()
    near = LowRank((left[:, :rank] * roots).float(), (right[:, :rank] * roots).float())
    return near, (lost / total) ** 0.5 if total else 0.0


def svd(change: LowRank) -> tuple[Tensor, Tensor, Tensor]:
    """Left singular vectors [d_out, r], values [r] from the largest on, right ones [d_in, r]."""
    q_left, r_left = torch.linalg.qr(change.left.double())
    q_right, r_right = torch.linalg.qr(change.right.double())
    u, values, v = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    return q_left @ u, values, q_right @ v.T
