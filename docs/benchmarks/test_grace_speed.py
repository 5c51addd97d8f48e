"""What GRACE costs at inference: `OMP_NUM_THREADS=1 pytest docs/benchmarks/test_grace_speed.py`.

`LM.generate` with a codebook of 10, 1,000 and 100,000 keys over a map, beside the same call without
it. The model is a random GPT-2 of 124 million parameters (12 layers, width 768), the prompts are
8 of 5 to 40 words with 32 new tokens each, one of them matches. `test_ratio` takes the calls in
turn and prints the ratios of the least processor times (on a GPU, wall times): `-k ratio`. `KEYS`,
`ROUNDS` and `DEVICE` of the environment change how much it does and where, `PLOT` names a picture.
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
DEVICE = os.environ.get("DEVICE", "cpu")
PLOT = os.environ.get("PLOT")
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
    return LM(model.requires_grad_(False).to(DEVICE), tokenizer)


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
        key = torch.randn(book.keys.shape[1], generator=generator).to(DEVICE) * spread
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


def test_ratio(lm, prompts, capsys):
    """Time with the codebook over that without it."""
    ratios = {
        projection: [ratio(lm, prompts, projection, keys) for keys in KEYS]
        for projection in ("down", "up")
    }
    with capsys.disabled():
        for projection, row in ratios.items():
            for keys, value in zip(KEYS, row, strict=True):
                print(f"\n{projection}, {keys:,} keys, {DEVICE}: {value:.3f} times the base model")
    if PLOT:
        draw(ratios)


def ratio(lm, prompts, projection, keys):
    generate(lm, prompts)
    with filled(lm, projection, keys) as edit:
        spent = {"with": math.inf, "without": math.inf}
        for _ in range(ROUNDS):
            spent["with"] = min(spent["with"], timed(lm, prompts))
            with edit.paused():
                spent["without"] = min(spent["without"], timed(lm, prompts))
        found, _ = edit.adaptor.codebook.look_up(edit.adaptor.codebook.keys[:1])
        assert found.item()
    return spent["with"] / spent["without"]


def timed(lm, prompts):
    if DEVICE == "cpu":
        start = time.process_time()
        generate(lm, prompts)
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    generate(lm, prompts)
    torch.cuda.synchronize()
    return time.perf_counter() - start


def draw(ratios):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    axes = figure.subplots()
    for projection, row in ratios.items():
        axes.plot(KEYS, row, marker="o", label=f"over the MLP's {projection}-projection")
    axes.axhline(1.3, color="grey", linestyle=":", label="the paper's 1.3")
    axes.axhline(1.05, color="grey", linestyle="--", label="1.05")
    axes.set_xscale("log")
    axes.set_ylim(0.9, 1.4)
    axes.set_xlabel("keys in the codebook")
    axes.set_ylabel("time / base model's")
    where = "one CPU thread" if DEVICE == "cpu" else "GPU"
    axes.set_title(f"Generating under GRACE, GPT-2 of 124 M, {where}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(PLOT, dpi=160)
