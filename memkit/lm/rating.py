"""How likely a model of any kind finds token rows: targets, options and whole texts, in batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from memkit.errors import BadInput
from memkit.lm.batching import windows
from memkit.lm.evaluation import evaluating
from memkit.lm.rows import in_batches
from memkit.lm.scoring import (
    Rows,
    Scored,
    TargetLogprob,
    logprob_of,
    score_decoder,
    score_encoder_decoder,
    score_labels,
    score_masked,
    score_options,
)

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["perplexity", "rated", "rated_options"]

LARGEST = 700.0  # nats a token; beyond, exp has no floating-point number
LOGIT_ROWS = 2048  # perplexity's logits at a time: 400 MB in float32 with 50,000 entries


def rated(lm: LM, rows: Rows, goals: Rows, batch_size: int) -> list[TargetLogprob]:
    """Each goal after its row; see `LM.logprob`."""
    results: dict[int, list[Scored]] = {}
    with evaluating(lm.model):
        for batch in in_batches(rows, batch_size, "scoring"):
            scores = _scored(lm, [rows[i] for i in batch], [goals[i] for i in batch], batch_size)
            results.update(zip(batch, scores, strict=True))
    return [logprob_of(goal, results[i]) for i, goal in enumerate(goals)]


def rated_options(
    lm: LM, rows: Rows, goals: Sequence[Rows], batch_size: int
) -> list[list[TargetLogprob]]:
    """Each of the goals after its row, which a decoder reads once."""
    results: dict[int, list[list[Scored]]] = {}
    with evaluating(lm.model):
        for batch in in_batches(rows, batch_size, "scoring"):
            given, wanted = [rows[i] for i in batch], [goals[i] for i in batch]
            results.update(zip(batch, score_options(lm.model, given, wanted), strict=True))
    return [
        [logprob_of(goal, scored) for goal, scored in zip(own, results[i], strict=True)]
        for i, own in enumerate(goals)
    ]


def perplexity(lm: LM, texts: Sequence[list[int]], batch_size: int) -> float:
    """Of a decoder on texts given as ids; see `LM.perplexity`."""
    parts = [part for text in texts for part in windows(text, lm.window)]
    scores: list[float] = []
    rows = [given + scored for given, scored in parts]
    with evaluating(lm.model):
        for batch in in_batches(rows, batch_size, "perplexity", LOGIT_ROWS):
            given, scored = zip(*(parts[i] for i in batch), strict=True)
            scores += [value for value, _ in chain(*score_decoder(lm.model, given, scored))]
    if not scores:
        raise BadInput(
            f"{len(texts)} texts have no token to predict; allowed: at least one text of two "
            "tokens. Give longer texts."
        )
    nats = -math.fsum(scores) / len(scores)
    return math.exp(nats) if not nats > LARGEST else math.inf


def _scored(lm: LM, prompts: Rows, targets: Rows, size: int) -> list[list[Scored]]:
    """Every target token of one batch."""
    if lm.kind == "decoder":
        length = max(len(p) + len(t) - 1 for p, t in zip(prompts, targets, strict=True))
        with lm.ends.saying([length - len(target) for target in targets]):
            return score_decoder(lm.model, prompts, targets)
    if lm.kind == "encoder-decoder":
        return score_encoder_decoder(lm.model, prompts, targets)
    if lm.kind == "classifier":
        return [[score] for score in score_labels(lm.model, prompts, [own[0] for own in targets])]
    return [_masked(lm, *pair, size) for pair in zip(prompts, targets, strict=True)]


def _masked(lm: LM, prompt: Sequence[int], target: Sequence[int], size: int) -> list[Scored]:
    """Each target token of a masked model, with the target before the prompt's end token."""
    end = len(prompt) - len(lm.codec.suffix)
    row = [*prompt[:end], *target, *prompt[end:]]
    places = range(end, end + len(target))
    scores: list[Scored] = []
    for start in range(0, len(places), size):
        some = places[start : start + size]
        scores += score_masked(lm.model, [row] * len(some), some, lm.tokenizer.mask_token_id)
    return scores
