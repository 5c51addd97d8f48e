"""Speed of the search for v*: `OMP_NUM_THREADS=1 pytest docs/benchmarks/test_editor_speed.py`.

`find_values` beside the loop of the papers' code, which takes one fact at a time and in every step
runs the whole model, with the vocabulary head, on all tokens of its contexts. 8 facts in 21
contexts, 25 evaluations each, layer 3 of a random GPT-2 of 12 layers, width 384 and 8,192 entries.
What is measured is processor time. `test_ratio` runs the loop on four of the facts, one of each
prompt, checks that the vectors are the same, and prints the ratio per fact: `-k ratio`.
"""

from __future__ import annotations

import random
import time

import pytest
import torch
import transformers

from memkit import Fact
from memkit.editors.tokens import drift_row, row, target_ids
from memkit.editors.values import Objective, find_values
from memkit.lm.batching import padded, positions
from memkit.lm.model import LM
from memkit.testing.models import tiny_tokenizer

LAYER = 3
GOAL = Objective(steps=25, stop=0.0)
PROMPTS = ("{} wrote the", "The words of {} and", "{}, and the numbers of", "The capital of {} is")


@pytest.fixture(scope="module")
def lm():
    tokenizer = tiny_tokenizer()
    config = transformers.GPT2Config(
        n_layer=12, n_head=6, n_embd=384, vocab_size=8192, bos_token_id=0, eos_token_id=0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config)
    return LM(model.requires_grad_(False), tokenizer)


@pytest.fixture(scope="module")
def words(lm):
    """Words of one token each."""
    vocabulary = lm.tokenizer.convert_ids_to_tokens(range(len(lm.tokenizer)))
    return [text[1:] for text in sorted(vocabulary) if text[0] == "Ġ" and text[1:].isalpha()]


@pytest.fixture(scope="module")
def contexts(words):
    """Of as many tokens as ROME's: 10 of 5 and 10 of 10, the full stop not counted."""
    rng = random.Random(0)
    return ("{}", *(" ".join(rng.choices(words, k=n)) + ". {}" for n in [5] * 10 + [10] * 10))


@pytest.fixture(scope="module")
def facts(words):
    rng = random.Random(1)
    made = []
    for number in range(8):
        subject, target = (" ".join(rng.choices(words, k=k)) for k in (2, 1 + number % 2))
        made.append(Fact(subject, PROMPTS[number % len(PROMPTS)], target))
    return made


def plain(lm, fact, contexts):
    """delta of one fact as the papers' code finds it: its contexts and the drift prompt at once."""
    target = target_ids(fact, lm)
    rows = [row(lm, fact, context, target) for context in contexts] + [drift_row(lm, fact)]
    ids, mask = padded([list(one.ids) for one in rows], lm.device, left=False)
    each, place = torch.arange(len(rows)), torch.tensor([one.subject for one in rows])
    ends = torch.tensor([len(one.ids) for one in rows[:-1]])
    columns = ends[:, None] - len(target) + torch.arange(len(target))
    delta = torch.zeros(lm.model.config.n_embd, requires_grad=True)
    v0, clean = None, None

    def hook(_, __, output):
        nonlocal v0
        v0 = output[0, place[0]].detach() if v0 is None else v0
        output = output.clone()
        output[each, place] += delta
        return output

    adam = torch.optim.Adam([delta], lr=GOAL.lr)
    handle = lm.layout.site(lm.model, LAYER).module.register_forward_hook(hook)
    try:
        for step in range(GOAL.steps):
            adam.zero_grad()
            logits = lm.model(ids, attention_mask=mask, position_ids=positions(mask)).logits
            logs = logits.log_softmax(-1)
            nll = -logs[each[:-1, None], columns, torch.tensor(target)].mean()
            now = logs[-1, place[-1]]
            clean = now.detach() if clean is None else clean
            drift = (now.exp() * (now - clean)).sum()
            loss = nll + GOAL.drift * drift + GOAL.decay * delta.norm() / v0.norm() ** 2
            if loss < GOAL.stop or step + 1 == GOAL.steps:
                break
            loss.backward()
            adam.step()
            with torch.no_grad():
                delta *= (GOAL.clamp * v0.norm() / delta.norm()).clamp(max=1)
    finally:
        handle.remove()
    return delta.detach()


def engine(lm, facts, contexts):
    return [value.delta for value in find_values(lm, facts, contexts, LAYER, GOAL, "mlp")]


@pytest.mark.benchmark(timer=time.process_time)
def test_engine(benchmark, lm, facts, contexts):
    """All facts at once."""
    benchmark.extra_info["facts"] = len(facts)
    benchmark.pedantic(engine, (lm, facts, contexts))


@pytest.mark.benchmark(timer=time.process_time)
def test_plain_loop(benchmark, lm, facts, contexts):
    """One of the facts."""
    benchmark.pedantic(plain, (lm, facts[0], contexts))


def test_ratio(lm, facts, contexts, capsys):
    """Processor time per fact of the plain loop over that of the engine."""
    some = facts[: len(PROMPTS)]
    start = time.process_time()
    found = engine(lm, facts, contexts)
    middle = time.process_time()
    expected = [plain(lm, fact, contexts) for fact in some]
    ours, loop = (middle - start) / len(facts), (time.process_time() - middle) / len(some)
    apart = max(float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=False))
    assert apart < 1e-4
    with capsys.disabled():
        print(
            f"\nv*: engine {ours:.2f} s of processor time a fact, plain loop {loop:.2f} s, "
            f"ratio {loop / ours:.2f}; vectors apart by {apart:.1e}"
        )
