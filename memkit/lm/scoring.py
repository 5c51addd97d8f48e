"""Log-probabilities of targets given as token ids, by kind of model, one batch a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memkit.lm.batching import padded, positions

__all__ = [
    "Scored",
    "TargetLogprob",
    "score_decoder",
    "score_encoder_decoder",
    "score_labels",
    "score_masked",
]

Rows = Sequence[Sequence[int]]
Scored = tuple[float, bool]  # log-probability (nats), and whether it is the argmax


@dataclass(frozen=True, slots=True)
class TargetLogprob:
    """How likely a target is after a prompt, in nats.

    `per_token` holds one log-probability a target token, `tokens` the ids, `total` the sum.
    `argmax` says of each token whether it is the one that greedy decoding takes.
    """

    total: float
    per_token: tuple[float, ...]
    tokens: tuple[int, ...]
    argmax: tuple[bool, ...]


def _picked(logits: Tensor, ids: Sequence[int]) -> list[Scored]:
    """Natural log of softmax(logits), [n, vocabulary], at the n ids; computed in float32."""
    logits = logits.float()
    index = torch.tensor(ids, dtype=torch.long, device=logits.device)[:, None]
    values = logits.gather(-1, index)[:, 0] - logits.logsumexp(dim=-1)
    first = logits.argmax(dim=-1) == index[:, 0]  # as greedy generation breaks ties
    return list(zip(values.tolist(), first.tolist(), strict=True))


@torch.no_grad()
def score_decoder(model: Any, prompts: Rows, targets: Rows) -> list[list[Scored]]:
    """Each target token: log p(token | prompt, target tokens before it).

    Rows end together (left padding), so the vocabulary head runs at the last positions only: as
    many as the longest target has tokens.
    """
    rows = [[*prompt, *target[:-1]] for prompt, target in zip(prompts, targets, strict=True)]
    ids, mask = padded(rows, model.device, left=True)
    logits = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions(mask),
        use_cache=False,
        logits_to_keep=max(len(target) for target in targets),
    ).logits
    return [_picked(logits[i, -len(target) :], target) for i, target in enumerate(targets)]


@torch.no_grad()
def score_encoder_decoder(model: Any, prompts: Rows, targets: Rows) -> list[list[Scored]]:
    """Each target token: log p(token | prompt in the encoder, tokens before it in the decoder)."""
    ids, mask = padded(prompts, model.device, left=False)
    start = model.config.decoder_start_token_id
    shifted, _ = padded([[start, *target[:-1]] for target in targets], model.device, left=False)
    logits = model(
        input_ids=ids, attention_mask=mask, decoder_input_ids=shifted, use_cache=False
    ).logits
    return [_picked(logits[i, : len(target)], target) for i, target in enumerate(targets)]


@torch.no_grad()
def score_masked(model: Any, rows: Rows, places: Sequence[int], mask_id: int) -> list[Scored]:
    """Each row: log p(token at its place | all its other tokens).

    These are the terms of a pseudo-log-likelihood (Salazar et al., ACL 2020, section 2.1).
    """
    ids, mask = padded(rows, model.device, left=False)
    each, at = torch.arange(len(rows)), torch.tensor(places)
    truth = ids[each, at].tolist()
    ids[each, at] = mask_id
    return _picked(model(input_ids=ids, attention_mask=mask).logits[each, at], truth)


@torch.no_grad()
def score_labels(model: Any, rows: Rows, labels: Sequence[int]) -> list[Scored]:
    """Each row: log p(label | text) of a sequence classifier."""
    ids, mask = padded(rows, model.device, left=False)
    return _picked(model(input_ids=ids, attention_mask=mask).logits, labels)
