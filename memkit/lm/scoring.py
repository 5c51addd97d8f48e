"""Log-probabilities of targets given as token ids, by kind of model, one batch a call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memkit.lm.batching import padded, positions

__all__ = [
    "Rows",
    "Scored",
    "TargetLogprob",
    "logprob_of",
    "score_decoder",
    "score_encoder_decoder",
    "score_labels",
    "score_masked",
    "score_options",
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


def logprob_of(target: Sequence[int], scored: Sequence[Scored]) -> TargetLogprob:
    """What was found of each of a target's tokens, as one value."""
    values, argmax = zip(*scored, strict=True)
    return TargetLogprob(math.fsum(values), values, tuple(target), argmax)


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
def score_options(model: Any, prompts: Rows, options: Sequence[Rows]) -> list[list[list[Scored]]]:
    """Each token of each prompt's options, as `score_decoder`; the prompt is read once for all.

    Options of more than one token go on from the prompt's key-value cache.
    """
    ids, mask = padded(prompts, model.device, left=True)
    read = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions(mask),
        use_cache=True,
        logits_to_keep=1,
    )
    found = [
        [[score] for score in _picked(logits.expand(len(own), -1), [option[0] for option in own])]
        for logits, own in zip(read.logits[:, -1], options, strict=True)
    ]
    longer = [
        (i, j) for i, own in enumerate(options) for j, option in enumerate(own) if len(option) > 1
    ]
    if not longer:
        return found
    rows = torch.tensor([i for i, _ in longer], device=ids.device)
    cache = read.past_key_values
    cache.batch_select_indices(rows)
    tails, there = padded([options[i][j][:-1] for i, j in longer], model.device, left=False)
    whole = torch.cat([mask[rows], there], dim=1)
    logits = model(
        input_ids=tails,
        attention_mask=whole,
        position_ids=positions(whole)[:, -tails.shape[1] :],
        past_key_values=cache,
        use_cache=True,
    ).logits
    for (i, j), row in zip(longer, logits, strict=True):
        rest = options[i][j][1:]
        found[i][j] += _picked(row[: len(rest)], rest)
    return found


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
