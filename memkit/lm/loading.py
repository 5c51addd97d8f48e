"""A model and its tokenizer from a folder or the Hub, and what may be wrong with them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers.utils import logging

from memkit.errors import BadInput, MemkitError
from memkit.lm.layouts import Kind, find_layout

__all__ = ["kind_of", "load", "pick_device", "pick_dtype", "quiet"]

LIBRARY_ERRORS = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)


def load(
    name: str | os.PathLike[str], device: torch.device, dtype: Any, revision: str | None
) -> tuple[Any, Any]:
    """The model, on its device, and the tokenizer. Only safetensors are read: no pickle.

    Raises `BadInput` and `UnsupportedModel` as `LM.load` says.
    """
    source = _source(name)
    class_name, _ = _class(source, revision)
    with _saying(source, "tokenizer"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, revision=revision)
    with _saying(source, "weights in safetensors"), quiet():
        model, found = getattr(transformers, class_name).from_pretrained(
            source,
            revision=revision,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
        )
    if missing := sorted(found["missing_keys"]):
        raise BadInput(
            f"{source!r} lacks {len(missing)} weights of a {class_name}, {missing[0]!r} first; "
            "allowed: a checkpoint with all of them. Save it from a complete model."
        )
    if dtype == "auto" and device.type == "cpu" and model.dtype == torch.float16:
        model = model.float()
    return model.to(device), tokenizer


def kind_of(name: str | os.PathLike[str], revision: str | None = None) -> Kind:
    """What the model is good for, from its config alone. Raises as `load`."""
    return _class(_source(name), revision)[1]


def pick_device(device: str | torch.device) -> torch.device:
    """The device of that name; "auto" is CUDA where there is one, else MPS, else the CPU.

    Raises `BadInput` if there is no such device on this machine.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise BadInput(
            f"device is {str(device)!r}, which this machine does not have ({_line(error)}); "
            "allowed: 'auto', 'cpu', 'cuda', 'cuda:1', 'mps'. Choose one that exists."
        ) from error


def pick_dtype(dtype: str | torch.dtype) -> Any:
    """A floating-point dtype from itself or its name; "auto" stays as it is.

    Raises `BadInput` if there is none of that name.
    """
    chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype == "auto":
        return dtype
    if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
        raise BadInput(
            f"dtype is {dtype!r}; allowed: 'auto', 'float32', 'bfloat16', 'float16', 'float64', or "
            "the torch.dtype. Choose one of these."
        )
    return chosen


def _class(source: str, revision: str | None) -> tuple[str, Kind]:
    """Name of the transformers class that the config asks for, and its kind."""
    with _saying(source, "config"):
        config, _ = transformers.PreTrainedConfig.get_config_dict(source, revision=revision)
    if "model_type" not in config:
        raise BadInput(
            f"{source!r} has no config.json with a model_type; allowed: a folder written by "
            "save_pretrained, or a model on the Hub. Name the folder that holds config.json."
        )
    layout = find_layout(config["model_type"])
    class_name: str = (config.get("architectures") or list(layout.heads))[0]
    return class_name, layout.kind(class_name)


def _source(name: str | os.PathLike[str]) -> str:
    """The folder, or the Hub id.

    Raises `BadInput` if it is a path and there is no such folder.
    """
    text = os.fspath(name)
    path = Path(text).expanduser()
    if path.is_dir():
        return str(path)
    if isinstance(name, Path) or path.exists() or text.startswith(("/", ".", "~")):
        what = "is a file" if path.exists() else "does not exist"
        raise BadInput(
            f"{text!r} {what}; allowed: a folder written by save_pretrained, or a model id of the "
            "Hugging Face Hub. Correct the path."
        )
    return text


@contextlib.contextmanager
def _saying(source: str, what: str) -> Iterator[None]:
    """Turn the library's errors into `BadInput` that says what was looked for, and where."""
    try:
        yield
    except MemkitError:
        raise
    except LIBRARY_ERRORS as error:
        if Path(source).is_dir():
            next_step = "Put the missing or damaged file into the folder, or load another."
        else:
            next_step = (
                "There is no folder of that name here, so it was taken for a model id of the "
                "Hugging Face Hub: correct it, connect to the network, or download it first."
            )
        raise BadInput(
            f"{source!r} gives no {what} ({_line(error)}); allowed: a folder written by "
            f"save_pretrained, or a model on the Hub. {next_step}"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the library's progress bars and load report: memkit checks what was loaded itself."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(40)  # logging.ERROR
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _line(error: BaseException) -> str:
    """The first line of an error's text, or its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
