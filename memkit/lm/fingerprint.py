"""Fingerprints: SHA-256 of tensors and config, so that nothing is used on another model."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import Tensor

__all__ = ["config_hash", "tensor_hash", "versions", "weights_hash"]

UNSTABLE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")


def tensor_hash(tensor: Tensor) -> str:
    """SHA-256 of dtype, shape and bytes, whatever the device and the strides."""
    flat = tensor.detach().to("cpu").contiguous()
    digest = hashlib.sha256(f"{flat.dtype} {tuple(flat.shape)} ".encode())
    digest.update(flat.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def config_hash(model: Any) -> str:
    """SHA-256 of the config, without what depends on where and how it was loaded."""
    values = {k: v for k, v in model.config.to_dict().items() if k not in UNSTABLE}
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def weights_hash(model: Any) -> str:
    """SHA-256 of the config and of all parameters and buffers that are stored with the model."""
    digest = hashlib.sha256(config_hash(model).encode())
    for name, tensor in model.state_dict(keep_vars=True).items():
        digest.update(f"{name} {tensor_hash(tensor)} ".encode())
    return digest.hexdigest()


def versions(model: Any) -> tuple[tuple[int, int], ...]:
    """What torch counts up when a parameter is written to: where it lies, and how often."""
    return tuple((p.data_ptr(), p._version) for p in model.parameters())
