"""DPR (Karpukhin, Oguz, Min, Lewis, Wu, Edunov, Chen, Yih, EMNLP 2020): two BERTs, one dot product.

A passage is "title [SEP] text" and its vector the first token's state, cut at 256 tokens, as in
facebookresearch/DPR; the question encoder does the same for questions. Loads Facebook's models
(`facebook/dpr-*`) and those that sentence-transformers made of them (`facebook-dpr-*`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput
from memkit.retrieval.encoder_table import Similarity
from memkit.retrieval.hashing import parameters_sha256

__all__ = ["DPREncoder", "towers"]

MAX_TOKENS = 256
PASSAGE, QUESTION = "ctx_encoder", "question_encoder"
Side = Literal["ctx_encoder", "question_encoder"]


class DPREncoder:
    """Both encoders of a DPR model, as one `Encoder`.

    `name` is that of either; the other's has "ctx_encoder" for "question_encoder" or the other way
    round. The first line of a passage that has several is taken for its title, as
    `Passage.contents` puts it.

    Raises `BadInput` if the name says neither, or one of the two is not there.
    """

    max_tokens: int | None = MAX_TOKENS

    def __init__(
        self, name: str, *, similarity: Similarity = "dot", device: str | None = None
    ) -> None:
        names = towers(name)
        self.name = name
        self.similarity: Similarity = similarity
        self._passages, self._questions = (
            _Tower(names[side], side, device) for side in (PASSAGE, QUESTION)
        )
        self.sha256 = parameters_sha256(
            [self._passages.model, self._questions.model], "dpr", MAX_TOKENS
        )

    @property
    def settings(self) -> Mapping[str, Any]:
        """What `load_encoder` needs besides the name to make it again."""
        return {"similarity": self.similarity}

    def encode_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors [n, d], float32, in one batch."""
        return self._questions.encode(texts)

    def encode_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors [n, d], float32, in one batch."""
        separator = f" {self._passages.tokenizer.sep_token} "
        return self._passages.encode([text.replace("\n", separator, 1) for text in texts])


def towers(name: str) -> dict[str, str]:
    """The names of the encoders of passages and of questions, given one of them."""
    for own, other in ((PASSAGE, QUESTION), (QUESTION, PASSAGE)):
        if own in name:
            head, _, tail = name.rpartition(own)
            return {own: name, other: f"{head}{other}{tail}"}
    raise BadInput(
        f"the DPR encoder is {name!r}; allowed: a name with {PASSAGE!r} or {QUESTION!r} in it, by "
        "which the other one is found. Rename the two folders so."
    )


class _Tower:
    """One of the two models with its tokenizer."""

    def __init__(self, name: str, side: str, device: str | None) -> None:
        import torch
        import transformers

        kinds = {
            PASSAGE: transformers.DPRContextEncoder,
            QUESTION: transformers.DPRQuestionEncoder,
        }
        try:
            config = transformers.AutoConfig.from_pretrained(name)
            kind: Any = kinds[side] if config.model_type == "dpr" else transformers.AutoModel
            self.model = kind.from_pretrained(name, dtype=torch.float32).eval()
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise BadInput(
                f"the DPR encoder {name!r} cannot be loaded ({error}); allowed: a folder or Hub id "
                "of transformers. Both encoders of the pair must be there."
            ) from error
        self.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        import torch

        batch = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        ).to(self.model.device)
        with torch.inference_mode():
            output = self.model(**batch)
        # DPR's own models give the first token's state (projected where they project) and no more
        if "last_hidden_state" in output:
            states = output.last_hidden_state[:, 0]
        else:
            states = output.pooler_output
        return np.asarray(states.float().cpu().numpy(), dtype=np.float32)
