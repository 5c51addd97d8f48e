"""What a model would put into a gap of a sentence, as one token.

decoder           the next token after what stands before the gap
masked            the token at the mask in the gap; of several masks in the text the first
encoder-decoder   the first token after the sentinel <extra_id_0> of the gap (T5); of a model
whose tokenizer has no sentinels, the decoder's first token after the text
before the gap
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from memkit.errors import BadInput, UnsupportedModel
from memkit.lm.batching import batches, padded, positions
from memkit.lm.evaluation import evaluating

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["check_fills", "common_vocabulary", "gap_logits", "sees_behind", "word_ids", "words"]

SENTINEL = "<extra_id_0>"
Gap = tuple[str, str]  # the text before, and the text after


def gap_logits(
    lm: LM, gaps: Sequence[Gap], ids: Sequence[int], batch_size: int = 32
) -> Iterator[tuple[int, Tensor]]:
    """The place of each gap in `gaps` and its logits at these token ids, [len(ids)], in float32.

    They come in the order in which batches are made. White space at the gap's left is dropped: a
    token brings its own.

    Raises `BadInput` if nothing stands before a decoder's gap, or a row is longer than the model's
    window; `UnsupportedModel` for a classifier.
    """
    check_fills(lm)
    rows = [_row(lm, gap) for gap in gaps]
    for gap, row in zip(gaps, rows, strict=True):
        if len(row) > lm.window:
            raise BadInput(
                f"the text around the gap of {gap[0][:60]!r}... has {len(row)} tokens; allowed: "
                f"{lm.window}, the model's window. Shorten it."
            )
    index = torch.tensor(list(ids), dtype=torch.long, device=lm.device)
    for places in batches([len(row) for row in rows], batch_size):
        with evaluating(lm.model):
            logits = _logits(lm, [rows[place] for place in places])
        yield from zip(places, logits.float()[:, index], strict=True)


def check_fills(lm: LM) -> None:
    """Raise `UnsupportedModel` for a model without words."""
    if lm.kind == "classifier":
        raise UnsupportedModel(
            "a classifier has no words to fill a gap with; allowed: a decoder, a masked model or "
            "an encoder-decoder. Use another model."
        )


def sees_behind(lm: LM) -> bool:
    """Whether the model sees what stands behind a gap."""
    return lm.kind == "masked" or (lm.kind == "encoder-decoder" and _sentinel(lm) is not None)


def word_ids(lm: LM, words: Sequence[str]) -> list[int | None]:
    """For each word the token that it is in a gap; None if it takes several, or is unknown."""
    if not words:
        return []
    texts = [word if lm.kind == "encoder-decoder" else f" {word}" for word in words]
    lead = "" if lm.codec.closes else "\n"  # before which a decoder's word is as behind a text
    (start,) = _ids(lm, [lead])
    rows = _ids(lm, [lead + text for text in texts])
    found: list[int | None] = []
    for text, row in zip(texts, rows, strict=True):
        apart = row[: len(start)] == start
        ids = row[len(start) :] if apart else lm.codec.target(text)
        single = len(ids) == 1 and ids[0] != lm.tokenizer.unk_token_id
        found.append(ids[0] if single else None)
    return found


def words(lm: LM) -> list[str]:
    """The words that are one token of the model: letters and digits alone, in order of id."""
    texts = lm.codec.texts([[number] for number in range(len(lm.tokenizer))])
    own = {number: word for number, text in enumerate(texts) if (word := text.strip()).isalnum()}
    found = word_ids(lm, list(own.values()))
    return [
        word for (number, word), token in zip(own.items(), found, strict=True) if token == number
    ]


def common_vocabulary(*lms: LM) -> tuple[str, ...]:
    """The words that are one token of each of these models, sorted.

    Petroni et al. 2019 (LAMA), section 4: models are compared on the words that all of them can
    say. Raises `BadInput` if there is none.
    """
    if not lms:
        raise BadInput("no model is given; allowed: at least one. Pass those that are compared.")
    shared = set(words(lms[0])).intersection(*map(words, lms[1:]))
    if not shared:
        raise BadInput(
            f"{', '.join(map(repr, lms))} have no word in common; allowed: models with words of "
            "one token. Compare others, or one at a time."
        )
    return tuple(sorted(shared))


def _row(lm: LM, gap: Gap) -> list[int]:
    """The ids that the model reads."""
    before, after = gap[0].rstrip(), gap[1]
    if lm.kind == "masked":
        filler = str(lm.tokenizer.mask_token)
    elif sees_behind(lm):
        filler = SENTINEL
    else:
        return lm.codec.prompt(before)
    space = " " if before else ""
    return lm.codec.prompt(f"{before}{space}{filler}{after}")


def _ids(lm: LM, texts: Sequence[str]) -> list[list[int]]:
    ids: list[list[int]] = lm.tokenizer(
        list(texts), add_special_tokens=False, verbose=False
    ).input_ids
    return ids


def _sentinel(lm: LM) -> int | None:
    number: int = lm.tokenizer.convert_tokens_to_ids(SENTINEL)
    return None if number in (None, lm.tokenizer.unk_token_id) else number


@torch.no_grad()
def _logits(lm: LM, rows: Sequence[Sequence[int]]) -> Any:
    """Logits at the gap of each row, [rows, vocabulary]."""
    if lm.kind == "decoder":
        ids, mask = padded(rows, lm.device, left=True)
        with lm.ends.saying([ids.shape[1] - 1] * len(rows)):
            out = lm.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions(mask),
                use_cache=False,
                logits_to_keep=1,
            ).logits
        return out[:, -1]
    ids, mask = padded(rows, lm.device, left=False)
    if lm.kind == "masked":
        places = torch.tensor([row.index(lm.tokenizer.mask_token_id) for row in rows])
        out = lm.model(input_ids=ids, attention_mask=mask).logits
        return out[torch.arange(len(rows)), places]
    begin, sentinel = [lm.model.config.decoder_start_token_id], _sentinel(lm)
    given = begin if sentinel is None else [*begin, sentinel]
    decoded, _ = padded([given] * len(rows), lm.device, left=False)
    out = lm.model(
        input_ids=ids, attention_mask=mask, decoder_input_ids=decoded, use_cache=False
    ).logits
    return out[:, -1]
