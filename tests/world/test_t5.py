from __future__ import annotations

import dataclasses
import json
import random

import pytest
import torch

from memkit import LM, QA
from memkit.benchmarks import miniworld
from memkit.types import Question
from memkit.world import Sizes, T5Recipe, generate, measure, shipped, train

SMALL = Sizes(people=12, cities=6, companies=4, countries=4, new=3)
TINY = T5Recipe(
    steps=3,
    rows=8,
    encoder_layers=1,
    decoder_layers=1,
    width=32,
    heads=2,
    inner=32,
    vocabulary=500,
    window=48,
    warm_up=1,
)


@pytest.fixture(scope="module")
def world():
    return generate(0, SMALL)


@pytest.fixture(scope="module")
def lm():
    return LM.load(shipped("t5"), device="cpu")


def test_training_learns_to_answer_and_leaves_the_random_state_alone(world):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    untaught = LM(*train(world, TINY))
    assert torch.equal(torch.get_rng_state(), before)
    taught = LM(*train(world, dataclasses.replace(TINY, steps=150, learning_rate=5e-3)))
    popular = max(world.facts, key=lambda f: f.relation == "occupation")
    scores = [m.logprob([popular.text], [popular.target])[0].total for m in (untaught, taught)]
    assert scores[1] > scores[0] + 1
    assert untaught.kind == "encoder-decoder"
    assert untaught.window == TINY.window


def test_equal_seeds_train_equal_models(world):
    models = [train(world, dataclasses.replace(TINY, seed=seed))[0] for seed in (0, 0, 1)]
    one, same, other = (model.state_dict()["shared.weight"] for model in models)
    assert torch.equal(one, same)
    assert one.shape != other.shape or not torch.equal(one, other)


def test_the_tokenizer_spells_any_text_and_ends_it(world):
    _, tokenizer = train(world, TINY)
    ids = tokenizer("Qué? 日本")["input_ids"]
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Qué? 日本"
    assert tokenizer.pad_token_id == 0


def test_the_shipped_model_knows_popular_facts_in_all_forms_and_few_rare_ones(lm):
    card = json.loads((shipped("t5") / "card.json").read_text(encoding="utf-8"))["measured"]
    figures = measure(lm, miniworld.load(), limit=100, seed=1)
    for form in ("question", "cloze"):
        assert figures[f"closed book, head, {form}"] >= 0.95
        assert 0.05 <= card[f"closed book, tail, {form}"] <= 0.35
    assert all(abs(figures[name] - value) < 0.15 for name, value in card.items())


def test_the_shipped_model_stops_at_its_end_and_answers_questions_in_a_template(lm):
    asked = random.Random(0).sample(miniworld.load().questions, 20)
    done = lm.complete([question.text for question in asked], max_new_tokens=24)
    assert all(made.tokens[-1] == lm.tokenizer.eos_token_id for made in done)
    assert all(made.text == made.text.strip() != "" for made in done)
    scored = lm.logprob([question.text for question in asked], [made.text for made in done])
    for made, score in zip(done, scored, strict=True):
        assert score.tokens == made.tokens[:-1]
        assert all(score.argmax)
    known = Question("In what city was Kiozork Hix born?", ("Gaerkwick",))
    assert QA(lm).ask(known).text == lm.generate([known.text])[0] == "Gaerkwick"


def test_the_shipped_model_has_the_weight_that_grace_edits(lm):
    site = lm.layout.site(lm.model, 1, "down", "encoder")
    assert site.name == "encoder.block.1.layer.1.DenseReluDense.wo"
    assert tuple(site.weight.shape) == (128, 512)
