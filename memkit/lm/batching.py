"""Batches of rows of unequal length, padded so that no row's result depends on the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["batches", "padded", "positions", "windows"]

PAD = 0  # any id will do: padding is masked everywhere, and no tokenizer need have a pad token


def batches(lengths: Sequence[int], size: int, tokens: int | None = None) -> Iterator[list[int]]:
    """Indices in groups of at most `size`, of similar length, the longest first.

    With `tokens`, a group has at most that many, padding included, or is a single row.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        room = size if tokens is None else max(1, tokens // max(1, lengths[order[start]]))
        yield order[start : start + min(size, room)]
        start += min(size, room)


def padded(
    rows: Sequence[Sequence[int]], device: torch.device, *, left: bool
) -> tuple[Tensor, Tensor]:
    """Ids and mask (1 for a token, 0 for padding), each [rows, longest], padded on one side."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), PAD, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        place = slice(longest - len(row), None) if left else slice(len(row))
        ids[i, place] = torch.tensor(row, dtype=torch.long)
        mask[i, place] = 1
    return ids.to(device), mask.to(device)


def positions(mask: Tensor) -> Tensor:
    """Position ids that count a row's tokens from 0; padding gets 0."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def windows(ids: list[int], window: int) -> list[tuple[list[int], list[int]]]:
    """Pairs (given, scored) of at most `window` ids together, each id but the first scored once."""
    parts, done = [], 1
    while done < len(ids):
        start = max(0, done - window // 2) if done > 1 else 0
        end = min(start + window, len(ids))
        parts.append((ids[start:done], ids[done:end]))
        done = end
    return parts
