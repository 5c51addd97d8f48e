"""Contexts: templates that put text of the model's own before a prompt.

A key read behind several contexts, and a value that holds behind all of them, depend less on how a
prompt begins (ROME, arXiv:2202.05262, section 3.1; MEMIT, arXiv:2210.07229). Counts are those of
the papers' code. ROME: "{}", 10 samples of 5 tokens and 10 of 10 from the start token. MEMIT: "{}"
and one sample of 10 tokens from each of five stems. Each sample is followed by ". {}".

Departures from the papers' code:
- No module state. There the contexts of the first model serve the second; here they are named by
  the weights, the tokenizer and the seed.
- Without a key-value cache: its sampler is silently degenerate (one token, again and again) with
  transformers from 4.54 on, and these texts are short.
- No special token is drawn, and braces and line breaks are taken out, so that a template has one
  "{}".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from memkit.editors.cache import cache_folder, digest, tokenizer_hash, writing
from memkit.errors import BadInput, UnsupportedModel
from memkit.lm.evaluation import evaluating

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["MEMIT", "ROME", "Samples", "generated", "memit_contexts", "rome_contexts"]

TOP = 5  # most likely tokens of which one is drawn
_BREAKING = str.maketrans("", "", "{}")


@dataclass(frozen=True, slots=True)
class Samples:
    """So many samples of one stem; `length` is in tokens, start token and stem included."""

    stem: str
    count: int
    length: int


ROME = (Samples("", 10, 5), Samples("", 10, 10))
MEMIT = tuple(Samples(stem, 1, 10) for stem in ("The", "Therefore", "Because", "I", "You"))


def generated(lm: LM, samples: Sequence[Samples], seed: int = 0) -> tuple[str, ...]:
    """Templates "{}" and, for each sample, "<text>. {}"; put a prompt in with `.replace`.

    A sample begins with the start token (with the end token where the tokenizer has none), or with
    its stem as a prompt. Each further token is drawn from the 5 most likely ones by their
    probabilities, until the sample has its length; at least one is drawn. The same for the same
    model, device and seed. torch's random state is left as it was. Duplicates are kept, since each
    sample weighs alike.

    Raises `UnsupportedModel` if the model is no decoder, `BadInput` if a length is beyond its
    window, or the tokenizer has neither start nor end token where one is needed.
    """
    if lm.kind != "decoder":
        raise UnsupportedModel(
            f"a {lm.kind} does not go on from a text, so it has no contexts of its own; allowed: a "
            "decoder. Pass contexts as a tuple of templates."
        )
    generator = torch.Generator().manual_seed(seed)
    templates = ["{}"]
    for one in samples:
        with evaluating(lm.model):
            rows = _draw(lm, _start(lm, one.stem), one.count, one.length, generator)
        for text in lm.tokenizer.batch_decode(rows, skip_special_tokens=True):
            templates.append(" ".join(text.translate(_BREAKING).split()) + ". {}")
    return tuple(templates)


def rome_contexts(lm: LM, seed: int = 0) -> tuple[str, ...]:
    """ROME's 21 templates for this model, "{}" first; made once, then read from disk.

    They lie in $MEMKIT_CACHE/contexts (by default ~/.cache/memkit/contexts). Raises what
    `generated` raises.
    """
    return _cached(lm, ROME, seed)


def memit_contexts(lm: LM, seed: int = 0) -> tuple[str, ...]:
    """MEMIT's 6 templates for this model, "{}" first; made once, then read from disk.

    As `rome_contexts`.
    """
    return _cached(lm, MEMIT, seed)


def _start(lm: LM, stem: str) -> list[int]:
    """Token ids that a sample begins with."""
    if stem:
        return lm.codec.prompt(stem)
    ids = (lm.tokenizer.bos_token_id, lm.tokenizer.eos_token_id)
    start = next((int(i) for i in ids if i is not None), None)
    if start is None:
        raise BadInput(
            f"the tokenizer ({type(lm.tokenizer).__name__}) has neither a start nor an end token; "
            "allowed: one of them, to sample from. Pass contexts as a tuple of templates."
        )
    return [start]


@torch.no_grad()
def _draw(
    lm: LM, start: list[int], count: int, length: int, generator: torch.Generator
) -> list[list[int]]:
    """Token ids of `count` samples, start included."""
    if max(length, len(start) + 1) > lm.window:
        raise BadInput(
            f"a context of {length} tokens from {len(start)} is asked for; allowed: {lm.window}, "
            "the model's window. Choose a shorter one."
        )
    special = [i for i in lm.tokenizer.all_special_ids if i < lm.codec.vocabulary]
    ids = torch.tensor([start] * count)
    for _ in range(max(1, length - len(start))):
        given = ids.to(lm.device)
        mask = torch.ones_like(given)
        logits = lm.model(
            input_ids=given, attention_mask=mask, use_cache=False, logits_to_keep=1
        ).logits[:, -1]
        logits = logits[:, : len(lm.tokenizer)].float().cpu()  # beyond are rows without a token
        logits[:, special] = -torch.inf
        best = logits.topk(TOP)
        picked = torch.multinomial(best.values.softmax(-1), 1, generator=generator)
        ids = torch.cat([ids, best.indices.gather(1, picked)], dim=1)
    rows: list[list[int]] = ids.tolist()
    return rows


def _cached(lm: LM, samples: Sequence[Samples], seed: int) -> tuple[str, ...]:
    """`generated`, from disk where the same was generated before."""
    key = {
        "model": lm.fingerprint(),
        "tokenizer": tokenizer_hash(lm.tokenizer),
        "samples": [asdict(one) for one in samples],
        "top": TOP,
        "seed": seed,
    }
    path = cache_folder("contexts") / f"{digest(key)[:32]}.json"
    found = _read(path, key)
    if found is not None:
        return found
    contexts = generated(lm, samples, seed)
    with writing(path) as temporary:
        text = json.dumps({"key": key, "contexts": contexts}, indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")
    return contexts


def _read(path: Path, key: object) -> tuple[str, ...] | None:
    """The contexts in a file of that key; None if there are none."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return tuple(card["contexts"]) if card.get("key") == key else None
