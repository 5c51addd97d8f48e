"""A real trained model and real tokenizers, where a developer has them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import transformers

from memkit.lm.model import LM
from memkit.lm.tokens import Codec
from memkit.testing.models import tiny_lm

BOY = "Once upon a time, there was a little boy named "


@pytest.fixture(scope="module")
def stories(shared: Path) -> LM:
    return LM.load(shared / "models" / "tinystories-656k", device="cpu", dtype="float32")


def test_the_most_likely_words_are_those_of_the_card(stories: LM):
    prompt = "<|start_story|>" + BOY
    (done,) = stories.complete([prompt], 1)
    assert done.text == "Tim. Tim "
    tim, short, odd = stories.logprob([prompt] * 3, ["Tim. Tim ", "Tim", "xylophone"])
    assert math.exp(tim.total) == pytest.approx(0.62, abs=0.005)
    assert math.exp(short.total) == pytest.approx(0.28, abs=0.005)
    assert done.logprob == pytest.approx(tim.total, abs=1e-5)
    assert odd.total < -10


def test_the_start_token_comes_once(stories: LM):
    start = stories.tokenizer.bos_token_id
    codec = Codec(stories.tokenizer, 2048, closes=False)
    for prompt in (BOY, "<|start_story|>" + BOY):
        assert codec.prompt(prompt)[0] == start
        assert codec.prompt(prompt).count(start) == 1
        assert stories.count_tokens(prompt) == len(codec.prompt(prompt))


def test_a_batch_of_stories_is_written_as_one_by_one(stories: LM):
    prompts = [
        BOY,
        "The dog ",
        "Lily and Tom went to the park. They saw a big tree and ",
        "One day ",
    ]
    together = stories.complete(prompts, 40)
    assert len({done.text for done in together}) == 4
    for prompt, done in zip(prompts, together, strict=True):
        (alone,) = stories.complete([prompt], 40)
        assert done.tokens == alone.tokens
        ids = torch.tensor([stories.tokenizer(prompt).input_ids])
        whole = stories.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False
        )[0, ids.shape[1] :].tolist()
        assert whole[: len(done.tokens)] == list(done.tokens)


def test_it_finds_stories_likelier_than_shuffled_ones(stories: LM):
    words = (BOY + "Tim. He liked to play with his ball in the park. ").split()
    told, shuffled = " ".join(words), " ".join(sorted(words))
    assert 1 < stories.perplexity([told]) < stories.perplexity([shuffled]) / 5


@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        ("gpt2", " The capital of France is Paris", [383, 3139, 286, 4881, 318, 6342]),
        ("bert-base-uncased", "hello world", [101, 7592, 2088, 102]),
        (
            "t5",
            "translate English to German: The house is wonderful.",
            [13959, 1566, 12, 2968, 10, 37, 629, 19, 1627, 5, 1],
        ),
    ],
)
def test_real_tokenizers(shared: Path, name: str, text: str, ids: list[int]):
    tokenizer = transformers.AutoTokenizer.from_pretrained(shared / "models" / "tokenizers" / name)
    codec = Codec(tokenizer, len(tokenizer), closes=name != "gpt2")
    assert codec.prompt(text) == ids
    if name == "gpt2":
        assert codec.target(text) == ids
        assert codec.texts([ids]) == [text]


@pytest.mark.parametrize(
    ("family", "name", "size"),
    [("gpt2", "gpt2", 50257), ("t5", "t5", 32128), ("bert", "bert-base-uncased", 30522)],
)
def test_real_tokenizers_with_tiny_models(shared: Path, family: str, name: str, size: int):
    folder = shared / "models" / "tokenizers" / name
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    lm = LM(tiny_lm(family, vocab_size=size).model, tokenizer)
    prompts = ["The capital of France is", "One", "Who wrote Erewhon, a novel of 1872? It was"]
    targets = [" Paris", " two three", " Samuel Butler"]
    together = lm.logprob(prompts, targets)
    for prompt, target, result in zip(prompts, targets, together, strict=True):
        assert tokenizer.decode(result.tokens).strip().lower() == target.strip().lower()
        (alone,) = lm.logprob([prompt], [target])
        assert result.per_token == pytest.approx(alone.per_token, abs=1e-4)
    if lm.kind != "masked":
        texts = lm.generate(prompts, 8)
        assert texts == [lm.generate([prompt], 8)[0] for prompt in prompts]
        assert len(set(texts)) == 3
