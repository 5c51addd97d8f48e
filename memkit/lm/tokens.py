"""Text to token ids and back, without touching the user's tokenizer."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from memkit.errors import BadInput

__all__ = ["Codec"]

ANCHORS = ("\n", "\t", "|")


class Codec:
    """What memkit needs of a tokenizer.

    Prompts get the special tokens that the tokenizer puts around a text, once: a prompt that spells
    its start token out gets no second one. Targets get none. A tokenizer of a decoder that would
    close the text with an end token is not allowed to (`closes=False`), since the text goes on.

    `vocabulary` is the number of rows of the model's embedding. Raises `BadInput` if the tokenizer
    has no vocabulary.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, *, closes: bool) -> None:
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary
        self.closes = closes
        bare = self._ids("a")
        if not bare or len(tokenizer) <= len(tokenizer.all_special_tokens):
            raise BadInput(
                f"the tokenizer ({type(tokenizer).__name__}, {len(tokenizer)} entries) has no "
                "vocabulary; allowed: one that turns text into tokens. Put the tokenizer's files "
                "(tokenizer.json) beside the model's, or pass the tokenizer: LM(model, tokenizer)."
            )
        whole = list(tokenizer("a", verbose=False).input_ids)
        start = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        self.prefix = whole[:start]
        self.suffix = whole[start + len(bare) :] if closes else []
        self._anchor = [] if closes else bare[-1:]

    def prompt(self, text: str) -> list[int]:
        """Ids of a text with the special tokens around it.

        Raises `BadInput` if nothing is left of the text, or an id is not in the model's vocabulary.
        """
        ids = self.wrap(self._ids(text))
        if not ids:
            raise BadInput(
                f"the prompt {text!r} has no token; allowed: at least one. Ask something."
            )
        return self._known(ids, text)

    def count(self, text: str) -> int:
        """How many ids `prompt` gives; the special tokens alone for an empty text."""
        return len(self.wrap(self._ids(text)))

    def shorten(self, text: str, tokens: int) -> str:
        """The longest beginning of a text, in whole words, that has at most so many ids."""
        if self.count(text) <= tokens:
            return text
        words = text.split(" ")
        counts = range(len(words) + 1)
        fits = bisect_right(counts, tokens, key=lambda n: self.count(" ".join(words[:n]))) - 1
        return " ".join(words[:fits])

    def wrap(self, ids: list[int]) -> list[int]:
        """Put the special tokens around ids, where they are not there yet."""
        before = [] if ids[: len(self.prefix)] == self.prefix else self.prefix
        after = [] if ids[len(ids) - len(self.suffix) :] == self.suffix else self.suffix
        return [*before, *ids, *after]

    def target(self, text: str) -> list[int]:
        """Ids of a target without special tokens, tokenised apart from its prompt.

        The ids spell the text and nothing else: a target that goes on with a new word starts with
        a space (" Paris"), one after a prompt that ends with a space does not. Tokenizers that open
        every text with a space of their own (SentencePiece) are asked for the text after a line
        break, so that this space is not part of a decoder's target.

        Raises `BadInput` if the target has no token.
        """
        ids = self._ids(text) if self.closes else self._apart(text)
        if not ids:
            raise BadInput(f"the target {text!r} has no token; allowed: at least one. Name one.")
        return self._known(ids, text)

    def continuation(self, prompt: str, answer: str) -> str:
        """The answer as it goes on from the prompt: a decoder's begins with a space, once."""
        apart = not self.closes and not (prompt[-1:].isspace() or answer[:1].isspace())
        return f" {answer}" if apart else answer

    def texts(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The text of generated ids, special tokens left out, exactly as it goes on from a prompt.

        Decoders of SentencePiece drop the first space of what they are given, so an ordinary token
        goes before the ids and its text is taken off again.
        """
        rows = [[*self._anchor, *row] for row in rows]
        head, *whole = self.tokenizer.batch_decode(
            [self._anchor, *rows], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return [text[len(head) :] for text in whole]

    def _apart(self, text: str) -> list[int]:
        """Ids of a text as it stands after an anchor, the first that it does not merge with."""
        for anchor in ANCHORS:
            before, both = self._ids(anchor), self._ids(anchor + text)
            if both[: len(before)] == before:
                return both[len(before) :]
        return self._ids(text)

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    def _known(self, ids: list[int], text: str) -> list[int]:
        if max(ids) >= self.vocabulary:
            raise BadInput(
                f"the tokenizer gives id {max(ids)} for {text[:80]!r}; allowed: 0 to "
                f"{self.vocabulary - 1}, the model's vocabulary. Use the model's own tokenizer."
            )
        return ids
