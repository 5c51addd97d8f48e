"""Texts to rows of token ids that fit into the model's window, and the rows in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from memkit.errors import BadInput, UnsupportedModel
from memkit.lm.batching import batches
from memkit.lm.checks import check_count, check_texts
from memkit.progress import track

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["answer_room", "asked", "fitting", "in_batches", "pairs", "prompt_rows", "target_row"]


def asked(lm: LM, prompts: Sequence[str], max_new_tokens: int) -> list[list[int]]:
    """Ids of prompts that are to be continued by so many tokens.

    Raises `UnsupportedModel` if the model has no generation, `BadInput` if a prompt does not fit.
    """
    room = answer_room(lm, max_new_tokens)
    check_texts("prompts", prompts)
    return prompt_rows(lm, prompts, [room] * len(prompts))


def answer_room(lm: LM, max_new_tokens: int) -> int:
    """How much of the window an answer of so many tokens takes; `UnsupportedModel` as `asked`."""
    if lm.kind not in ("decoder", "encoder-decoder"):
        raise UnsupportedModel(
            f"a {lm.kind} model does not generate; allowed: a decoder or an encoder-decoder. "
            "Score what it may say with logprob(prompts, targets)."
        )
    check_count("max_new_tokens", max_new_tokens)
    return max_new_tokens if lm.kind == "decoder" else 0


def pairs(
    lm: LM, prompts: Sequence[str], targets: Sequence[str]
) -> tuple[list[list[int]], list[list[int]]]:
    """Ids of prompts and of their targets; raises `BadInput` if they are not as many."""
    check_texts("prompts", prompts)
    check_texts("targets", targets)
    if len(prompts) != len(targets):
        raise BadInput(
            f"logprob got {len(prompts)} prompts and {len(targets)} targets; allowed: as many. "
            "Give every prompt its target."
        )
    goals = [target_row(lm, target) for target in targets]
    apart = lm.kind in ("encoder-decoder", "classifier")
    return prompt_rows(lm, prompts, [0 if apart else len(goal) for goal in goals]), goals


def target_row(lm: LM, target: str) -> list[int]:
    """Ids of a target; of a classifier the label's number, and `BadInput` if there is none."""
    if lm.kind != "classifier":
        return lm.codec.target(target)
    labels: dict[str, int] = lm.model.config.label2id
    if target not in labels:
        names = ", ".join(repr(label) for label in labels)
        raise BadInput(f"the target {target!r} is no label; allowed: {names}. Choose one.")
    return [labels[target]]


def prompt_rows(lm: LM, prompts: Sequence[str], more: Sequence[int]) -> list[list[int]]:
    """Ids of the prompts, each of which has to fit into the window with so many more tokens."""
    return fitting(lm, [lm.codec.prompt(prompt) for prompt in prompts], more, prompts)


def fitting(
    lm: LM, rows: Sequence[Sequence[int]], more: Sequence[int], texts: Sequence[str] = ()
) -> list[list[int]]:
    """The rows, each of which has to fit into the window with so many more tokens."""
    for i, (row, room) in enumerate(zip(rows, more, strict=True)):
        if len(row) + room > lm.window:
            text = f" ({texts[i][:60]!r}...)" if texts else ""
            raise BadInput(
                f"prompt {i}{text} has {len(row)} tokens and {room} are to "
                f"follow; allowed: {lm.window} together, the model's window. Shorten it, or "
                "build it within a token budget (memkit.prompts)."
            )
    return [list(row) for row in rows]


def in_batches(
    rows: Sequence[Sequence[int]], size: int, what: str, tokens: int | None = None
) -> Iterator[list[int]]:
    """Indices of the rows in batches of similar length, with progress; see `batches`."""
    check_count("batch_size", size)
    return track(list(batches([len(row) for row in rows], size, tokens)), what)
