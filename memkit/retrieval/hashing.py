"""A hash of what shapes an encoder's vectors: weights and settings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

__all__ = ["parameters_sha256"]


def parameters_sha256(models: Iterable[Any], *settings: object) -> str:
    """Hexadecimal SHA-256 of the models' parameters and of the representation of `settings`.

    The digests of a model's parameters are sorted, not named: a new version of transformers may
    rename layers.
    """
    import torch

    parts: list[object] = []
    for model in models:
        digests = []
        for parameter in model.parameters():
            raw = parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            kind = f"{parameter.dtype} {tuple(parameter.shape)}".encode()
            digests.append(hashlib.sha256(kind + raw.tobytes()).hexdigest())
        parts.extend(sorted(digests))
    return hashlib.sha256(repr([*parts, *settings]).encode()).hexdigest()
