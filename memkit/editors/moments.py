"""The second moment of one site: the matrix, its Cholesky factor, and what it was made of."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from memkit.editors.cache import digest, tokenizer_hash, writing
from memkit.errors import BadInput, FingerprintMismatch

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["Moments", "Origin"]

FORMAT = 1  # of the file; another one is refused


@dataclass(frozen=True, slots=True)
class Origin:
    """All that a moment depends on, and the corpus's name."""

    model: str
    """`LM.fingerprint()` of the model, SHA-256."""
    dtype: str
    """That the model computes in."""
    tokenizer: str
    """SHA-256 of how the tokenizer turns text into ids."""
    corpus: str
    """Name of the corpus as it was given; what counts is the next one."""
    corpus_hash: str
    """SHA-256 of its content, or the Hub's id and config."""
    site: str
    """Name of the module whose inputs are the keys."""
    selection: str
    """Which tokens of a text give a key."""
    tokens: int
    """Budget: the number of keys that was asked for."""

    def digest(self) -> str:
        """SHA-256 of everything but the corpus's name."""
        return digest({**asdict(self), "corpus": ""})


@dataclass(frozen=True, eq=False)
class Moments:
    """C = (1/count) sum k k^T of one site, and how to solve with it.

    `matrix` is C, [d_in, d_in], float64 on the CPU, before the ridge; `count` the number of keys in
    it. `ridge` adds ridge * tr(C) / d_in to its diagonal. With `identity` the matrix is the
    identity, of no keys at all.
    """

    matrix: Tensor
    count: int
    origin: Origin
    ridge: float = 0.0
    identity: bool = False

    @property
    def site(self) -> str:
        """Name of the module whose inputs are the keys."""
        return self.origin.site

    @property
    def width(self) -> int:
        """The length of a key, d_in."""
        return len(self.matrix)

    def solve(self, keys: Tensor) -> Tensor:
        """(C + ridge tr(C)/d_in I)^-1 K for keys K, [d_in, n]; the result is of the same shape.

        Computed in float64 on the CPU by a Cholesky factor that is made once, and returned in
        float64 on the device of the keys (on the CPU for a device without float64: MPS).

        Raises `BadInput` if the matrix has no Cholesky factor: without a ridge, that is so with
        fewer keys than d_in.
        """
        solved = self._inverse(keys.detach().to("cpu", torch.float64))
        return solved if keys.device.type == "mps" else solved.to(keys.device)

    @cached_property
    def condition(self) -> float:
        """Condition number of C with its ridge, in the 2-norm to 0.1 %; infinite if singular.

        Both ends of the spectrum by Lanczos' method, the lower one on the inverse.
        """
        if self.identity:
            return 1.0
        try:
            least = 1 / _largest(self._inverse, self.width)
        except BadInput:
            return math.inf
        return _largest(self._forward, self.width) / least

    @property
    def effective_rank(self) -> float:
        """Participation ratio tr(C)^2 / ||C||_F^2, from 1 (one direction) to d_in (all alike)."""
        return float(self.matrix.trace() ** 2 / self.matrix.square().sum())

    def report(self) -> dict[str, Any]:
        """Plain values for a report.

        "short" says that the corpus had fewer keys (`count`) than were asked for (`tokens`).
        """
        return {
            "site": self.site,
            "corpus": "none" if self.identity else self.origin.corpus,
            "count": self.count,
            "tokens": self.origin.tokens,
            "short": self.count < self.origin.tokens,
            "condition": self.condition,
            "effective_rank": self.effective_rank,
            "ridge": self.ridge,
            "identity": self.identity,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write matrix, count and origin to one safetensors file, whole or not at all."""
        card = {"format": FORMAT, "count": self.count, "identity": self.identity}
        metadata = {"memkit": json.dumps({**card, "origin": asdict(self.origin)})}
        with writing(Path(path)) as temporary:
            save_file({"matrix": self.matrix}, temporary, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str], lm: LM, ridge: float = 0.0) -> Moments:
        """Read what `save` wrote, for the model that it was taken of; the ridge is set anew.

        Raises `FingerprintMismatch` if the moments belong to another model or tokenizer,
        `BadInput` if the file is not one of moments.
        """
        try:
            with safe_open(path, "pt") as file:
                card = json.loads(file.metadata()["memkit"])
                if card["format"] != FORMAT:
                    raise ValueError(f"format {card['format']!r}, and memkit reads {FORMAT}")
                origin = Origin(**card["origin"])
                matrix = file.get_tensor("matrix")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise BadInput(
                f"{os.fspath(path)!r} cannot be read as moments ({type(error).__name__}: {error}); "
                "allowed: a file that Moments.save wrote. Check the path, or collect them anew."
            ) from error
        found = {"model": lm.fingerprint(), "tokenizer": tokenizer_hash(lm.tokenizer)}
        for name, value in found.items():
            if (wanted := getattr(origin, name)) != value:
                raise FingerprintMismatch(
                    f"{os.fspath(path)!r} holds the moments of a {name} with fingerprint {wanted}, "
                    f"and the {name} given has {value}; allowed: the same. Load the {name} that "
                    "they were taken of, or collect moments of this one."
                )
        return cls(matrix, card["count"], origin, ridge, card["identity"])

    def _forward(self, keys: Tensor) -> Tensor:
        """C K with the ridge."""
        return self.matrix @ keys + self._shift * keys

    def _inverse(self, keys: Tensor) -> Tensor:
        """C^-1 K with the ridge, float64 on the CPU."""
        if self.identity:
            return keys / (1 + self.ridge)
        return torch.cholesky_solve(keys, self._factor)

    @property
    def _shift(self) -> float:
        return self.ridge * float(self.matrix.trace()) / self.width

    @cached_property
    def _factor(self) -> Tensor:
        """Lower Cholesky factor of C with its ridge, [d_in, d_in].

        What is left of a diagonal entry when the directions before it are taken off is the pivot
        squared; as small as the rounding of that entry, it is none.
        """
        matrix = self.matrix.clone()
        matrix.diagonal().add_(self._shift)
        factor: Tensor
        factor, failed = torch.linalg.cholesky_ex(matrix)
        rounding = self.width * torch.finfo(torch.float64).eps * matrix.diagonal()
        lost = (factor.diagonal().square() <= rounding).any()
        if failed or lost or (self.count < self.width and not self.ridge):
            raise BadInput(
                f"the second moment of {self.site} is singular: {self.count} keys of "
                f"{self.origin.corpus!r} for d_in = {self.width}, ridge {self.ridge}; allowed: at "
                "least d_in keys that span all directions, or a ridge. Raise `tokens` (or give a "
                "longer corpus), or set `ridge` (1e-3, say)."
            )
        return factor


def _largest(apply: Callable[[Tensor], Tensor], width: int) -> float:
    """Largest eigenvalue of a symmetric positive map of [width, 1]."""
    import numpy as np
    from scipy.sparse.linalg import LinearOperator, eigsh

    def mapped(vector: Any) -> Any:
        return apply(torch.tensor(vector).reshape(-1, 1)).numpy()

    operator: Any = LinearOperator((width, width), matvec=mapped, dtype=np.dtype(float))
    return float(eigsh(operator, 1, which="LA", v0=np.ones(width), tol=1e-3)[0][0])
