"""Adapters as PEFT keeps them: a folder, or a repository of the Hub, of a config and LoRA factors.

What PEFT computes, for a map of weight W [d_out, d_in] with A [r, d_in] and B [d_out, r]:

    W + s B A,   s = alpha / r,  or alpha / sqrt(r) with use_rslora

r and alpha are the map's own where `rank_pattern` and `alpha_pattern` name it. `fan_in_fan_out`
says how a layer stores W, and nothing about A and B. Older adapters come as adapter_model.bin,
which is read by torch's unpickler for tensors alone (weights_only).

vLLM serves what `write` writes: it takes s from the config's own r and alpha for all maps and the
rank from the factors, so s is 1 both ways here. It wants r up to its --max-lora-rank (at most 512),
and serves only the maps that it lists for the model: for LLaMA and its kin q_proj, k_proj, v_proj,
o_proj, gate_proj, up_proj and down_proj.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from memkit.editors.adapter import Adapter
from memkit.editors.erasing import REVEALS
from memkit.editors.steps import LowRank
from memkit.errors import BadInput, MissingDependency
from memkit.files import building

if TYPE_CHECKING:
    import peft

__all__ = ["Written", "load_adapter", "write"]

PREFIX = "base_model.model."
CONFIG, WEIGHTS, NOTE = "adapter_config.json", "adapter_model.safetensors", "memkit.json"
A, B = ".lora_A.weight", ".lora_B.weight"
PLAIN: Mapping[str, Any] = {  # what changes the formula, and the value with which it does not
    "bias": "none",
    "use_dora": False,
    "modules_to_save": None,
    "layer_replication": None,
    "lora_bias": False,
    "use_qalora": False,
    "use_bdlora": None,
    "alora_invocation_tokens": None,
    "arrow_config": None,
    "kasa_config": None,
    "monteclora_config": None,
}
# Starts of training that leave the base weights alone; PiSSA, OLoRA, CorDA, LoftQ and others take
# their start out of them, and peft does so again when it loads the adapter
STARTS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")
OLD = {"merge_weights"}  # of peft's first versions: whether its layers merged themselves
ERRORS = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, UnpicklingError)


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: each map's rank, and its truncation error, relative to the change's norm.

    `error` is that of all maps together: the norm of what was left out over the norm of all.
    """

    folder: Path
    ranks: Mapping[str, int]
    errors: Mapping[str, float]
    error: float
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line, and one for each warning."""
        ranks = sorted(set(self.ranks.values()))
        lines = [
            f"{self.folder}: {len(self.ranks)} linear maps, rank {ranks}, truncation error "
            f"{self.error:.3g} of the norm"
        ]
        return "\n".join([*lines, *(f"  warning: {warning}" for warning in self.warnings)])


def write(
    adapter: Adapter,
    folder: str | os.PathLike[str],
    rank: int | None = None,
    *,
    replace: bool = False,
) -> Written:
    """Write a LoRA folder that peft and vLLM load; alpha is the rank, so that the scale is 1.

    `rank` is the most that a map may have: what has more is cut to the nearest change of that rank,
    and the error is stated. None keeps all. Maps of other ranks than the largest stand in
    `rank_pattern`. A third file, memkit.json, says which base model it belongs to.

    Raises `BadInput` if the folder exists and `replace` is false, or the rank is below 1.
    """
    kept, errors = (adapter, dict.fromkeys(adapter.changes, 0.0))
    if rank is not None:
        kept, errors = adapter.truncated(rank)
    norms = {name: change.norm() for name, change in adapter.changes.items()}
    lost = math.hypot(*(errors[name] * norms[name] for name in norms))
    total = math.hypot(*norms.values())
    ranks = {name: change.left.shape[1] for name, change in kept.changes.items()}
    written = Written(Path(folder), ranks, errors, lost / total if total else 0.0, (REVEALS,))
    tensors = {}
    for name, change in kept.changes.items():
        tensors[f"{PREFIX}{name}{A}"] = change.right.T.contiguous()
        tensors[f"{PREFIX}{name}{B}"] = change.left.contiguous()
    note = {
        "source": adapter.source,
        "fingerprint": dict(adapter.fingerprint),
        "errors": errors,
        "error": written.error,
        "warnings": [*adapter.warnings, REVEALS],
    }
    with building(folder, replace=replace) as temporary:
        _config(kept, ranks).save_pretrained(str(temporary))
        save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
        text = json.dumps(note, ensure_ascii=False, indent=1)
        (temporary / NOTE).write_text(text + "\n", encoding="utf-8")
    return written


def load_adapter(name: str | os.PathLike[str], *, revision: str | None = None) -> Adapter:
    """An adapter from a PEFT LoRA folder, or from the Hub by its id; `.apply(lm)` puts it on.

    Raises `BadInput` if there is none, if it is damaged, or if it is no plain LoRA of linear maps
    (DoRA, activated LoRA, biases, whole modules, other PEFT methods) or took its start out of the
    base weights (PiSSA, OLoRA): only peft computes these.
    """
    source = os.fspath(name)
    peft = import_peft()
    try:
        config, warnings = _read_config(source, revision)
        tensors = peft.load_peft_weights(source, device="cpu", revision=revision)
    except BadInput:
        raise
    except ERRORS as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(
            f"{source!r} cannot be read as a PEFT adapter ({first}); allowed: a folder with "
            f"{CONFIG} and {WEIGHTS} (or adapter_model.bin), or the id of one on the Hub. Check "
            "the path; for the Hub, connect to the network or download it first."
        ) from error
    note = _note(Path(source))
    return Adapter(
        _changes(source, config, tensors),
        base=config.base_model_name_or_path or "",
        fingerprint=dict(note.get("fingerprint", {})),
        source=source,
        warnings=warnings,
        task=str(getattr(config.task_type, "value", config.task_type) or ""),
        turned=bool(config.fan_in_fan_out),
    )


def import_peft() -> Any:
    """The package peft. Raises `MissingDependency` if it is not installed."""
    try:
        import peft
    except ImportError as error:
        raise MissingDependency(
            'LoRA and PEFT adapters need peft, which is not installed. pip install "memkit[lora]"'
        ) from error
    return peft


def _config(adapter: Adapter, ranks: Mapping[str, int]) -> peft.LoraConfig:
    largest = max(ranks.values())
    others = {name: rank for name, rank in ranks.items() if rank != largest}
    return import_peft().LoraConfig(  # type: ignore[no-any-return]
        task_type=adapter.task or None,
        base_model_name_or_path=adapter.base or None,
        r=largest,
        lora_alpha=largest,
        lora_dropout=0.0,
        rank_pattern=others,
        alpha_pattern=dict(others),
        target_modules=sorted(ranks),
        fan_in_fan_out=adapter.turned,
        inference_mode=True,
    )


def _read_config(source: str, revision: str | None) -> tuple[peft.LoraConfig, tuple[str, ...]]:
    """The config, if it is that of a plain LoRA, and what it says that peft does not know."""
    from huggingface_hub import hf_hub_download

    place = Path(source) / CONFIG
    path = place if place.is_file() else hf_hub_download(source, CONFIG, revision=revision)
    values = json.loads(Path(path).read_text(encoding="utf-8"))
    if (kind := values["peft_type"]) != "LORA":
        raise BadInput(
            f"{source!r} is an adapter of type {kind}; allowed: LORA. Merge it into its model with "
            "peft (merge_and_unload), and load that."
        )
    for name, plain in PLAIN.items():
        if (value := values.get(name, plain)) != plain and value:
            raise BadInput(
                f"{source!r} has {name}={value!r}, which is no change of a linear map alone; "
                f"allowed: {plain!r}. Merge it into its model with peft (merge_and_unload)."
            )
    if (start := values.get("init_lora_weights", True)) not in STARTS:
        raise BadInput(
            f"{source!r} has init_lora_weights={start!r}, whose start was taken out of the base "
            f"weights: it is no addition to these; allowed: {', '.join(map(repr, STARTS))}. Let "
            "peft convert it (save_pretrained with path_initial_model_for_weight_conversion), or "
            "merge it into its model (merge_and_unload)."
        )
    made = import_peft().LoraConfig
    known = {part.name for part in dataclasses.fields(made)}
    strange = {k: v for k, v in values.items() if k not in known | OLD and v}
    warnings = tuple(
        f"{CONFIG} has {name}={value!r:.80}, which this peft does not know; it was ignored"
        for name, value in strange.items()
    )
    return made(**{name: value for name, value in values.items() if name in known}), warnings


def _changes(source: str, config: Any, tensors: Mapping[str, Tensor]) -> dict[str, LowRank]:
    """Effective updates by module name; the scale goes into the left factor."""
    from peft.utils.other import get_pattern_key

    names = [key.removesuffix(A) for key in tensors if key.endswith(A)]
    strange = [k for k in tensors if not k.endswith((A, B)) or k[: -len(A)] + B not in tensors]
    strange += [name + B for name in names if name + B not in tensors]
    if strange or not names:
        raise BadInput(
            f"{source!r} has {strange[0] if strange else 'nothing'!r} among its tensors; allowed: "
            f"pairs of *{A} and *{B} of linear maps. Train a LoRA of linear maps, or merge it into "
            "its model with peft (merge_and_unload)."
        )
    changes = {}
    for name in names:
        module = name.removeprefix(PREFIX)
        a, b = tensors[name + A].float(), tensors[name + B].float()
        key = get_pattern_key(list(config.rank_pattern), module)
        rank = config.rank_pattern.get(key, config.r)
        key = get_pattern_key(list(config.alpha_pattern), module)
        alpha = config.alpha_pattern.get(key, config.lora_alpha)
        if a.dim() != 2 or b.dim() != 2 or not rank == a.shape[0] == b.shape[1]:
            raise BadInput(
                f"{source!r}: {module!r} has factors {tuple(a.shape)} and {tuple(b.shape)}, and "
                f"{CONFIG} says rank {rank}; allowed: [{rank}, d_in] and [d_out, {rank}]. The "
                "adapter is damaged: get it again."
            )
        scale = alpha / (math.sqrt(rank) if config.use_rslora else rank)
        changes[module] = LowRank(b * scale, a.T.contiguous())
    return changes


def _note(folder: Path) -> dict[str, Any]:
    """What memkit wrote beside the adapter, if it did."""
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{str(folder / NOTE)!r} cannot be read ({error}); allowed: the file as memkit wrote "
            "it. Delete it to load the adapter without the check of its base model."
        ) from error
    return dict(note) if isinstance(note, dict) else {}
