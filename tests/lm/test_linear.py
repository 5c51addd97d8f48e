from __future__ import annotations

import pytest

from memkit import BadInput
from memkit.lm.linear import linear_map, linear_maps
from memkit.testing.models import TINY, tiny_lm


def test_maps_are_found_by_projection_and_by_name():
    lm = tiny_lm("llama")
    maps = linear_maps(lm, ["q_proj", "down"], [0, 2])
    assert [site.name.removeprefix("model.layers.") for site in maps] == [
        "0.self_attn.q_proj",
        "0.mlp.down_proj",
        "2.self_attn.q_proj",
        "2.mlp.down_proj",
    ]
    assert len(linear_maps(tiny_lm("t5"), ["up", "attention"])) == 2 * 2 * 3
    with pytest.raises(BadInput, match=r"\['wrong'\] are nowhere.*'q_proj'"):
        linear_maps(lm, ["up", "wrong"])
    with pytest.raises(BadInput, match="layer is 3; allowed: 0 to 2"):
        linear_maps(lm, ["up"], [3])
    with pytest.raises(BadInput, match="is absent in this"):
        linear_map(lm.model, "model.layers.0.mlp.c_fc")
    with pytest.raises(BadInput, match="shares its weight with the embedding"):
        linear_map(tiny_lm("gpt2").model, "lm_head")


@pytest.mark.parametrize("family", TINY)
def test_projections_are_those_of_the_layout(family):
    lm = tiny_lm(family)
    for projection in ("up", "down", "attention"):
        wanted = [
            lm.layout.site(lm.model, layer, projection, stack).name
            for stack in lm.layout.stacks
            for layer in range(len(lm.layout.layers(lm.model, stack)))
        ]
        found = linear_maps(lm, [projection])
        assert [site.name for site in found] == wanted
        assert all(linear_map(lm.model, site.name) == site for site in found)
