"""LM: a Hugging Face model with its tokenizer and what memkit knows of its architecture."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from memkit.errors import BadInput, UnsupportedModel
from memkit.files import building
from memkit.lm.checks import check_texts
from memkit.lm.completing import completions, drafts
from memkit.lm.drafting import Admit, Draft
from memkit.lm.ends import Ends
from memkit.lm.generation import Completion
from memkit.lm.layouts import Kind, find_layout, find_window
from memkit.lm.loading import load, pick_device, pick_dtype, quiet
from memkit.lm.rating import perplexity, rated, rated_options
from memkit.lm.rows import answer_room, asked, fitting, pairs, prompt_rows, target_row
from memkit.lm.scoring import TargetLogprob
from memkit.lm.state import Mark, State
from memkit.lm.tokens import Codec

__all__ = ["LM"]

T = TypeVar("T")


class LM:
    """A language model: what it says, and how likely it finds what others say.

    `model` and `tokenizer` are the Hugging Face objects themselves; every call works in evaluation
    mode. `kind` is "decoder", "encoder-decoder", "masked" or "classifier", `window` the
    number of tokens that the model takes at once, `layout` where its layers and weights are,
    `codec` turns text into token ids, `edits` are the edits that are live, in the order in which
    they were made, `paused` those that are set aside for a while, `ends` says where the prompts end
    in the rows of a pass. Results in a batch are those of one prompt at a time, up to floating
    point (about 1e-6 in float32), and no call touches the random state. Several threads may
    ask a model at once, with live edits too; edits are made and taken back by one, while none asks.

    Raises `UnsupportedModel` if no layout knows the model, `BadInput` if the tokenizer is empty or
    that of a masked model has no mask token.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.layout = find_layout(model.config.model_type)
        self.kind: Kind = self.layout.kind(type(model).__name__)
        vocabulary = model.get_input_embeddings().num_embeddings
        self.codec = Codec(tokenizer, vocabulary, closes=self.kind != "decoder")
        if self.kind == "masked" and tokenizer.mask_token_id is None:
            raise BadInput(
                f"the tokenizer ({type(tokenizer).__name__}) of a {type(model).__name__} has no "
                "mask token; allowed: one that has. Use the model's own tokenizer."
            )
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.window = find_window(model.config)
        self.edits: list[Any] = []
        self.paused: list[Any] = []
        self.ends = Ends()
        self._state = State(self)

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str],
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        revision: str | None = None,
    ) -> LM:
        """Load a folder written by `save_pretrained`, or a model of the Hugging Face Hub by its id.

        `device` "auto" is CUDA where there is one, else MPS, else the CPU. `dtype` "auto" is that
        of the checkpoint, except that float16 is computed in float32 on a CPU. `revision` is the
        Hub's branch, tag or commit. Only safetensors are read.

        Raises `BadInput` if folder, config, tokenizer or weights are missing, damaged or out of
        reach, or device or dtype do not exist; `UnsupportedModel` if no layout knows the model.
        """
        model, tokenizer = load(name, pick_device(device), pick_dtype(dtype), revision)
        return cls(model, tokenizer)

    def save(self, folder: str | os.PathLike[str], *, replace: bool = False) -> None:
        """Write weights (safetensors), config and tokenizer as they are now, live edits included.

        The folder is whole or absent. Raises `BadInput` if it exists and `replace` is false, or if
        an edit is live that is no change of weights (GRACE, Defer, Memory).
        """
        over = [edit for edit in self.edits if edit.adaptor is not None]
        if over:
            raise BadInput(
                f"{over[0]!r} lies over a layer, and no weight holds it; allowed: edits of weights."
                " Save it with edit.save(folder), and the model inside `with edit.paused()`."
            )
        with building(folder, replace=replace) as temporary, quiet():
            self.model.save_pretrained(temporary)
            self.tokenizer.save_pretrained(temporary)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.model.device
        return device

    def __repr__(self) -> str:
        return f"LM({type(self.model).__name__}, {self.kind}, window={self.window})"

    def fingerprint(self) -> str:
        """SHA-256 of config, weights and adaptors as they are; computed only after a change."""
        return self._state.fingerprint()

    def mark(self) -> Mark:
        """Stands for what weights and live adaptors are now: the same one until one changes."""
        return self._state.mark()

    def returned(self, mark: Mark, restored: Iterable[Tensor], earlier: Iterable[Mark]) -> None:
        """Say that these parameters have a mark's bytes again; see `memkit.lm.state`."""
        self._state.returned(mark, restored, earlier)

    def keep(self, key: object, make: Callable[[], T], slot: str | None = None) -> T:
        """What `make` gives: made once, kept as long as the weights are what they are now.

        Of what is large, name a slot: it holds what was asked for last, and nothing else.
        """
        return self._state.keep(key, make, slot)

    def count_tokens(self, text: str) -> int:
        """Length of a prompt as `complete` counts it, special tokens included."""
        return self.codec.count(text)

    def generate(
        self,
        prompts: Sequence[str],
        max_new_tokens: int = 16,
        stop: str | Sequence[str] = ("\n",),
        batch_size: int = 32,
    ) -> list[str]:
        """The texts of `complete`."""
        return [done.text for done in self.complete(prompts, max_new_tokens, stop, batch_size)]

    def complete(
        self,
        prompts: Sequence[str],
        max_new_tokens: int = 16,
        stop: str | Sequence[str] = ("\n",),
        batch_size: int = 32,
    ) -> list[Completion]:
        """Continue each prompt greedily, up to a stop string, the end token or `max_new_tokens`.

        The text is cut before the first stop string and not stripped. A decoder's goes on from the
        prompt; an encoder-decoder's is all that its decoder wrote. Greedy is the plain argmax: the
        checkpoint's generation settings count only for their end tokens.

        Raises `BadInput` if a prompt with its new tokens is longer than the window (nothing is ever
        truncated here), or a parameter is not allowed; `UnsupportedModel` if the kind has no
        generation.
        """
        rows = asked(self, prompts, max_new_tokens)
        return completions(self, rows, max_new_tokens, stop, batch_size)

    def complete_ids(
        self,
        rows: Sequence[Sequence[int]],
        max_new_tokens: int = 16,
        stop: str | Sequence[str] = ("\n",),
        batch_size: int = 32,
    ) -> list[Completion]:
        """As `complete`, of prompts given as token ids, special tokens included."""
        room = answer_room(self, max_new_tokens)
        rows = fitting(self, rows, [room] * len(rows))
        return completions(self, rows, max_new_tokens, stop, batch_size)

    def draft(
        self,
        prompts: Sequence[str],
        admit: Admit,
        max_new_tokens: int = 16,
        stop: str | Sequence[str] = ("\n",),
        batch_size: int = 32,
        layers: Sequence[int] = (),
    ) -> list[Draft]:
        """As `complete`, but look at each answer's first token before it goes on.

        When a batch of prompts has been read, `admit` is told their places in `prompts` and what
        the model makes of the first token of each, and says which go on, from the same key-value
        cache; the others get no completion. `layers` (from 0) are those whose hidden states are
        wanted.

        Raises as `complete`; `BadInput` for a layer that is not there, `UnsupportedModel` for
        hidden states of anything but a decoder.
        """
        rows = asked(self, prompts, max_new_tokens)
        return drafts(self, rows, admit, max_new_tokens, stop, batch_size, layers)

    def logprob(
        self, prompts: Sequence[str], targets: Sequence[str], batch_size: int = 32
    ) -> list[TargetLogprob]:
        """How likely each target is after its prompt, in nats, summed over all target tokens.

        Prompt and target are tokenised apart and joined as ids, so that the prompt is exactly what
        `complete` sees; give a target its leading space (" Paris"). No end token is scored.

        decoder           log p(target | prompt)
        encoder-decoder   log p(target | prompt), the target in the decoder
        masked            pseudo-log-likelihood of the target in its place after the prompt: each
                          target token masked in turn, all others visible (Salazar et al., ACL 2020)
        classifier        log p(label | prompt); the target is a label's name, its token the label's
                          number

        Raises `BadInput` if prompts and targets are not as many, a target is empty or no label, or
        both together are longer than the window.
        """
        rows, goals = pairs(self, prompts, targets)
        return rated(self, rows, goals, batch_size)

    def logprob_ids(
        self,
        rows: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
        batch_size: int = 32,
    ) -> list[TargetLogprob]:
        """As `logprob`, of prompts and targets given as token ids, special tokens included."""
        apart = self.kind == "encoder-decoder"
        given = fitting(self, rows, [0 if apart else len(target) for target in targets])
        return rated(self, given, targets, batch_size)

    def options(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]], batch_size: int = 32
    ) -> list[list[TargetLogprob]]:
        """How likely each of a prompt's options is: `logprob` of every pair.

        A decoder reads each prompt once for all of its options, unless an edit is live that is no
        change of weights.

        Raises as `logprob`, and `BadInput` for a prompt without options.
        """
        if len(prompts) != len(options) or not all(options):
            raise BadInput(
                f"options got {len(prompts)} prompts and {[len(own) for own in options]!r:.80} "
                "options; allowed: a list for each prompt, with one at least."
            )
        if self.kind != "decoder" or any(edit.adaptor is not None for edit in self.edits):
            pairs = [(p, o) for p, own in zip(prompts, options, strict=True) for o in own]
            flat = iter(self.logprob([p for p, _ in pairs], [o for _, o in pairs], batch_size))
            return [[next(flat) for _ in own] for own in options]
        check_texts("prompts", prompts)
        goals = [[target_row(self, option) for option in own] for own in options]
        rows = prompt_rows(self, prompts, [max(map(len, own)) for own in goals])
        return rated_options(self, rows, goals, batch_size)

    def perplexity(self, texts: Sequence[str], batch_size: int = 32) -> float:
        """Perplexity of a decoder: exp of the mean negative log-likelihood (nats) of all tokens.

        Every token counts once, a text's first one only where the tokenizer puts a start token
        before it. A text longer than the window is read in windows that move on by half their
        length, so that beyond the first window each token is given at least half a window.

        Raises `BadInput` if there is no token to predict, `UnsupportedModel` for other kinds.
        """
        if self.kind != "decoder":
            raise UnsupportedModel(
                f"a {self.kind} model gives no probability to a text as a whole, so it has no "
                "perplexity; allowed: a decoder. Compare targets with logprob(prompts, targets)."
            )
        check_texts("texts", texts)
        return perplexity(self, [self.codec.prompt(text) for text in texts], batch_size)
