"""How likely a model finds the spans of a cloze: the part of `entities` that asks the model.

decoder           log p(span | what stands left of it); what stands right of it has no say
encoder-decoder   the cloze with "<extra_id_0>" for its span in the encoder, "<extra_id_0> span
                  <extra_id_1>" in the decoder; the sentinels are not counted

A decoder's left context and span are tokenised apart, the spaces before a span with the span, so
that every candidate has the same left context, to the token, and its tokens spell it and nothing
else. Onoe et al. count the tokens of the left and of the right context in those of the whole
sentence; with GPT-2's tokenizer both ways agree on all 739 candidates of 68 probes of Entity
Inferences, and on 301 of 302 spans of ECBD. That is their format for GPT-2. The one for GPT-Neo
puts a space before the end token, of which today's tokenizer makes a token, so that counting loses
the first token of every span: of the 739 candidates 690 then have none, and are equally likely.

A span at the very start follows the tokenizer's start token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memkit.benchmarks.probes import END, GAP, Cloze, EntityProbe
from memkit.errors import BadInput, UnsupportedModel

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["Asker", "View", "prompt_and_target", "view"]

LogProbs = tuple[float, ...]  # one a token of the span, in nats


@dataclass(frozen=True, slots=True)
class View:
    """What a model made of a probe.

    `nll` is the mean negative log-likelihood (nats) of a token of the gold span. With candidates
    `probability` is the gold one's, softmax over candidates of their summed log-likelihoods, and
    `right` says whether it is the largest; of equal ones the first counts.
    """

    nll: float
    probability: float | None = None
    right: bool | None = None

    @property
    def value(self) -> float:
        """What specificity is the mean of: 1 or 0 for right or wrong, or the likelihood."""
        return self.nll if self.right is None else float(self.right)


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks a model for the spans of probes, with a text before each of them or none.

    Raises `UnsupportedModel` for a model that is no decoder and no encoder-decoder, and for one of
    the latter without T5's sentinels.
    """

    lm: LM
    batch_size: int = 32

    def __post_init__(self) -> None:
        """Check the model's kind, and its sentinels."""
        if self.lm.kind not in ("decoder", "encoder-decoder"):
            raise UnsupportedModel(
                f"{type(self.lm.model).__name__} is a {self.lm.kind} model; allowed for the span "
                "of a cloze: a decoder or an encoder-decoder. Choose another model."
            )
        if self.lm.kind == "encoder-decoder" and not _has_sentinels(self.lm):
            raise UnsupportedModel(
                f"the tokenizer of {type(self.lm.model).__name__} has no tokens {GAP!r} and "
                f"{END!r}; allowed: an encoder-decoder that was trained to fill gaps, as T5 was. "
                "Choose another model."
            )

    def views(self, probes: Sequence[EntityProbe], contexts: Sequence[str] = ()) -> list[View]:
        """What the model makes of each probe; `contexts` are texts before them, "" is none."""
        befores = contexts or [""] * len(probes)
        spans = self.spans(
            [
                (before, probe.cloze, probe.candidates or (probe.gold,))
                for before, probe in zip(befores, probes, strict=True)
            ]
        )
        return [
            view(found, probe.candidates.index(probe.gold) if probe.candidates else None)
            for found, probe in zip(spans, probes, strict=True)
        ]

    def spans(self, asked: Sequence[tuple[str, Cloze, Sequence[str]]]) -> list[list[LogProbs]]:
        """Log-probabilities of each span in its cloze, behind a text: (text, cloze, spans)."""
        prompts, options = [], []
        for before, cloze, spans in asked:
            pairs = [prompt_and_target(self.lm, before, cloze, span) for span in spans]
            prompts.append(pairs[0][0])
            options.append([target for _, target in pairs])
        scored = self.lm.options(prompts, options, self.batch_size)
        drop = int(self.lm.kind == "encoder-decoder")  # the sentinels at both ends
        return [
            [score.per_token[drop : len(score.per_token) - drop] for score in own] for own in scored
        ]

    def tokens(self, probe: EntityProbe, before: str = "") -> int:
        """Length of the prompt."""
        return self.lm.count_tokens(prompt_and_target(self.lm, before, probe.cloze, probe.gold)[0])


def view(spans: Sequence[LogProbs], gold: int | None) -> View:
    """A view from the log-probabilities of all candidates; `gold` None: of a span without any."""
    own = spans[gold or 0]
    nll = -math.fsum(own) / len(own)
    if gold is None:
        return View(nll)
    sums = [math.fsum(span) for span in spans]
    largest = max(sums)
    shares = [math.exp(total - largest) for total in sums]
    return View(nll, shares[gold] / math.fsum(shares), sums.index(largest) == gold)


def prompt_and_target(lm: LM, before: str, cloze: Cloze, span: str) -> tuple[str, str]:
    """What `LM.logprob` is given for a span of a cloze behind a text.

    Raises `BadInput` for a span at the very start if the tokenizer has no start token.
    """
    if lm.kind == "encoder-decoder":
        return f"{before} {cloze.masked}".strip(), f"{GAP} {span} {END}"
    left = f"{before} {cloze.left}" if before else cloze.left
    prompt = left.rstrip(" ")
    if prompt:
        return prompt, left[len(prompt) :] + span
    start = lm.tokenizer.bos_token or lm.tokenizer.eos_token
    if start is None:
        raise BadInput(
            f"nothing stands before the span of {cloze.masked[:80]!r}, and the tokenizer has no "
            "start token; allowed: a span with something before it. Leave the probe out."
        )
    return start, span


def _has_sentinels(lm: LM) -> bool:
    ids = lm.tokenizer.convert_tokens_to_ids([GAP, END])
    return all(i is not None and i != lm.tokenizer.unk_token_id for i in ids)
