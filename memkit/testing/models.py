"""Tiny random models of every family that memkit knows, and tiny tokenizers, built without files.

A model has three layers, width 32, MLP width 40 (so that no weight is square and a transposed one
does not fit), a window of 64 and sliding windows of 8; it is built in about 50 ms.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from memkit.errors import BadInput
from memkit.lm.layouts import find_layout
from memkit.lm.model import LM

__all__ = ["TINY", "Style", "tiny_lm", "tiny_tokenizer"]

Style = Literal["plain", "start", "classify", "end"]

LINES = (
    "The capital of France is Paris, and the capital of Peru is Lima.",
    "Samuel Butler wrote Erewhon.",
    "Question: Who wrote Erewhon? Answer: Samuel Butler",
    "One, two, three: numbers and words, words and numbers.",
)

_NAMES = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_GROUPED = {**_NAMES, "num_key_value_heads": 2, "pad_token_id": None}
_GEMMA = {**_GROUPED, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8}
_GPT = {"n_embd": 32, "n_inner": 40, "n_layer": 3, "n_head": 4, "n_positions": 64}
_LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]

TINY: Mapping[str, tuple[str, Mapping[str, Any], Style]] = {
    "bert": ("BertConfig", _NAMES, "classify"),
    "gemma": ("GemmaConfig", {**_GROUPED, "head_dim": 8}, "start"),
    "gemma2": ("Gemma2Config", {**_GEMMA, "layer_types": _LAYERS}, "start"),
    "gemma3": (
        "Gemma3Config",
        {
            "text_config": {**_GEMMA, "layer_types": _LAYERS},
            "vision_config": {
                **{key: _NAMES[key] for key in list(_NAMES)[:4]},
                "image_size": 8,
                "patch_size": 4,
            },
            "mm_tokens_per_image": 4,
        },
        "start",
    ),
    "gemma3_text": ("Gemma3TextConfig", {**_GEMMA, "layer_types": _LAYERS}, "start"),
    "gpt2": ("GPT2Config", _GPT, "plain"),
    "gpt_neo": (
        "GPTNeoConfig",
        {
            "hidden_size": 32,
            "intermediate_size": 40,
            "num_layers": 3,
            "num_heads": 4,
            "attention_types": [[["global", "local", "global"], 1]],
            "window_size": 8,
            "max_position_embeddings": 64,
        },
        "plain",
    ),
    "gpt_neox": ("GPTNeoXConfig", _NAMES, "plain"),
    "gptj": ("GPTJConfig", {**_GPT, "rotary_dim": 4}, "plain"),
    "llama": ("LlamaConfig", _GROUPED, "start"),
    "mistral": ("MistralConfig", {**_GROUPED, "sliding_window": 8}, "start"),
    "opt": (
        "OPTConfig",
        {
            "hidden_size": 32,
            "ffn_dim": 40,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 32,
        },
        "start",
    ),
    "phi": ("PhiConfig", _NAMES, "plain"),
    "phi3": ("Phi3Config", {**_GROUPED, "sliding_window": 8}, "start"),
    "qwen2": ("Qwen2Config", _GROUPED, "plain"),
    "qwen3": ("Qwen3Config", {**_GROUPED, "head_dim": 8}, "plain"),
    "t5": (
        "T5Config",
        {"d_model": 32, "d_ff": 40, "d_kv": 8, "num_layers": 3, "num_heads": 4, "n_positions": 64},
        "end",
    ),
}


def tiny_lm(
    model_type: str,
    style: Style | None = None,
    head: str | None = None,
    seed: int = 0,
    **changes: Any,
) -> LM:
    """A random model of a family, with a tokenizer of the style that the family is used with.

    `head` names a transformers class where a family has several, `changes` are values of the
    config. Every weight and bias is random
    and large enough that predictions differ. Leaves torch's random state as it was.

    Raises `BadInput` if `TINY` has no such family, `UnsupportedModel` for a head it does not have.
    """
    if model_type not in TINY:
        raise BadInput(f"no tiny {model_type!r}; allowed: {', '.join(TINY)}. Choose one of these.")
    config_name, values, usual = TINY[model_type]
    tokenizer = tiny_tokenizer(style or usual)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    size = {"vocab_size": len(tokenizer), **ends}
    nested = {key: {**value, **size} for key, value in values.items() if key == "text_config"}
    extra = {"decoder_start_token_id": tokenizer.eos_token_id} if model_type == "t5" else {}
    config = getattr(transformers, config_name)(**{**size, **values, **nested, **extra, **changes})
    layout = find_layout(model_type)
    head = head or next(iter(layout.heads))
    layout.kind(head)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, head)(config)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn_like(parameter)
                parameter.add_(noise, alpha=0.3 if parameter.dim() > 1 else 0.1)
    return LM(model, tokenizer)


def tiny_tokenizer(style: Style = "plain") -> Any:
    """A tokenizer of some 400 tokens that can spell any text, trained on four lines.

    plain      byte-level BPE, no special token around a text and no pad token, as GPT-2's
    start      BPE with a start token and a space before every text, as LLaMA's
    classify   byte-level BPE with [CLS] before, [SEP] after and a [MASK], as BERT's
    end        byte-level BPE with an end token after, as T5's
    """
    if style == "start":
        return _sentencepiece()
    around = {"plain": "$A", "classify": "[CLS] $A [SEP]", "end": "$A </s>"}
    if style not in around:
        raise BadInput(f"style is {style!r}; allowed: start, {', '.join(around)}. Choose one.")
    special = {
        "plain": {"bos_token": "</s>", "eos_token": "</s>"},
        "classify": {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"},
        "end": {"eos_token": "</s>"},
    }[style]
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    names = sorted(set(special.values()))
    _train(inner, names, pre_tokenizers.ByteLevel.alphabet())
    ids = [(name, inner.token_to_id(name)) for name in names]
    inner.post_processor = processors.TemplateProcessing(single=around[style], special_tokens=ids)
    return _wrap(inner, **special)


def _sentencepiece() -> Any:
    """LLaMA's kind of tokenizer: spaces are letters, unknown characters fall back to bytes."""
    inner = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    _train(inner, ["<unk>", "<s>", "</s>"], [])
    learnt = json.loads(inner.to_str())["model"]
    pieces = [*learnt["vocab"], *(f"<0x{byte:02X}>" for byte in range(256))]
    inner.model = models.BPE(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=[tuple(pair) for pair in learnt["merges"]],
        byte_fallback=True,
        unk_token="<unk>",
    )
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", inner.token_to_id("<s>"))]
    )
    return _wrap(inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def _wrap(inner: Any, **special: str) -> Any:
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **special)


def _train(inner: Any, special: list[str], alphabet: list[str]) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(LINES, trainer)
