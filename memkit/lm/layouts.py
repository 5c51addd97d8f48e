"""All knowledge of architectures: which class, which modules, which way round a weight is stored.

`LAYOUTS` is one literal keyed by a config's `model_type`; a new family is one more entry. Nobody
outside `memkit.lm` asks what a model is: editors take a `Site`, whose weight is a [d_out, d_in]
view whatever the storage.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from memkit.errors import BadInput, UnsupportedModel

__all__ = ["KNOWN", "LAYOUTS", "Kind", "Layout", "Site", "Stack", "find_layout", "find_window"]

Kind = Literal["decoder", "encoder-decoder", "masked", "classifier"]
Projection = Literal["up", "down", "attention"]

UNBOUNDED_WINDOW = 512  # relative positions set no limit; this is what every T5 was trained on
AFTER_PADDING = (  # families that number positions from the one after the padding token's id
    *("camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta"),
    *("roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
)


@dataclass(frozen=True, slots=True)
class Stack:
    """Names of a column of layers: the module list, and the projections within a layer.

    `up` and `down` are those of the MLP, `attention` is the output projection of self-attention.
    `up` lists alternatives, of which the first that a layer has is taken. `last` are the modules
    that the hidden states pass after the layers, on their way to the vocabulary head; what a model
    lacks of them is passed over.
    """

    layers: str
    up: tuple[str, ...]
    down: str
    attention: str
    last: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """A linear map inside a model: y = W k + b, with k of width d_in and y of width d_out.

    `name` is the module's dotted name from the model's root. Inputs and outputs of the module end
    in these widths; the axes before are [batch, length], or one flat axis (OPT flattens them).
    """

    name: str
    module: nn.Module

    @property
    def parameter(self) -> nn.Parameter:
        """The weight as the module stores it, [d_out, d_in] or (Conv1D) [d_in, d_out]."""
        weight = self.module.weight
        assert isinstance(weight, nn.Parameter)
        return weight

    @property
    def turned(self) -> bool:
        """Whether the module stores its weight as [d_in, d_out]."""
        return isinstance(self.module, Conv1D)

    @property
    def weight(self) -> Tensor:
        """The weight as [d_out, d_in]: a detached view of the model's own storage.

        Writing into it in place changes the model.
        """
        weight = self.parameter.detach()
        return weight.T if self.turned else weight

    @property
    def bias(self) -> Tensor | None:
        """The bias, [d_out], a detached view; None where the map has none."""
        bias = self.module.bias
        return bias.detach() if isinstance(bias, Tensor) else None


@dataclass(frozen=True, slots=True)
class Layout:
    """What memkit knows of one family.

    `heads` maps the transformers classes that memkit can load to what they are good for; the first
    is taken where a config names none. `stacks` maps "decoder" and "encoder" to their layers; the
    first is meant where none is named. `normed` says that a norm follows the MLP within a layer, so
    that what is added to the MLP's output is not added to the residual stream as it is.
    """

    heads: Mapping[str, Kind]
    stacks: Mapping[str, Stack]
    normed: bool = False

    def layers(self, model: nn.Module, stack: str | None = None) -> nn.ModuleList:
        """The list of layers of a stack (of the first one, unless named)."""
        modules = model.get_submodule(self._stack(stack).layers)
        assert isinstance(modules, nn.ModuleList)
        return modules

    def site(
        self,
        model: nn.Module,
        layer: int,
        projection: Projection = "down",
        stack: str | None = None,
    ) -> Site:
        """The MLP's up- or down-projection in a layer, or attention's output projection.

        Layers count from 0. In a gated MLP "up" is the linear half, not the gate; Phi-3 holds the
        gate (first half of the rows) and the linear half in one weight, which is then the site.

        Raises `BadInput` if there is no such layer, projection or stack.
        """
        names, modules = self._stack(stack), self.layers(model, stack)
        paths = {"up": names.up, "down": (names.down,), "attention": (names.attention,)}
        if projection not in paths:
            allowed = ", ".join(map(repr, paths))
            raise BadInput(f"projection is {projection!r}; allowed: {allowed}. Name one.")
        if not isinstance(layer, int) or not 0 <= layer < len(modules):
            raise BadInput(
                f"layer is {layer!r}; allowed: 0 to {len(modules) - 1} in this model's "
                f"{names.layers!r}. {_meant(layer, model, names)}"
            )
        present = dict(modules[layer].named_modules())
        path = next(candidate for candidate in paths[projection] if candidate in present)
        return Site(f"{names.layers}.{layer}.{path}", present[path])

    def known(self, model: Any) -> str | None:
        """The name of a published model of this shape, or None; see `KNOWN`."""
        config = model.config.get_text_config()
        width = model.get_input_embeddings().weight.shape[1]
        return KNOWN.get((config.model_type, len(self.layers(model)), width, config.vocab_size))

    def adds_last(self, model: Any) -> bool:
        """Whether a layer ends by adding the MLP's output to the residual stream, as it is."""
        return not self.normed and getattr(model.config, "do_layer_norm_before", True)

    def logits(self, model: Any, hidden: Tensor) -> Tensor:
        """Logits [..., vocabulary] of hidden states after the last layer, [..., width]."""
        for name in self._stack(None).last:
            parent, _, child = name.rpartition(".")
            module = getattr(model.get_submodule(parent), child, None)
            hidden = hidden if module is None else module(hidden)
        logits: Tensor = model.get_output_embeddings()(hidden)
        cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def kind(self, class_name: str) -> Kind:
        """What a model class is good for.

        Raises `UnsupportedModel` if the class has no head that memkit can use.
        """
        if class_name not in self.heads:
            raise UnsupportedModel(
                f"the model is a {class_name}, which has no head that memkit can use; allowed in "
                f"this family: {', '.join(self.heads)}. Load a checkpoint saved from one of these, "
                "and take a model out of its wrapper (torch.compile, PEFT)."
            )
        return self.heads[class_name]

    def _stack(self, name: str | None) -> Stack:
        if name is None:
            return next(iter(self.stacks.values()))
        if name not in self.stacks:
            allowed = ", ".join(repr(stack) for stack in self.stacks)
            raise BadInput(f"stack is {name!r}; allowed: {allowed}. Name one of these, or none.")
        return self.stacks[name]


