"""The picture of GRACE in the plane."""

from __future__ import annotations

import pytest
import torch

from memkit.editors.toy import figure
from memkit.errors import BadInput


@pytest.mark.parametrize("seed", range(2))
def test_the_flipped_points_are_learnt_and_the_others_stay(seed):
    toy = figure(seed=seed)
    assert toy.flipped_before < 0.1
    assert toy.flipped_after > 0.7
    assert toy.elsewhere_before > 0.97
    assert toy.elsewhere_after > toy.elsewhere_before - 0.05
    assert 0 < toy.keys < toy.edits < 120  # labels are shared, and only errors are edited


def test_it_is_drawn_the_same_each_time(tmp_path):
    state = torch.random.get_rng_state()
    first, second, picture = (tmp_path / name for name in ("a.svg", "b.svg", "c.png"))
    assert figure(first) == figure(second) == figure(picture)
    assert first.read_bytes() == second.read_bytes()
    assert picture.stat().st_size > 10_000
    assert torch.equal(torch.random.get_rng_state(), state)


def test_another_format_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"grace\.doc'; allowed: a name in .png or .svg"):
        figure(tmp_path / "grace.doc")
    assert list(tmp_path.iterdir()) == []
