"""Greedy generation in batches that end when every row has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from memkit.lm.batching import padded, positions

__all__ = ["Completion", "Generated", "Glance", "cut", "greedy"]


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote after a prompt.

    `text` ends before the first stop string. `tokens` are the generated ids up to and including the
    one that completes a stop string, or the end token; `logprob` is the sum of the
    log-probabilities (nats) of exactly these, each given the prompt and those before it.
    `prompt_tokens` is the length of the prompt, special tokens included.
    """

    text: str
    logprob: float
    tokens: tuple[int, ...]
    prompt_tokens: int


@dataclass(slots=True)
class Generated:
    """Ids that a row has generated so far and the log-probability (nats) of each.

    `entropies` (nats) are those of the distributions that the ids were taken from, where a `Glance`
    asked for them.
    """

    tokens: list[int]
    logprobs: list[float]
    entropies: list[float] = field(default_factory=list)


class Glance(Protocol):
    """Looks at the first pass over a batch, and says which of its rows go on."""

    def first(self, run: Callable[[], Tensor]) -> tuple[Tensor, list[bool]]:
        """Run the first pass; its logits [rows, vocabulary] and whether each row goes on."""
        ...


class _Steps(Protocol):
    """A model in the midst of generating: next-token logits [rows, vocabulary], step by step."""

    def first(self) -> Tensor: ...

    def next(self, tokens: Tensor) -> Tensor:
        """Logits after one more token a row, `tokens` [rows]."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        ...


class _Decoder:
    """A causal model: one pass over the left-padded prompts, then one token at a time."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        self.model = model
        self.ids, self.mask = padded(prompts, model.device, left=True)
        self.positions = positions(self.mask)
        self.cache: Any = None

    def first(self) -> Tensor:
        return self._run(self.ids)

    def next(self, tokens: Tensor) -> Tensor:
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], dim=1)
        self.positions = self.positions[:, -1:] + 1
        return self._run(tokens[:, None])

    def keep(self, rows: Tensor) -> None:
        self.mask, self.positions = self.mask[rows], self.positions[rows]
        self.cache.batch_select_indices(rows)

    def _run(self, ids: Tensor) -> Tensor:
        output = self.model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache = output.past_key_values
        logits: Tensor = output.logits[:, -1]
        return logits


class _EncoderDecoder:
    """An encoder-decoder: the right-padded prompts are encoded once, the decoder starts empty."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        self.model = model
        ids, self.mask = padded(prompts, model.device, left=False)
        self.encoded = model.get_encoder()(input_ids=ids, attention_mask=self.mask)
        self.cache: Any = None

    def first(self) -> Tensor:
        start = self.model.config.decoder_start_token_id
        return self.next(self.mask.new_full(self.mask.shape[:1], start))

    def next(self, tokens: Tensor) -> Tensor:
        output = self.model(
            encoder_outputs=self.encoded,
            attention_mask=self.mask,
            decoder_input_ids=tokens[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.cache = output.past_key_values
        logits: Tensor = output.logits[:, -1]
        return logits

    def keep(self, rows: Tensor) -> None:
        self.mask = self.mask[rows]
        self.encoded.last_hidden_state = self.encoded.last_hidden_state[rows]
        self.cache.batch_select_indices(rows)


@torch.no_grad()
def greedy(
    model: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    ended: Callable[[list[Generated]], list[bool]],
    kept: Callable[[Tensor], None],
    glance: Glance | None = None,
) -> list[Generated]:
    """The most probable token, again and again, for one batch of prompts (ids).

    `ended` says of each row whether its newest token ends it. A row that ended costs nothing more
    once half of the rows that are still computed have ended; `kept` is told which go on. A `glance`
    sees the first pass and may end rows there, before any token. Uses no random numbers, and none
    of the checkpoint's generation settings (penalties, forced tokens).
    """
    encoder = model.config.is_encoder_decoder
    steps: _Steps = _EncoderDecoder(model, prompts) if encoder else _Decoder(model, prompts)
    results = [Generated([], []) for _ in prompts]
    rows = list(range(len(prompts)))  # what is computed
    live = set(rows)  # what is not ended
    if glance is None:
        logits = steps.first()
    else:
        logits, going = glance.first(steps.first)
        rows = [row for row, goes in zip(rows, going, strict=True) if goes]
        live = set(rows)
        if not live:
            return results
        if len(rows) < len(prompts):
            index = torch.tensor(rows, device=logits.device)
            steps.keep(index)
            kept(index)
            logits = logits[index]
    for step in range(max_new_tokens):
        logits = logits.float()
        if glance is not None:
            spread = torch.special.entr(logits.softmax(dim=-1)).sum(dim=-1).tolist()
            for row, entropy in zip(rows, spread, strict=True):
                if row in live:
                    results[row].entropies.append(entropy)
        best, tokens = logits.max(dim=-1, keepdim=True)
        tokens = tokens[:, 0]
        logprobs = (-(logits - best).exp_().sum(dim=-1).log()).tolist()
        for row, token, logprob in zip(rows, tokens.tolist(), logprobs, strict=True):
            if row in live:
                results[row].tokens.append(token)
                results[row].logprobs.append(logprob)
        waiting = [row for row in rows if row in live]
        states = ended([results[row] for row in waiting])
        live -= {row for row, over in zip(waiting, states, strict=True) if over}
        if not live or step + 1 == max_new_tokens:
            break
        if 2 * len(live) <= len(rows):
            places = [i for i, row in enumerate(rows) if row in live]
            index = torch.tensor(places, device=tokens.device)
            steps.keep(index)
            kept(index)
            rows, tokens = [rows[i] for i in places], tokens[index]
        logits = steps.next(tokens)
    return results


def cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop string in it."""
    return text[: min([at for s in stops if (at := text.find(s)) >= 0], default=len(text))]