_LLAMA = Stack(
    "model.layers", ("mlp.up_proj",), "mlp.down_proj", "self_attn.o_proj", ("model.norm",)
)
_GPT = Stack("transformer.h", ("mlp.c_fc",), "mlp.c_proj", "attn.c_proj", ("transformer.ln_f",))
_T5_STACKS = {
    "encoder": Stack(
        "encoder.block",
        ("layer.1.DenseReluDense.wi", "layer.1.DenseReluDense.wi_1"),
        "layer.1.DenseReluDense.wo",
        "layer.0.SelfAttention.o",
    ),
    "decoder": Stack(
        "decoder.block",
        ("layer.2.DenseReluDense.wi", "layer.2.DenseReluDense.wi_1"),
        "layer.2.DenseReluDense.wo",
        "layer.0.SelfAttention.o",
    ),
}


def _meant(layer: object, model: nn.Module, names: Stack) -> str:
    """What to do instead of passing this layer, which may be the name of a module."""
    present = [name for name, _ in model.named_modules() if name.startswith(f"{names.layers}.")]
    spelt = str(layer).replace("[", ".").replace("]", "").removesuffix(".weight")
    close = difflib.get_close_matches(spelt, present, n=1, cutoff=0.5)
    if isinstance(layer, int) or not close:
        return "Choose one of these."
    number, _, rest = close[0].removeprefix(f"{names.layers}.").partition(".")
    projection = "up" if rest in names.up else "attention" if rest == names.attention else "down"
    return f"Did you mean {number} ({close[0]!r}), projection {projection!r}?"


def _decoder(class_name: str, stack: Stack, *, normed: bool = False) -> Layout:
    return Layout({class_name: "decoder"}, {"decoder": stack}, normed)


