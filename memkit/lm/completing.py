"""Completions of token rows: in batches, up to stop strings and end tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from memkit.lm.checks import check_stops
from memkit.lm.drafting import Admit, Draft, FirstPass
from memkit.lm.evaluation import evaluating
from memkit.lm.generation import Completion, Generated, Glance, cut, greedy
from memkit.lm.rows import in_batches

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["completions", "drafts"]


def completions(
    lm: LM,
    rows: list[list[int]],
    max_new_tokens: int,
    stop: str | Sequence[str],
    batch_size: int,
) -> list[Completion]:
    """What the model writes after each row; see `LM.complete`."""
    return [done for done, _ in _completed(lm, rows, max_new_tokens, stop, batch_size)]


def drafts(
    lm: LM,
    rows: list[list[int]],
    admit: Admit,
    max_new_tokens: int,
    stop: str | Sequence[str],
    batch_size: int,
    layers: Sequence[int],
) -> list[Draft]:
    """What it makes of each row's first token, and the completions of those admitted."""
    glance = FirstPass(lm.layout, lm.model, lm.kind, layers)

    def seen(batch: Sequence[int]) -> FirstPass:
        glance.places, glance.ask = batch, lambda firsts: admit(batch, firsts)
        return glance

    made = _completed(lm, rows, max_new_tokens, stop, batch_size, seen)
    firsts = glance.firsts
    return [
        Draft(firsts[i], done if state.tokens else None, tuple(state.entropies))
        for i, (done, state) in enumerate(made)
    ]


def _completed(
    lm: LM,
    rows: list[list[int]],
    max_new_tokens: int,
    stop: str | Sequence[str],
    batch_size: int,
    glance: Callable[[Sequence[int]], Glance] | None = None,
) -> list[tuple[Completion, Generated]]:
    stops = check_stops(stop)
    ended = _ended(lm, stops)
    results: dict[int, Generated] = {}
    with evaluating(lm.model):
        for batch in in_batches(rows, batch_size, "generating"):
            given, lm.ends.rows = [rows[i] for i in batch], None
            look = None if glance is None else glance(batch)
            outputs = greedy(lm.model, given, max_new_tokens, ended, lm.ends.keep, look)
            results.update(zip(batch, outputs, strict=True))
    made = [results[i] for i in range(len(rows))]
    texts = lm.codec.texts([state.tokens for state in made])
    return [
        (
            Completion(
                text=cut(text, stops),
                logprob=math.fsum(state.logprobs),
                tokens=tuple(state.tokens),
                prompt_tokens=len(row),
            ),
            state,
        )
        for text, state, row in zip(texts, made, rows, strict=True)
    ]


def _ended(lm: LM, stops: Sequence[str]) -> Callable[[list[Generated]], list[bool]]:
    """Says of each row whether its newest token ends it.

    That is an end token, of the generation settings or the tokenizer, or one that completes a stop
    string.
    """
    settings = lm.model.generation_config.eos_token_id
    ends = {
        lm.tokenizer.eos_token_id,
        *(settings if isinstance(settings, list) else [settings]),
    }

    def ended(rows: list[Generated]) -> list[bool]:
        over = [row.tokens[-1] in ends for row in rows]
        if not stops:
            return over
        texts = lm.codec.texts([row.tokens for row in rows])
        return [o or any(s in text for s in stops) for o, text in zip(over, texts, strict=True)]

    return ended
