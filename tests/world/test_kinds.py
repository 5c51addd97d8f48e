from __future__ import annotations

import dataclasses
import json

import pytest

from memkit import LM
from memkit.errors import BadInput
from memkit.files import sha256
from memkit.world import (
    KINDS,
    BERTRecipe,
    Caseload,
    Sizes,
    T5Recipe,
    generate,
    make,
    opinions,
    shipped,
    train,
)

WORLD = generate(0, Sizes(people=8, cities=4, companies=4, countries=4, new=3))
CASES = opinions(0, Caseload(train=20, test=5, shifted=5, shifted_holdout=5))


@pytest.mark.parametrize("kind", KINDS)
def test_the_shipped_cards_are_true(kind):
    folder = shipped(kind)
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    assert card["kind"] == kind
    assert card["recipe"] == dataclasses.asdict(KINDS[kind].recipe())
    assert {name.split("/")[0] for name in card["sha256"]} >= {KINDS[kind].folder}
    for name, digest in card["sha256"].items():
        assert sha256(folder.parent / name) == digest
    model = LM.load(folder, device="cpu").model
    assert card["counts"]["parameters"] == sum(weight.numel() for weight in model.parameters())


def test_an_unknown_kind_is_refused():
    with pytest.raises(BadInput, match="kind is 'gpt3'; allowed: 'gpt2', 't5', 'bert'"):
        shipped("gpt3")


@pytest.mark.parametrize(
    ("recipe", "material", "message"),
    [
        (BERTRecipe(), WORLD, r"a BERTRecipe was given facts; allowed: opinions.*opinions\(seed\)"),
        (T5Recipe(), CASES, r"a T5Recipe was given opinions; allowed: facts.*generate\(seed\)"),
        (None, CASES, "a GPT2Recipe was given opinions"),
    ],
)
def test_a_recipe_on_the_wrong_material_is_refused(recipe, material, message, tmp_path):
    with pytest.raises(BadInput, match=message):
        train(material, recipe)
    with pytest.raises(BadInput, match=message):
        make(material, tmp_path / "w", recipe)
    assert not list(tmp_path.iterdir())


def test_a_made_classifier_comes_with_its_opinions(tmp_path):
    recipe = BERTRecipe(steps=2, rows=4, layers=1, width=16, heads=2, inner=16, window=512)
    card = make(CASES, tmp_path / "w", recipe, origin={"seed": 0})
    assert json.loads((tmp_path / "w/bert/card.json").read_text(encoding="utf-8")) == card
    assert sorted(p.name for p in (tmp_path / "w").iterdir()) == ["bert", "opinions.jsonl"]
    assert list(card["measured"]) == [
        "accuracy, test",
        "accuracy, shifted",
        "accuracy, shifted_holdout",
    ]
    assert card["counts"]["opinions, train"] == 20
