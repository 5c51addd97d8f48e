"""How fast answers are made: `pytest docs/benchmarks/test_lm_speed.py`.

`LM.complete` beside transformers' own `generate`, both with the log-probability of what they wrote,
on the same left-padded batch. The model is random, of the miniature world's shape.
"""

from __future__ import annotations

import random

import pytest
import torch
import transformers

from memkit.lm.model import LM
from memkit.testing.models import tiny_tokenizer

ROWS, NEW = 32, 16


@pytest.fixture(scope="module")
def lm():
    tokenizer = tiny_tokenizer()
    config = transformers.GPT2Config(
        n_layer=4, n_head=8, n_embd=256, vocab_size=2000, bos_token_id=0, eos_token_id=0
    )
    return LM(transformers.GPT2LMHeadModel(config), tokenizer)


@pytest.fixture(scope="module")
def prompts():
    rng = random.Random(0)
    words = ["who", "was", "born", "in", "the", "city", "and", "why", "does", "this", "person"]
    return [" ".join(rng.choices(words, k=rng.randint(5, 40))) for _ in range(ROWS)]


def test_complete(benchmark, lm, prompts):
    done = benchmark(lm.complete, prompts, NEW, ())
    assert sum(len(row.tokens) for row in done) > ROWS * NEW / 2


def test_complete_with_stop_strings(benchmark, lm, prompts):
    benchmark(lm.complete, prompts, NEW, ("\n", "."))


def test_generate_of_transformers(benchmark, lm, prompts):
    rows = [lm.tokenizer(prompt).input_ids for prompt in prompts]
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])

    def generate():
        made = lm.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=NEW,
            do_sample=False,
            pad_token_id=0,
            output_scores=True,
            return_dict_in_generate=True,
        )
        return lm.model.compute_transition_scores(
            made.sequences, made.scores, normalize_logits=True
        )

    benchmark(generate)
