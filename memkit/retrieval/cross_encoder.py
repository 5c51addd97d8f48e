"""Re-ranking by a cross-encoder (Nogueira and Cho 2019, arXiv:1901.04085).

Idea. A first retriever proposes, quickly; a model that reads query and passage together scores
each pair anew, slowly. What the first one did not propose is not found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from memkit.errors import BadInput, MissingDependency
from memkit.retrieval.base import Retriever, check_search, ranked
from memkit.types import Hit

__all__ = ["DEPTH", "MODEL", "CrossEncoder"]

DEPTH = 100
MODEL = "cross-encoder/ms-marco-MiniLM-L6-v2"


class CrossEncoder:
    """A retriever that puts what another one finds in the order of a cross-encoder's scores.

    retriever: proposes.
    model: the folder or Hub id of a sentence-transformers `CrossEncoder` with one output, or such
        an object. It reads the query and `Passage.contents`; what is longer than its `max_length`
        is cut by its tokenizer.
    depth: how many passages are scored for a query, whatever `k` a search asks for; a search gives
        no more than these. At least 1.
    batch_size: pairs that the model reads at once. Batches hold pairs of one query, so that a
        batch of queries gives what single queries give.
    device: "cuda", "cpu", ...; None: the best there is.

    Raises `MissingDependency` without sentence-transformers, and `BadInput` for a model that is
    not there or has more than one output, and a depth or batch size below 1.
    """

    def __init__(
        self,
        retriever: Retriever,
        model: str | Any = MODEL,
        *,
        depth: int = DEPTH,
        batch_size: int = 32,
        device: str | None = None,
    ) -> None:
        for name, value in (("depth", depth), ("batch_size", batch_size)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise BadInput(
                    f"CrossEncoder.{name} is {value!r}; allowed: an integer of at least 1. Leave "
                    "it out for the usual one."
                )
        self.retriever = retriever
        self.model = _load(model, device) if isinstance(model, str) else model
        self.name = model if isinstance(model, str) else type(model).__name__
        self.depth = depth
        self.batch_size = batch_size
        if (labels := getattr(self.model, "num_labels", 1)) != 1:
            raise BadInput(
                f"the cross-encoder {self.name!r} has {labels} outputs; allowed: one, the score of "
                "the pair. Choose a model that was trained to rank."
            )

    def __repr__(self) -> str:
        return f"CrossEncoder({self.retriever!r}, {self.name!r}, depth={self.depth!r})"

    def search(self, queries: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """The `k` best of what the retriever proposes for each query, by the model; ties by id.

        Raises `BadInput` for an empty query or k < 1, and a model that gives no finite score.
        """
        check_search(queries, k)
        proposed = self.retriever.search(queries, self.depth)
        return [self._rerank(query, hits, k) for query, hits in zip(queries, proposed, strict=True)]

    def _rerank(self, query: str, hits: Sequence[Hit], k: int) -> list[Hit]:
        texts = list(dict.fromkeys(hit.passage.contents for hit in hits))  # equal ones must tie
        if not texts:
            return []
        scores = np.asarray(
            self.model.predict(
                [(query, text) for text in texts],
                batch_size=self.batch_size,
                show_progress_bar=False,
            ),
            dtype=np.float64,
        )
        if scores.shape != (len(texts),) or not np.isfinite(scores).all():
            raise BadInput(
                f"the cross-encoder {self.name!r} gave scores of shape {scores.shape} for "
                f"{len(texts)} pairs; allowed: one finite number each. Correct the model."
            )
        score = dict(zip(texts, scores.tolist(), strict=True))
        return ranked(((hit.passage, score[hit.passage.contents]) for hit in hits), k)


def _load(name: str, device: str | None) -> Any:
    try:
        from sentence_transformers import CrossEncoder as Model
    except ImportError as error:
        raise MissingDependency(
            "re-ranking needs sentence-transformers, which is not installed. "
            'pip install "memkit[dense]", or pass an object with `predict` of your own.'
        ) from error
    try:
        return Model(name, device=device)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"the cross-encoder {name!r} cannot be loaded ({error}); allowed: the folder or Hub id "
            "of a sentence-transformers CrossEncoder. Check the name; offline, only what is in the "
            "cache has an id."
        ) from error