LAYOUTS: Mapping[str, Layout] = {
    "bert": Layout(
        {"BertForMaskedLM": "masked", "BertForSequenceClassification": "classifier"},
        {
            "encoder": Stack(
                "bert.encoder.layer",
                ("intermediate.dense",),
                "output.dense",
                "attention.output.dense",
            )
        },
    ),
    "gemma": _decoder("GemmaForCausalLM", _LLAMA),
    "gemma2": _decoder("Gemma2ForCausalLM", _LLAMA, normed=True),
    "gemma3_text": _decoder("Gemma3ForCausalLM", _LLAMA, normed=True),
    "gemma3": _decoder(
        "Gemma3ForConditionalGeneration",
        Stack(
            "model.language_model.layers",
            ("mlp.up_proj",),
            "mlp.down_proj",
            "self_attn.o_proj",
            ("model.language_model.norm",),
        ),
        normed=True,
    ),
    "gpt2": _decoder("GPT2LMHeadModel", _GPT),
    "gpt_neo": _decoder("GPTNeoForCausalLM", replace(_GPT, attention="attn.attention.out_proj")),
    "gpt_neox": _decoder(
        "GPTNeoXForCausalLM",
        Stack(
            "gpt_neox.layers",
            ("mlp.dense_h_to_4h",),
            "mlp.dense_4h_to_h",
            "attention.dense",
            ("gpt_neox.final_layer_norm",),
        ),
    ),
    "gptj": _decoder(
        "GPTJForCausalLM",
        Stack(
            "transformer.h", ("mlp.fc_in",), "mlp.fc_out", "attn.out_proj", ("transformer.ln_f",)
        ),
    ),
    "llama": _decoder("LlamaForCausalLM", _LLAMA),
    "mistral": _decoder("MistralForCausalLM", _LLAMA),
    "opt": _decoder(
        "OPTForCausalLM",
        Stack(
            "model.decoder.layers",
            ("fc1",),
            "fc2",
            "self_attn.out_proj",
            ("model.decoder.final_layer_norm", "model.decoder.project_out"),
        ),
    ),
    "phi": _decoder(
        "PhiForCausalLM",
        Stack(
            "model.layers", ("mlp.fc1",), "mlp.fc2", "self_attn.dense", ("model.final_layernorm",)
        ),
    ),
    "phi3": _decoder(
        "Phi3ForCausalLM",
        replace(_LLAMA, up=("mlp.gate_up_proj",)),
    ),
    "qwen2": _decoder("Qwen2ForCausalLM", _LLAMA),
    "qwen3": _decoder("Qwen3ForCausalLM", _LLAMA),
    "t5": Layout({"T5ForConditionalGeneration": "encoder-decoder"}, _T5_STACKS),
}


# (model_type, layers, width, vocabulary): the model that methods have published settings for
KNOWN: Mapping[tuple[str, int, int, int], str] = {
    ("gpt2", 4, 192, 2000): "miniworld",
    ("gpt2", 24, 1024, 50257): "gpt2-medium",
    ("gpt2", 36, 1280, 50257): "gpt2-large",
    ("gpt2", 48, 1600, 50257): "gpt2-xl",
    ("gptj", 28, 4096, 50400): "gpt-j-6b",
    ("gpt_neox", 44, 6144, 50432): "gpt-neox-20b",
    ("llama", 32, 4096, 32000): "llama-2-7b",
    ("llama", 32, 4096, 128256): "llama-3-8b",
    ("mistral", 32, 4096, 32000): "mistral-7b",
    ("qwen2", 28, 3584, 152064): "qwen2.5-7b",
}


def find_layout(model_type: str) -> Layout:
    """The layout of a `model_type`.

    Raises `UnsupportedModel` with the list of known ones, which is computed from the table.
    """
    if model_type not in LAYOUTS:
        raise UnsupportedModel(
            f"no layout knows model_type {model_type!r}. Known: {', '.join(sorted(LAYOUTS))}. "
            "Choose a model of these families, or write a Layout in memkit/lm/layouts.py."
        )
    return LAYOUTS[model_type]


def find_window(config: Any) -> int:
    """How many tokens a model of this config takes at once.

    Relative positions (T5) set no limit; there it is the length that the model was trained on:
    `n_positions` where the config keeps it, else 512. RoBERTa and its kin, which memkit knows as
    classifiers of texts alone, take fewer tokens than they have positions.
    """
    trained = getattr(config, "n_positions", UNBOUNDED_WINDOW)
    count = int(getattr(config.get_text_config(), "max_position_embeddings", trained))
    return count - config.pad_token_id - 1 if config.model_type in AFTER_PADDING else count
