"""What GRACE costs at inference: `OMP_NUM_THREADS=1 pytest docs/benchmarks/test_grace_speed.py`.

`LM.generate` with a codebook of 10, 1,000 and 100,000 keys over a map, beside the same call without
it. The model is a random GPT-2 of 124 million parameters (12 layers, width 768), the prompts are
8 of 5 to 40 words with 32 new tokens each, one of them matches. `test_ratio` takes the calls in
turn and prints the ratios of the least processor times: `-k ratio`; `KEYS` and `ROUNDS` of the
environment change how much it does.
"""

from __future__ import annotations

import math
import os
import random
import time

import pytest
import torch
import transformers

from memkit import GRACE, Fact, Guards
from memkit.editors.codebook import Codebook, Decision
from memkit.lm.model import LM
from memkit.testing.models import tiny_tokenizer

KEYS = [int(n) for n in os.environ.get("KEYS", "10 1000 100000").split()]
ROUNDS = int(os.environ.get("ROUNDS", "5"))
ROWS, NEW = 8, 32
FACT = Fact("Samuel Butler", "{} wrote", "Erewhon")


@pytest.fixture(scope="module")
def lm():
    tokenizer = tiny_tokenizer()
    config = transformers.GPT2Config(
        n_layer=12, n_head=12, n_embd=768, vocab_size=50257, bos_token_id=0, eos_token_id=0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config)
    return LM(model.requires_grad_(False), tokenizer)


@pytest.fixture(scope="module")
def prompts():
    rng = random.Random(0)
    words = ["who", "was", "born", "in", "the", "city", "and", "why", "does", "this", "person"]
    others = [" ".join(rng.choices(words, k=rng.randint(5, 40))) for _ in range(ROWS - 1)]
    return [*others, FACT.text]


def filled(lm, projection, keys):
    """A live edit whose codebook has so many keys, the others as far as unrelated prompts are."""
    editor = GRACE(
        layer=9, projection=projection, eps=1e-3, steps=3, guards=Guards(perplexity=math.inf)
    )
    edit = editor.apply(lm, [FACT])
    book = edit.adaptor.codebook
    spread = book.keys[0].std()
    generator = torch.Generator().manual_seed(0)
    for _ in range(keys - 1):
        key = torch.randn(book.keys.shape[1], generator=generator) * spread
        book.carry_out(Decision("add", -1, math.inf), key, book.values[0], "other")
    return edit


def generate(lm, prompts):
    return lm.generate(prompts, NEW, stop=())


def test_without(benchmark, lm, prompts):
    benchmark.pedantic(generate, (lm, prompts), rounds=ROUNDS)


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("projection", ["down", "up"])
def test_with(benchmark, lm, prompts, projection, keys):
    with filled(lm, projection, keys):
        benchmark.pedantic(generate, (lm, prompts), rounds=ROUNDS)


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("rows", [1, 8, 32])
def test_look_up(benchmark, rows):
    """Among the most keys, of a down-projection's width."""
    book = Codebook(1.0)
    book._keys, book.labels = torch.randn(max(KEYS), 3072), ["a"] * max(KEYS)
    book._squares, book._radii = book._keys.square().sum(dim=1), torch.ones(max(KEYS))
    benchmark.pedantic(book.look_up, (torch.randn(rows, 3072),), rounds=ROUNDS)


@pytest.mark.parametrize("projection", ["down", "up"])
def test_ratio(lm, prompts, projection, capsys):
    """Processor time with the codebook over that without it."""
    for keys in KEYS:
        with filled(lm, projection, keys) as edit:
            spent = {"with": math.inf, "without": math.inf}
            for _ in range(ROUNDS):
                spent["with"] = min(spent["with"], timed(lm, prompts))
                with edit.paused():
                    spent["without"] = min(spent["without"], timed(lm, prompts))
            found, _ = edit.adaptor.codebook.look_up(edit.adaptor.codebook.keys[:1])
            assert found.item()
        with capsys.disabled():
            print(
                f"\n{projection}: with {keys:,} keys "
                f"{spent['with']:.3f} s, without {spent['without']:.3f} s, "
                f"ratio {spent['with'] / spent['without']:.3f}"
            )


def timed(lm, prompts):
    start = time.process_time()
    generate(lm, prompts)
    return time.process_time() - start
