"""LM: a Hugging Face model with its tokenizer and what memkit knows of its architecture."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

import torch

from memkit.errors import BadInput, UnsupportedModel
from memkit.files import building
from memkit.lm.batching import batches, windows
from memkit.lm.checks import check_count, check_stops, check_texts
from memkit.lm.drafting import Admit, Draft, FirstPass
from memkit.lm.ends import Ends
from memkit.lm.fingerprint import versions, weights_hash
from memkit.lm.generation import Completion, Generated, Glance, cut, greedy
from memkit.lm.layouts import Kind, find_layout, find_window
from memkit.lm.loading import load, pick_device, pick_dtype, quiet
from memkit.lm.scoring import (
    Scored,
    TargetLogprob,
    logprob_of,
    score_decoder,
    score_encoder_decoder,
    score_labels,
    score_masked,
    score_options,
)
from memkit.lm.tokens import Codec
from memkit.progress import track

__all__ = ["LM"]

T = TypeVar("T")

LARGEST = 700.0  # nats a token; beyond, exp has no floating-point number
LOGIT_ROWS = 2048  # perplexity's logits at a time: 400 MB in float32 with 50,000 entries


class LM:
    """A language model: what it says, and how likely it finds what others say.

    `model` and `tokenizer` are the Hugging Face objects themselves; the model is put into
    evaluation mode. `kind` is "decoder", "encoder-decoder", "masked" or "classifier", `window` the
    number of tokens that the model takes at once, `layout` where its layers and weights are,
    `codec` turns text into token ids, `edits` are the edits that are live, in the order in which
    they were made, `paused` those that are set aside for a while, `ends` says where the prompts end
    in the rows of a pass. Results in a batch are those of one prompt at a time, up to floating
    point (about 1e-6 in float32), and no call touches the random state.

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
        self._print: tuple[object, str] | None = None
        self._kept: tuple[str, dict[Any, Any]] = ("", {})

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
        state = self._state()
        if self._print is None or self._print[0] != state:
            over = "".join(edit.digest() for edit in self.edits if edit.adaptor is not None)
            whole = weights_hash(self.model) + over
            self._print = (state, hashlib.sha256(whole.encode()).hexdigest() if over else whole)
        return self._print[1]

    def known_fingerprint(self) -> str | None:
        """The fingerprint, if it need not be computed."""
        current = self._print is not None and self._print[0] == self._state()
        return self._print[1] if self._print is not None and current else None

    def remember_fingerprint(self, known: str | None) -> None:
        """Say what the fingerprint is now, for who has put weights back; None: not known."""
        self._print = None if known is None else (self._state(), known)

    def _state(self) -> object:
        """What differs whenever weights or live adaptors do."""
        over = [(id(e), e.revision) for e in self.edits if e.adaptor is not None]
        return versions(self.model), over

    def keep(self, key: object, make: Callable[[], T]) -> T:
        """What `make` gives: made once, kept as long as the weights are what they are now."""
        current = self.fingerprint()
        if self._kept[0] != current:
            self._kept = (current, {})
        kept = self._kept[1]
        if key not in kept:
            kept[key] = make()
        value: T = kept[key]
        return value

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
        rows = self._asked(prompts, max_new_tokens)
        return [done for done, _ in self._generate(rows, max_new_tokens, stop, batch_size)]

    def complete_ids(
        self,
        rows: Sequence[Sequence[int]],
        max_new_tokens: int = 16,
        stop: str | Sequence[str] = ("\n",),
        batch_size: int = 32,
    ) -> list[Completion]:
        """As `complete`, of prompts given as token ids, special tokens included."""
        self._asked((), max_new_tokens)
        room = max_new_tokens if self.kind == "decoder" else 0
        rows = self._fitting(rows, [room] * len(rows))
        return [done for done, _ in self._generate(rows, max_new_tokens, stop, batch_size)]

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
        glance = FirstPass(self.layout, self.model, self.kind, layers)

        def seen(batch: Sequence[int]) -> FirstPass:
            glance.places, glance.ask = batch, lambda firsts: admit(batch, firsts)
            return glance

        rows = self._asked(prompts, max_new_tokens)
        made = self._generate(rows, max_new_tokens, stop, batch_size, seen)
        firsts = glance.firsts
        return [
            Draft(firsts[i], done if state.tokens else None, tuple(state.entropies))
            for i, (done, state) in enumerate(made)
        ]

    def _asked(self, prompts: Sequence[str], max_new_tokens: int) -> list[list[int]]:
        """Ids of prompts that are to be continued by so many tokens."""
        if self.kind not in ("decoder", "encoder-decoder"):
            raise UnsupportedModel(
                f"a {self.kind} model does not generate; allowed: a decoder or an encoder-decoder. "
                "Score what it may say with logprob(prompts, targets)."
            )
        check_count("max_new_tokens", max_new_tokens)
        check_texts("prompts", prompts)
        return self._prompts(prompts, max_new_tokens if self.kind == "decoder" else 0)

    def _generate(
        self,
        rows: list[list[int]],
        max_new_tokens: int,
        stop: str | Sequence[str],
        batch_size: int,
        glance: Callable[[Sequence[int]], Glance] | None = None,
    ) -> list[tuple[Completion, Generated]]:
        stops = check_stops(stop)
        ended = self._ended(stops)
        results: dict[int, Generated] = {}
        for batch in self._batches(rows, batch_size, "generating"):
            given, self.ends.rows = [rows[i] for i in batch], None
            look = None if glance is None else glance(batch)
            outputs = greedy(self.model, given, max_new_tokens, ended, self.ends.keep, look)
            results.update(zip(batch, outputs, strict=True))
        made = [results[i] for i in range(len(rows))]
        texts = self.codec.texts([state.tokens for state in made])
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
        check_texts("prompts", prompts)
        check_texts("targets", targets)
        if len(prompts) != len(targets):
            raise BadInput(
                f"logprob got {len(prompts)} prompts and {len(targets)} targets; allowed: as many. "
                "Give every prompt its target."
            )
        goals = [self._target(target) for target in targets]
        room = 0 if self.kind in ("encoder-decoder", "classifier") else goals
        return self._scored(self._prompts(prompts, room), goals, batch_size)

    def logprob_ids(
        self,
        rows: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
        batch_size: int = 32,
    ) -> list[TargetLogprob]:
        """As `logprob`, of prompts and targets given as token ids, special tokens included."""
        apart = self.kind == "encoder-decoder"
        given = self._fitting(rows, [0 if apart else len(target) for target in targets])
        return self._scored(given, [list(target) for target in targets], batch_size)

    def _scored(
        self, rows: list[list[int]], goals: list[list[int]], batch_size: int
    ) -> list[TargetLogprob]:
        results: dict[int, list[Scored]] = {}
        for batch in self._batches(rows, batch_size, "scoring"):
            scores = self._score([rows[i] for i in batch], [goals[i] for i in batch], batch_size)
            results.update(zip(batch, scores, strict=True))
        return [logprob_of(goal, results[i]) for i, goal in enumerate(goals)]

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
        goals = [[self._target(option) for option in own] for own in options]
        rows = self._prompts(prompts, [max(own, key=len) for own in goals])
        results: dict[int, list[list[Scored]]] = {}
        for batch in self._batches(rows, batch_size, "scoring"):
            given, wanted = [rows[i] for i in batch], [goals[i] for i in batch]
            results.update(zip(batch, score_options(self.model, given, wanted), strict=True))
        return [
            [logprob_of(goal, scored) for goal, scored in zip(own, results[i], strict=True)]
            for i, own in enumerate(goals)
        ]

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
        parts = [part for text in texts for part in windows(self.codec.prompt(text), self.window)]
        scores: list[float] = []
        rows = [given + scored for given, scored in parts]
        for batch in self._batches(rows, batch_size, "perplexity", LOGIT_ROWS):
            given, scored = zip(*(parts[i] for i in batch), strict=True)
            rated = chain.from_iterable(score_decoder(self.model, given, scored))
            scores += [value for value, _ in rated]
        if not scores:
            raise BadInput(
                f"{len(texts)} texts have no token to predict; allowed: at least one text of two "
                "tokens. Give longer texts."
            )
        nats = -math.fsum(scores) / len(scores)
        return math.exp(nats) if not nats > LARGEST else math.inf

    def _score(
        self, prompts: list[list[int]], targets: list[list[int]], size: int
    ) -> list[list[Scored]]:
        """Every target token of one batch."""
        if self.kind == "decoder":
            length = max(len(p) + len(t) - 1 for p, t in zip(prompts, targets, strict=True))
            with self.ends.saying([length - len(target) for target in targets]):
                return score_decoder(self.model, prompts, targets)
        if self.kind == "encoder-decoder":
            return score_encoder_decoder(self.model, prompts, targets)
        if self.kind == "classifier":
            labels = [label for (label,) in targets]
            return [[score] for score in score_labels(self.model, prompts, labels)]
        mask_id = self.tokenizer.mask_token_id
        results = []
        for prompt, target in zip(prompts, targets, strict=True):
            end = len(prompt) - len(self.codec.suffix)
            row = [*prompt[:end], *target, *prompt[end:]]
            places = range(end, end + len(target))
            scores: list[Scored] = []
            for start in range(0, len(places), size):
                some = places[start : start + size]
                scores += score_masked(self.model, [row] * len(some), some, mask_id)
            results.append(scores)
        return results

    def _target(self, target: str) -> list[int]:
        if self.kind != "classifier":
            return self.codec.target(target)
        labels: dict[str, int] = self.model.config.label2id
        if target not in labels:
            names = ", ".join(repr(label) for label in labels)
            raise BadInput(f"the target {target!r} is no label; allowed: {names}. Choose one.")
        return [labels[target]]

    def _prompts(
        self, prompts: Sequence[str], room: int | Sequence[Sequence[int]]
    ) -> list[list[int]]:
        """Ids of the prompts, each of which has to fit into the window with its room."""
        rows = [self.codec.prompt(prompt) for prompt in prompts]
        more = [room if isinstance(room, int) else len(room[i]) for i in range(len(rows))]
        return self._fitting(rows, more, prompts)

    def _fitting(
        self, rows: Sequence[Sequence[int]], more: Sequence[int], texts: Sequence[str] = ()
    ) -> list[list[int]]:
        """The rows, each of which has to fit into the window with so many more tokens."""
        for i, (row, room) in enumerate(zip(rows, more, strict=True)):
            if len(row) + room > self.window:
                text = f" ({texts[i][:60]!r}...)" if texts else ""
                raise BadInput(
                    f"prompt {i}{text} has {len(row)} tokens and {room} are to "
                    f"follow; allowed: {self.window} together, the model's window. Shorten it, or "
                    "build it within a token budget (memkit.prompts)."
                )
        return [list(row) for row in rows]

    def _batches(
        self, rows: list[list[int]], size: int, what: str, tokens: int | None = None
    ) -> Iterator[list[int]]:
        check_count("batch_size", size)
        return track(list(batches([len(row) for row in rows], size, tokens)), what)

    def _ended(self, stops: Sequence[str]) -> Callable[[list[Generated]], list[bool]]:
        """Says of each row whether its newest token ends it.

        That is an end token, of the generation settings or the tokenizer, or one that completes a
        stop string.
        """
        settings = self.model.generation_config.eos_token_id
        ends = {
            self.tokenizer.eos_token_id,
            *(settings if isinstance(settings, list) else [settings]),
        }

        def ended(rows: list[Generated]) -> list[bool]:
            over = [row.tokens[-1] in ends for row in rows]
            if not stops:
                return over
            texts = self.codec.texts([row.tokens for row in rows])
            return [o or any(s in text for s in stops) for o, text in zip(over, texts, strict=True)]

        return ended
