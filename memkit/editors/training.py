"""What the fine-tuning family shares: facts as token ids, their loss, and the loop over batches.

The loss of one fact, in nats a token, is the mean over its T target tokens:

    L = -(1/T) sum_t log p(y_t | prompt, y_<t)

decoder           prompt and target joined as ids; it is -LM.logprob / T
encoder-decoder   the prompt in the encoder, the target in the decoder, shifted by its start token;
                  it is -LM.logprob / T
masked            as many mask tokens as the target has in its place after the prompt, all predicted
                  at once from the rest; it is -LM.logprob for targets of one token (longer ones are
                  scored there with all other tokens visible)
classifier        cross-entropy of the label, the target; it is -LM.logprob

The model is run as it is (evaluation mode, so without dropout), on right-padded rows with explicit
positions; a decoder's vocabulary head runs at the positions that predict a target token only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from memkit.errors import BadInput, UnsupportedModel
from memkit.lm.batching import padded, positions
from memkit.lm.hooks import capture
from memkit.progress import track

if TYPE_CHECKING:
    from memkit.lm.model import LM
    from memkit.types import Fact

__all__ = [
    "Example",
    "Hook",
    "Loss",
    "Plan",
    "check_number",
    "definition_example",
    "fact_example",
    "losses",
    "pair_example",
    "target_logits",
    "train",
]

Hook = Callable[[Sequence[Tensor]], None]
Loss = Callable[[Sequence[int]], tuple[Tensor, list[bool]]]


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids that the model is given, and those that it is to say; a classifier's label."""

    given: tuple[int, ...]
    target: tuple[int, ...]


def check_number(name: str, value: object, *, zero: bool, infinite: bool = False) -> None:
    """Raise `BadInput` unless it is a number above 0, or, where they are allowed, 0 or infinity."""
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and (0 < value < math.inf or (zero and value == 0) or (infinite and value == math.inf))
    ):
        return
    allowed = f"a {'' if infinite else 'finite '}number {'of at least' if zero else 'above'} 0"
    raise BadInput(f"{name} is {value!r}; allowed: {allowed}. Choose one.")


def fact_example(lm: LM, fact: Fact, *, end: bool = False) -> Example:
    """A fact's prompt and target; with `end`, the end token after it in models that generate.

    Raises `BadInput` if the target is no label of a classifier, or the tokenizer has no end token.
    """
    return pair_example(lm, fact.text, fact.target, end=end)


def pair_example(lm: LM, prompt: str, response: str, *, end: bool = False) -> Example:
    """A prompt and what is to follow, whose tokens alone are learnt; see `fact_example`."""
    given = tuple(lm.codec.prompt(prompt))
    if lm.kind == "classifier":
        labels: dict[str, int] = lm.model.config.label2id
        if response not in labels:
            raise BadInput(
                f"the target {response!r} of {prompt!r} is no label; allowed: "
                f"{', '.join(map(repr, labels))}. Choose one."
            )
        return Example(given, (labels[response],))
    target = lm.codec.target(lm.codec.continuation(prompt, response))
    return Example(given, (*target, *_end(lm, end)))


def definition_example(lm: LM, text: str | None, what: str, *, end: bool = False) -> Example:
    """All tokens of a text; the first one is given unless the tokenizer has a start token.

    `what` names the text in errors. Raises `BadInput` if it is empty, has no token to predict or is
    longer than the window, `UnsupportedModel` if the model is no decoder.
    """
    if lm.kind != "decoder":
        raise UnsupportedModel(
            f"{type(lm.model).__name__}, a {lm.kind} model, cannot be trained on whole texts "
            f"({what}); allowed: a decoder. Give facts whose prompts are the texts with a gap, and "
            "train on their targets."
        )
    if not text or text.isspace():
        raise BadInput(f"{what} is {text!r}; allowed: text that is not empty. Give it one.")
    ids = lm.codec.prompt(text)
    if not 2 <= len(ids) <= lm.window:
        raise BadInput(
            f"{what} has {len(ids)} tokens ({text[:60]!r}...); allowed: 2 to {lm.window}, the "
            "model's window. Shorten or lengthen it."
        )
    return Example((ids[0],), (*ids[1:], *_end(lm, end)))


