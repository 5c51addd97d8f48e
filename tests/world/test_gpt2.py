from __future__ import annotations

import dataclasses
import json
import random

import pytest
import torch

from memkit import LM
from memkit.errors import BadInput
from memkit.files import sha256
from memkit.types import Question
from memkit.world.folder import make
from memkit.world.generate import Sizes, generate
from memkit.world.gpt2 import GPT2Recipe, train
from memkit.world.reading import Reader
from memkit.world.text import Statements, trained_facts

SMALL = Sizes(people=30, cities=10, companies=6, countries=4, new=6)
TINY = GPT2Recipe(
    layers=1, width=32, heads=2, vocabulary=600, steps=4, statement_rows=2, exercises=2, warm_up=1
)


@pytest.fixture(scope="module")
def world():
    return generate(0, SMALL)


@pytest.fixture(scope="module")
def facts(world):
    return trained_facts(world)


def test_new_entities_are_in_no_training_text(world, facts):
    new = {q.subject for q in world.questions if q.popularity == 0}
    assert len(new) == SMALL.new
    statements, reader, rng = Statements(world, facts), Reader.of(world, facts), random.Random(0)
    texts = ["".join(statements.word(rng, statements.draw(rng))) for _ in range(500)]
    for _ in range(300):
        texts += [reader.copying(rng).prompt, reader.remembering(rng, facts[0]).prompt]
    assert not [text for text in texts if any(name in text for name in new)]


def test_popular_facts_are_stated_more_often_up_to_a_ceiling(world, facts):
    statements, rng = Statements(world, facts, ceiling=0.1), random.Random(0)
    views = {q.id: q.popularity for q in world.questions}
    drawn = [statements.draw(rng).id for _ in range(20_000)]
    ordered = sorted(facts, key=lambda fact: -views[fact.id])
    limit = views[ordered[int(0.1 * len(ordered))].id]
    total = sum(min(views[fact.id], limit) for fact in facts)
    for fact in (ordered[0], ordered[len(ordered) // 4], ordered[len(ordered) // 2]):
        expected = 20_000 * min(views[fact.id], limit) / total
        assert abs(drawn.count(fact.id) - expected) < 5 * expected**0.5 + 1


def test_the_answer_of_a_reading_exercise_stands_in_its_context(world, facts):
    reader, rng = Reader.of(world, facts), random.Random(1)
    known = {(fact.subject, fact.target) for fact in facts}
    told = 0
    for _ in range(300):
        exercise = reader.copying(rng)
        assert exercise.answer in exercise.prompt
        told += any(s in exercise.prompt and t == exercise.answer for s, t in known)
    assert told < 60  # a few by chance: names are drawn at random


def test_an_exercise_about_another_subject_asks_for_what_the_weights_know(world, facts):
    reader, rng = Reader.of(world, facts), random.Random(2)
    fact = facts[0]
    exercises = [reader.remembering(rng, fact) for _ in range(50)]
    assert {exercise.answer for exercise in exercises} == {fact.target}
    assert all(fact.subject in exercise.prompt.splitlines()[-1] for exercise in exercises)


def test_training_lowers_the_loss_and_leaves_the_random_state_alone(world):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    short, tokenizer = train(world, TINY)
    assert torch.equal(torch.get_rng_state(), before)
    long, _ = train(world, dataclasses.replace(TINY, steps=60))
    ids = tokenizer(world.passages[0].text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert long(ids, labels=ids).loss < short(ids, labels=ids).loss - 0.1


def test_equal_seeds_train_equal_models(world):
    one, _ = train(world, TINY)
    same, _ = train(world, TINY)
    other, _ = train(world, dataclasses.replace(TINY, seed=1))
    weights = [model.state_dict()["transformer.wte.weight"] for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert weights[0].shape != weights[2].shape or not torch.equal(weights[0], weights[2])


def test_a_made_world_is_whole_and_its_card_is_true(world, tmp_path):
    card = make(world, tmp_path / "w", TINY, origin={"seed": 0})
    assert json.loads((tmp_path / "w" / "model" / "card.json").read_text(encoding="utf-8")) == card
    for name, digest in card["sha256"].items():
        assert sha256(tmp_path / "w" / name) == digest
    assert set(card["measured"]) == {
        "closed book, head",
        "closed book, tail",
        "gold passage, tail",
        "wrong passage, head",
    }
    lm = LM.load(tmp_path / "w" / "model")
    assert lm.window == TINY.window
    with pytest.raises(BadInput, match="exists"):
        make(world, tmp_path / "w", TINY)


def test_an_interrupted_training_leaves_nothing(world, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("memkit.world.folder.measure", stop)
    with pytest.raises(KeyboardInterrupt):
        make(world, tmp_path / "w", TINY)
    assert not list(tmp_path.iterdir())


def test_a_world_without_popularity_is_refused(world):
    blank = [Question(q.text, q.answers, q.subject, q.relation, id=q.id) for q in world.questions]
    with pytest.raises(BadInput, match="no fact whose subject has a popularity above 0"):
        train(dataclasses.replace(world, questions=tuple(blank)), TINY)
