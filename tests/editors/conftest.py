from __future__ import annotations

import pytest
import torch

from memkit.testing.models import tiny_lm


@pytest.fixture(autouse=True)
def memkit_cache(tmp_path, monkeypatch):
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("MEMKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def lm():
    return tiny_lm("gpt2")


@pytest.fixture
def plain_value():
    return _plain_value


def _plain_value(lm, fact, contexts, layer, place, *, steps, lr, clamp, decay, drift, stop):
    """v* as the papers' code finds it: one fact and one row at a time through the whole model.

    Gives v0, delta, and the loss of each evaluation. Rows are tokenised with their special tokens,
    the subject is found by its last character, Adam is written out.
    """
    site = lm.layout.site(lm.model, layer)
    module = site.module if place == "mlp" else lm.layout.layers(lm.model)[layer]
    target = lm.codec.target(f" {fact.target}")
    prompts = [context.replace("{}", fact.text) for context in contexts]
    rows = [(text, text.index(fact.text) + fact.text.index(fact.subject)) for text in prompts]
    encoded = [(lm.tokenizer(text), start + len(fact.subject) - 1) for text, start in rows]
    rows = [(one.input_ids + target[:-1], one.char_to_token(end)) for one, end in encoded]
    one = lm.tokenizer(f"{fact.subject} is a")
    drift_row = (one.input_ids, one.char_to_token(len(fact.subject) - 1))

    def logs(ids, column, delta):
        seen = []

        def hook(_, __, output):
            hidden = output[0] if isinstance(output, tuple) else output
            flat = hidden.reshape(-1, hidden.shape[-1])
            seen.append(flat[column].detach())
            moved = flat + torch.eye(len(flat))[column][:, None] * delta
            moved = moved.reshape(hidden.shape)
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        handle = module.register_forward_hook(hook)
        try:
            logits = lm.model(input_ids=torch.tensor([ids])).logits[0]
        finally:
            handle.remove()
        return logits.float().log_softmax(-1), seen[0]

    delta = torch.zeros(site.weight.shape[0])
    mean, square = torch.zeros_like(delta), torch.zeros_like(delta)
    losses, v0, clean = [], None, None
    for step in range(1, steps + 1):
        delta = delta.detach().requires_grad_(True)
        nll = 0
        for number, (ids, column) in enumerate(rows):
            row, vector = logs(ids, column, delta)
            v0 = vector if number == 0 and v0 is None else v0
            nll -= row[range(len(ids) - len(target), len(ids)), target].mean() / len(rows)
        now = logs(*drift_row, delta)[0][drift_row[1]]
        clean = now.detach() if clean is None else clean
        divergence = (now.exp() * (now - clean)).sum()
        loss = nll + drift * divergence + decay * delta.norm() / v0.norm() ** 2
        losses.append(loss.item())
        if loss.item() < stop or step == steps:
            break
        (slope,) = torch.autograd.grad(loss, delta)
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        stride = mean / (1 - 0.9**step) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
        delta = delta.detach() - lr * stride
        if delta.norm() > clamp * v0.norm():
            delta = delta * clamp * v0.norm() / delta.norm()
    return v0, delta.detach(), losses
