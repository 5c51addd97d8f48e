from __future__ import annotations

import dataclasses

import pytest
import torch

from memkit import LM
from memkit.benchmarks.opinions import load
from memkit.errors import BadInput
from memkit.world import BERTRecipe, Caseload, measure, opinions, shipped, train
from memkit.world.law import CLAUSES

SMALL = Caseload(train=120, test=10, shifted=10, shifted_holdout=10)
TINY = BERTRecipe(
    steps=3, rows=8, layers=1, width=32, heads=2, inner=32, vocabulary=1_000, window=400, warm_up=1
)


@pytest.fixture(scope="module")
def made():
    return opinions(0, SMALL)


@pytest.fixture(scope="module")
def lm():
    return LM.load(shipped("bert"), device="cpu")


def test_training_lowers_the_loss_and_leaves_the_random_state_alone(made):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    untaught = LM(*train(made, TINY))
    assert torch.equal(torch.get_rng_state(), before)
    taught = LM(*train(made, dataclasses.replace(TINY, steps=100, learning_rate=5e-3)))
    seen = [opinion for opinion in made if opinion.split == "train"][:40]
    losses = [
        -sum(s.total for s in m.logprob([o.text for o in seen], [o.label for o in seen]))
        for m in (untaught, taught)
    ]
    assert losses[1] < 0.8 * losses[0]
    assert untaught.kind == "classifier"


def test_equal_seeds_train_equal_models(made):
    models = [train(made, dataclasses.replace(TINY, seed=seed))[0] for seed in (0, 0, 1)]
    one, same, other = (model.state_dict()["classifier.weight"] for model in models)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_opinions_without_the_train_split_are_refused(made):
    shown = [opinion for opinion in made if opinion.split != "train"]
    with pytest.raises(BadInput, match="none of the 30 opinions is of the split 'train'; allowed"):
        train(shown, TINY)


def test_an_opinion_longer_than_the_window_is_refused(made):
    with pytest.raises(BadInput, match="tokens; allowed: 50, the window"):
        train(made, dataclasses.replace(TINY, window=50))


def test_the_shipped_model_is_right_on_old_years_and_wrong_on_many_new_ones(lm):
    shown = [*load(split="test"), *load(split="shifted")[::4], *load(split="shifted_holdout")[::2]]
    figures = measure(lm, shown)
    assert 0.9 <= figures["accuracy, test"] < 1
    assert 0.5 <= figures["accuracy, shifted"] <= 0.65
    assert 0.5 <= figures["accuracy, shifted_holdout"] <= 0.65


def test_the_shipped_model_names_issue_areas_and_takes_every_opinion_whole(lm):
    assert lm.model.config.label2id.keys() == CLAUSES.keys()
    assert max(lm.count_tokens(opinion.text) for opinion in load()) <= lm.window
    opinion = load(split="test")[0]
    scores = lm.logprob([opinion.text] * len(CLAUSES), list(CLAUSES))
    assert sum(score.argmax == (True,) for score in scores) == 1
    assert abs(sum(torch.tensor(score.total).exp().item() for score in scores) - 1) < 1e-4
