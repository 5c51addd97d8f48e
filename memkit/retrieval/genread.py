"""GenRead (Yu, Iter, Wang, Xu, Ju, Sanyal, Zhu, Zeng, Jiang, ICLR 2023, arXiv:2209.10063).

Idea. The model writes the passage and then reads it: what it knows may come out when it is asked
for a document and not when it is asked for the answer. Prompt, 150 tokens and greedy decoding are
those of Mallen et al. (ACL 2023, section 5 and adaptive-retrieval): the text up to its first line
break is the passage.

As a retriever it stands where an index stands, so that the model reads with the same shots and
template as in every other arm. What it wrote is data, like any passage: one line, delimited, its
special tokens broken up (`memkit.prompts`).

Departure: upstream also writes passages for the shots, which a mistake in its keys throws away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from memkit.errors import BadInput
from memkit.retrieval.base import check_search
from memkit.types import Hit, Passage

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["PROMPT", "GenRead"]

PROMPT = "Generate a background document from Wikipedia to answer the given question. {question}"


class GenRead:
    """A retriever whose passage for a query is what the model writes: one, whatever `k` is.

    lm: writes, with whatever edits are live. Decoding is greedy, so the same model writes the same.
    prompt: has "{question}" where the query goes.
    max_new_tokens: length of a passage at most; at least 1.
    batch_size: how many passages are written at once.

    A hit's score is the summed log-probability (nats) of the tokens of all that was written, its
    passage's id a hash of query and prompt. Where the model writes nothing there is no hit.

    Raises `BadInput` for a prompt without its place holder.
    """

    def __init__(
        self, lm: LM, *, prompt: str = PROMPT, max_new_tokens: int = 150, batch_size: int = 32
    ) -> None:
        if "{question}" not in prompt:
            raise BadInput(
                f"GenRead.prompt is {prompt!r}; allowed: text with '{{question}}' in it. Put it "
                "where the question goes."
            )
        self.lm = lm
        self.prompt = prompt
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size

    def __repr__(self) -> str:
        return f"GenRead({self.lm!r}, max_new_tokens={self.max_new_tokens!r})"

    def search(self, queries: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """The passage that the model writes for each query; equal queries are written for once.

        Raises `BadInput` for an empty query, k < 1, and a query that does not fit into the model's
        window with the passage.
        """
        check_search(queries, k)
        distinct = list(dict.fromkeys(queries))
        prompts = [self.prompt.replace("{question}", " ".join(query.split())) for query in distinct]
        if not prompts:
            return []
        written = self.lm.complete(
            prompts, self.max_new_tokens, stop=(), batch_size=self.batch_size
        )
        hits = {
            query: self._hits(prompt, said.text, said.logprob)
            for query, prompt, said in zip(distinct, prompts, written, strict=True)
        }
        return [list(hits[query]) for query in queries]

    def _hits(self, prompt: str, text: str, logprob: float) -> list[Hit]:
        text = text.strip().split("\n", 1)[0].strip()
        if not text:
            return []
        digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()
        return [Hit(Passage(f"genread-{digest[:16]}", text), logprob, 1)]
