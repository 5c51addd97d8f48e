"""Batches: every row once, similar lengths together, padding on the side that was asked for."""

from __future__ import annotations

import pytest
import torch

from memkit.lm.batching import batches, padded, positions, windows

LENGTHS = [3, 9, 1, 7, 7, 2, 0]


@pytest.mark.parametrize("size", [1, 2, 10])
@pytest.mark.parametrize("tokens", [None, 1, 14, 1000])
def test_batches_hold_every_row_once_and_keep_to_their_limits(size, tokens):
    groups = list(batches(LENGTHS, size, tokens))
    assert sorted(i for group in groups for i in group) == list(range(len(LENGTHS)))
    assert [LENGTHS[i] for group in groups for i in group] == sorted(LENGTHS, reverse=True)
    for group in groups:
        assert 1 <= len(group) <= size
        assert tokens is None or len(group) == 1 or len(group) * LENGTHS[group[0]] <= tokens


def test_padding_and_positions():
    ids, mask = padded([[5, 6, 7], [8]], torch.device("cpu"), left=True)
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert positions(mask).tolist() == [[0, 1, 2], [0, 0, 0]]
    ids, mask = padded([[5, 6, 7], [8]], torch.device("cpu"), left=False)
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize("length", [0, 1, 2, 7, 8, 9, 12, 13, 40])
def test_windows_score_each_token_but_the_first_once(length):
    ids = list(range(length))
    parts = windows(ids, 8)
    assert [i for _, scored in parts for i in scored] == ids[1:]
    for number, (given, scored) in enumerate(parts):
        assert len(given) + len(scored) <= 8
        assert given == ids[scored[0] - len(given) : scored[0]]
        assert len(given) == (1 if number == 0 else 4)