def losses(
    lm: LM, rows: Sequence[Example], *, last_position: bool = False
) -> tuple[Tensor, list[bool]]:
    """The loss of each example, [rows], and whether the argmax is right at all its target tokens.

    `last_position` reads the logits of all target tokens at the last token that is given (ROME's
    published baseline; decoders only).

    Raises `UnsupportedModel` for `last_position` in another kind than a decoder.
    """
    if last_position and lm.kind != "decoder":
        raise UnsupportedModel(
            f"{type(lm.model).__name__}, a {lm.kind} model, has no last prompt position that "
            "predicts; allowed for loss='last_position': a decoder. Take loss='target'."
        )
    logits = _decoder(lm, rows, last_position=True) if last_position else target_logits(lm, rows)
    lengths = [len(row.target) for row in rows]
    wanted = torch.tensor([token for row in rows for token in row.target], device=logits.device)
    exact = torch.promote_types(logits.dtype, torch.float32)
    each = torch.nn.functional.cross_entropy(logits.to(exact), wanted, reduction="none")
    means = torch.stack([part.mean() for part in each.split(lengths)])
    right = (logits.argmax(dim=-1) == wanted).split(lengths)
    return means, [bool(part.all()) for part in right]


def target_logits(lm: LM, rows: Sequence[Example]) -> Tensor:
    """The logits that predict each target token, [all target tokens, vocabulary], row after row.

    A classifier's are [rows, labels].
    """
    if lm.kind == "decoder":
        return _decoder(lm, rows)
    if lm.kind == "encoder-decoder":
        return _encoder_decoder(lm, rows)
    if lm.kind == "masked":
        return _masked(lm, rows)
    return _classifier(lm, rows)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast to train; the fields of `FineTune` of these names."""

    lr: float
    epochs: int
    batch_size: int
    stop_loss: float
    stop_at_argmax: bool


def train(
    parameters: Sequence[Tensor],
    loss: Loss,
    count: int,
    plan: Plan,
    *,
    before_step: Hook | None = None,
    after_step: Hook | None = None,
) -> int:
    """Adam on the mean loss of batches of `count` examples; gives the number of steps taken.

    `loss` gives what `losses` gives, for the examples of these numbers. Batches are shuffled anew
    in every epoch from torch's random state; a single batch keeps its order. Parameters in half
    precision have float32 masters, rounded into the parameter after each step. `before_step` is
    called with the masters when their gradients are there, and may add to these; `after_step` may
    change the masters. Stops where a loss is not finite, and leaves that to the guards.
    """
    masters = [_master(parameter) for parameter in parameters]
    optimiser = torch.optim.Adam(masters, lr=plan.lr)
    steps = 0
    for _ in track(range(plan.epochs), "fine-tuning"):
        total, learnt = 0.0, True
        for batch in _batches(count, plan.batch_size):
            values, right = loss(batch)
            mean = values.mean()
            figure = float(mean.detach())
            if not math.isfinite(figure):
                return steps
            total += figure * len(batch)
            if figure < plan.stop_loss or (plan.stop_at_argmax and all(right)):
                continue
            learnt = False
            mean.backward()
            _step(optimiser, masters, parameters, before_step, after_step)
            steps += 1
        if learnt or total / count < plan.stop_loss:
            break
    return steps


def _step(
    optimiser: torch.optim.Optimizer,
    masters: Sequence[Tensor],
    parameters: Sequence[Tensor],
    before_step: Hook | None,
    after_step: Hook | None,
) -> None:
    """One step on the masters, and its result in the parameters; their gradients are gone then."""
    with torch.no_grad():
        for master, parameter in zip(masters, parameters, strict=True):
            if master is not parameter:
                master.grad = None if parameter.grad is None else parameter.grad.to(master.dtype)
        if before_step is not None:
            before_step(masters)
        optimiser.step()
        if after_step is not None:
            after_step(masters)
        for master, parameter in zip(masters, parameters, strict=True):
            if master is not parameter:
                parameter.copy_(master)
            master.grad = parameter.grad = None


def _master(parameter: Tensor) -> Tensor:
    """The parameter itself, or a copy in float32 if it is of less."""
    exact = torch.promote_types(parameter.dtype, torch.float32)
    return parameter if parameter.dtype == exact else parameter.detach().to(exact)


def _batches(count: int, size: int) -> Iterator[list[int]]:
    """The numbers below `count` in batches, shuffled if there are several."""
    order: list[int] = (torch.randperm(count) if count > size else torch.arange(count)).tolist()
    for start in range(0, count, size):
        yield order[start : start + size]


def _end(lm: LM, wanted: bool) -> tuple[int, ...]:
    """The end token, if it is wanted and the model generates."""
    if not wanted or lm.kind not in ("decoder", "encoder-decoder"):
        return ()
    if lm.tokenizer.eos_token_id is None:
        raise BadInput(
            f"end is True, and the tokenizer ({type(lm.tokenizer).__name__}) has no end token; "
            "allowed: end=False. Or give the tokenizer its eos_token."
        )
    return (int(lm.tokenizer.eos_token_id),)


def _decoder(lm: LM, rows: Sequence[Example], *, last_position: bool = False) -> Tensor:
    """Logits [all target tokens, vocabulary]: the token before a target token predicts it."""
    whole = [[*row.given, *row.target[:-1]] for row in rows]
    ids, mask = padded(whole, lm.device, left=False)
    numbers, places = [], []
    for number, row in enumerate(rows):
        last = len(row.given) - 1
        numbers += [number] * len(row.target)
        places += [last + (0 if last_position else t) for t in range(len(row.target))]
    ends = lm.ends.saying([len(row.given) - 1 for row in rows])
    with ends, capture(lm.layout.layers(lm.model)[-1]) as seen:
        lm.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions(mask),
            use_cache=False,
            logits_to_keep=1,
        )
    return lm.layout.logits(lm.model, seen[0][numbers, places])


def _encoder_decoder(lm: LM, rows: Sequence[Example]) -> Tensor:
    """Logits [all target tokens, vocabulary]."""
    ids, mask = padded([row.given for row in rows], lm.device, left=False)
    start = lm.model.config.decoder_start_token_id
    shifted, inside = padded([[start, *row.target[:-1]] for row in rows], lm.device, left=False)
    logits: Tensor = lm.model(
        input_ids=ids, attention_mask=mask, decoder_input_ids=shifted, use_cache=False
    ).logits
    return logits[inside.bool()]


def _masked(lm: LM, rows: Sequence[Example]) -> Tensor:
    """Logits [all target tokens, vocabulary], every target token masked."""
    whole: list[list[int]] = []
    numbers: list[int] = []
    places: list[int] = []
    for number, row in enumerate(rows):
        end = len(row.given) - len(lm.codec.suffix)
        gap = [lm.tokenizer.mask_token_id] * len(row.target)
        whole.append([*row.given[:end], *gap, *row.given[end:]])
        numbers += [number] * len(row.target)
        places += range(end, end + len(row.target))
    ids, mask = padded(whole, lm.device, left=False)
    logits: Tensor = lm.model(input_ids=ids, attention_mask=mask).logits
    return logits[numbers, places]


def _classifier(lm: LM, rows: Sequence[Example]) -> Tensor:
    """Logits [rows, labels]."""
    ids, mask = padded([row.given for row in rows], lm.device, left=False)
    logits: Tensor = lm.model(input_ids=ids, attention_mask=mask).logits
    return logits
