"""A model, with the edits that are live, in EleutherAI's lm-evaluation-harness.

    import lm_eval
    found = lm_eval.simple_evaluate(model=memkit.to_lm_eval(lm), tasks=["hellaswag"])

The harness's own `HFLM(pretrained=lm.model, tokenizer=lm.tokenizer)` takes edited weights as they
are, but not what lies over layers (GRACE, Defer, Memory): those ask where the prompt ends in each
row, and HFLM scores a row without saying so, right-padded and without a mask, so that they look at
the wrong token. Here every request goes through the calls that `LM.logprob` and `LM.complete` make.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memkit.errors import BadInput, MissingDependency, UnsupportedModel

if TYPE_CHECKING:
    from memkit.lm.model import LM
    from memkit.lm.scoring import TargetLogprob

__all__ = ["to_lm_eval"]

NEW_TOKENS = 256  # of a generation whose task does not say how many, as in HFLM


def to_lm_eval(lm: LM, batch_size: int = 32) -> Any:
    """An `lm_eval.api.model.LM` of a model, whose edits count as they are when it is asked.

    Prompt and answer are tokenised apart, as by `LM.logprob`; spaces at the end of a context belong
    to what follows, as in HFLM. What is longer than the window loses its beginning, as there.
    Generation is greedy: a task that samples is refused.

    Raises `UnsupportedModel` for a model that does not generate, `MissingDependency` without
    lm-eval (extra `lm-eval`).
    """
    try:
        from lm_eval.api import model as api
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
    except ImportError as error:
        raise MissingDependency(
            f"lm-eval is not installed ({error}), and the harness needs it; allowed: with it. "
            "Install it: pip install 'memkit[lm-eval]'."
        ) from error
    if lm.kind not in ("decoder", "encoder-decoder"):
        raise UnsupportedModel(
            f"a {lm.kind} model does not generate; allowed in the harness: a decoder or an "
            "encoder-decoder. Score it with LM.logprob."
        )

    class Harnessed(api.LM):  # type: ignore[misc]
        """The requests of the harness, answered by an LM."""

        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            """Sum of the log-probabilities of each continuation, and whether greedy says it."""
            pairs = [_pair(lm, *request.args) for request in requests]
            return [(score.total, all(score.argmax)) for score in _scores(lm, pairs, batch_size)]

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            """Log-probability of each whole text, in windows with as much context as fits."""
            if lm.kind != "decoder":
                raise UnsupportedModel(
                    f"a {lm.kind} model gives no probability to a text as a whole; allowed: tasks "
                    "that score continuations, or a decoder. Choose another task."
                )
            rows, owners = [], []
            for owner, request in enumerate(requests):
                (text,) = request.args
                ids = lm.codec.prompt(text)[len(lm.codec.prefix) :]
                windows = get_rolling_token_windows(ids, _start(lm)[-1], lm.window - 1, 1)
                for pair in windows:
                    rows.append(make_disjoint_window(pair))
                    owners.append(owner)
            totals = [0.0] * len(requests)
            for owner, score in zip(owners, _scores(lm, rows, batch_size), strict=True):
                totals[owner] += score.total
            return totals

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            """Each context continued greedily up to one of its stop strings."""
            groups: dict[tuple[int, tuple[str, ...]], list[int]] = {}
            for place, request in enumerate(requests):
                groups.setdefault(_settings(lm, request.args[1]), []).append(place)
            texts = [""] * len(requests)
            for (count, stops), places in groups.items():
                room = lm.window - (count if lm.kind == "decoder" else 0)
                rows = [_cut(lm, requests[place].args[0], room) for place in places]
                for place, done in zip(
                    places, lm.complete_ids(rows, count, stops, batch_size), strict=True
                ):
                    texts[place] = done.text
            return texts

        def apply_chat_template(
            self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
        ) -> str:
            """The tokenizer's chat template."""
            prompt: str = lm.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
            return prompt

        @property
        def tokenizer_name(self) -> str:
            """The tokenizer's name, for the harness's caches."""
            return str(lm.tokenizer.name_or_path).replace("/", "__")

    return Harnessed()


def _scores(
    lm: LM, pairs: Sequence[tuple[list[int], list[int]]], batch_size: int
) -> list[TargetLogprob]:
    """The second of each pair after the first."""
    given, scored = [first for first, _ in pairs], [second for _, second in pairs]
    return lm.logprob_ids(given, scored, batch_size)


def _pair(lm: LM, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Ids of a context, as much of its end as fits, and of what follows."""
    bare = context.rstrip()
    target = lm.codec.target(context[len(bare) :] + continuation)
    room = lm.window - (len(target) if lm.kind == "decoder" else 0)
    if room < 1:
        raise BadInput(
            f"the continuation {continuation[:60]!r}... has {len(target)} tokens; allowed: "
            f"{lm.window - 1}, the model's window less one. Choose another task or model."
        )
    return _cut(lm, bare, room), target


def _cut(lm: LM, context: str, room: int) -> list[int]:
    """Ids of the end of a context, behind the special tokens; an empty one is a start token."""
    if room < 1:
        raise BadInput(
            f"max_gen_toks leaves {room} tokens of the window of {lm.window} for the prompt; "
            "allowed: at least 1. Pass gen_kwargs={'max_gen_toks': ...} to the harness."
        )
    ids = lm.codec.prompt(context) if context else _start(lm)
    if len(ids) <= room:
        return ids
    special = lm.codec.prefix if len(lm.codec.prefix) < room else []
    return [*special, *ids[len(ids) - room + len(special) :]]


def _start(lm: LM) -> list[int]:
    """What stands before a text that has nothing before it."""
    if lm.codec.prefix:
        return list(lm.codec.prefix)
    tokenizer = lm.tokenizer
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [int(token)]
    raise BadInput(
        "the tokenizer has no start and no end token, and a context is empty; allowed: one of "
        "them. Set tokenizer.eos_token."
    )


def _settings(lm: LM, given: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
    """How many new tokens, and the stop strings, of a task's generation settings."""
    if given.get("do_sample") and given.get("temperature", 1.0) > 0:
        raise BadInput(
            f"the task samples ({given!r}); allowed: greedy generation. Pass "
            "gen_kwargs={'do_sample': False} to the harness."
        )
    until = given.get("until") or ()
    stops = (until,) if isinstance(until, str) else tuple(until)
    count = given.get("max_gen_toks", given.get("max_new_tokens", NEW_TOKENS))
    longest = lm.window - 1 if lm.kind == "decoder" and "max_gen_toks" not in given else count
    return min(int(count), longest), tuple(stop for stop in stops if stop)
