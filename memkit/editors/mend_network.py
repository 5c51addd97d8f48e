"""MEND's networks: what turns the factors of a fine-tuning gradient into those of an edit.

The gradient of a fact's loss with respect to a map's weight is a sum over tokens i of
delta_i x_i^T, x_i [d_in] the map's input and delta_i [d_out] the gradient at its output. One
network for each weight shape, m = d_in + d_out, works on each token's pair:

    z0 = [x; delta], each dimension as a z-score      s, o [m]: of the matrix, 1 and 0 at first
    z1 = z0 + relu(s1 * (U1 V1 z0 + b1) + o1)         U [m, r] 0 at first, V [r, m] random, b [m] 0
    z2 = z1 + relu(s2 * (U2 V2 z1 + b2) + o2) = [x~; delta~]

and the edit is W - alpha sum_i delta~_i x~_i^T, alpha of the matrix. At first each network is the
identity. Its relu has the gradient 1 at 0 (torch's clamp), without which it would stay there.

Source: Mitchell, Lin, Bosselut, Finn and Manning, ICLR 2022 (arXiv:2110.11309), section 3.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from memkit.editors.training import Example, losses
from memkit.errors import BadInput
from memkit.files import building, sha256
from memkit.lm.hooks import replacing

if TYPE_CHECKING:
    from memkit.lm.layouts import Site
    from memkit.lm.model import LM

__all__ = [
    "Factors",
    "Networks",
    "Statistics",
    "edited",
    "factors",
    "placed",
    "read_card",
    "read_tensors",
    "shape_of",
    "write",
]

FORMAT = 1  # of the folder of trained networks
CARD, TENSORS = "mend.json", "networks.safetensors"
LAYERS = 2
TINY = 1e-7  # added to a deviation before it divides


@dataclass(frozen=True, slots=True)
class Factors:
    """Inputs [tokens, d_in] and output gradients [tokens, d_out] of one map."""

    inputs: Tensor
    gradients: Tensor


def factors(lm: LM, rows: Sequence[Example], sites: Sequence[Site]) -> list[Factors]:
    """The factors of the summed losses of some examples, one a site.

    The sum of delta_i x_i^T is the gradient of the weight [d_out, d_in]. Tokens of which one factor
    is all zero are left out. The tensors are in float32 at least.
    """
    noted: dict[int, tuple[Tensor, Tensor]] = {}

    def noting(place: int, hidden: Tensor, output: Tensor) -> Tensor:
        nothing = torch.zeros_like(output, requires_grad=True)
        noted[place] = (hidden.detach(), nothing)
        return output + nothing

    with contextlib.ExitStack() as hooks, torch.enable_grad():
        for place, site in enumerate(sites):
            hooks.enter_context(replacing(site.module, partial(noting, place)))
        values, _ = losses(lm, rows)
        seen = [noted[place] for place in range(len(sites))]
        outputs = [nothing for _, nothing in seen]
        slopes = torch.autograd.grad(values.sum(), outputs)
    found = []
    for (hidden, _), slope in zip(seen, slopes, strict=True):
        exact = torch.promote_types(hidden.dtype, torch.float32)
        inputs, gradients = (part.flatten(0, -2).to(exact) for part in (hidden, slope))
        used = (inputs != 0).any(dim=-1) & (gradients != 0).any(dim=-1)
        found.append(Factors(inputs[used], gradients[used]))
    return found


class Statistics(nn.Module):
    """Mean and deviation of each dimension of a factor, kept up as batches come.

    Source: Welford, Technometrics 1962; by batches, Chan, Golub and LeVeque 1979.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(width, dtype=torch.float64))

    @torch.no_grad()
    def update(self, rows: Tensor) -> None:
        """Take in some rows, [rows, width]."""
        rows = rows.to(self.mean)
        if not len(rows):
            return
        total = self.count + len(rows)
        apart = rows.mean(dim=0) - self.mean
        self.squares += (rows - rows.mean(dim=0)).square().sum(dim=0)
        self.squares += apart.square() * self.count * len(rows) / total
        self.mean += apart * len(rows) / total
        self.count.copy_(total)

    @property
    def deviation(self) -> Tensor:
        """The square root of the unbiased variance; 1 where nothing varied, or too little came."""
        found = (self.squares / (self.count - 1).clamp(min=1)).sqrt()
        return torch.where(found > 0, found, torch.ones_like(found))

    def forward(self, rows: Tensor) -> Tensor:
        """The rows as z-scores."""
        return ((rows.to(self.mean) - self.mean) / (self.deviation + TINY)).to(rows.dtype)


class Network(nn.Module):
    """The network of one weight shape, with a scale and a shift for each of its matrices."""

    def __init__(self, d_in: int, d_out: int, rank: int, matrices: int) -> None:
        super().__init__()
        self.widths = (d_in, d_out)
        m = d_in + d_out
        rank = min(rank, m)
        self.inputs, self.gradients = Statistics(d_in), Statistics(d_out)
        self.left = nn.Parameter(torch.zeros(LAYERS, m, rank))
        self.right = nn.Parameter(torch.randn(LAYERS, rank, m) / m**0.5)
        self.bias = nn.Parameter(torch.zeros(LAYERS, m))
        self.scale = nn.Parameter(torch.ones(LAYERS, matrices, m))
        self.shift = nn.Parameter(torch.zeros(LAYERS, matrices, m))

    def forward(self, found: Sequence[Factors], normalise: bool) -> list[Factors]:
        """The edit's factors for each matrix, all in one pass."""
        counts = [len(pair.inputs) for pair in found]
        pair = [torch.cat([p.inputs for p in found]), torch.cat([p.gradients for p in found])]
        if normalise:
            pair = [self.inputs(pair[0]), self.gradients(pair[1])]
        z = torch.cat(pair, dim=-1).to(self.left)
        layers = zip(self.left, self.right, self.bias, self.scale, self.shift, strict=True)
        for left, right, bias, scale, shift in layers:
            rows = zip((z @ right.T @ left.T + bias).split(counts), scale, shift, strict=True)
            z = z + torch.cat([s * hidden + o for hidden, s, o in rows]).clamp(min=0)
        inputs, gradients = z.split(self.widths, dim=-1)
        both = zip(inputs.split(counts), gradients.split(counts), strict=True)
        return [Factors(own, gradient) for own, gradient in both]


class Networks(nn.Module):
    """The networks of some matrices of shapes [d_out, d_in], one for each shape, and the alphas.

    `normalise` false leaves the z-scores out: the identity's edit is then a step of gradient
    descent.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int]], rank: int, alpha: float, normalise: bool
    ) -> None:
        super().__init__()
        self.shapes = tuple(shapes)
        self.normalise = normalise
        kinds = list(dict.fromkeys(self.shapes))
        self.places = [(kinds.index(s), self.shapes[:n].count(s)) for n, s in enumerate(shapes)]
        self.by_shape = nn.ModuleList(
            Network(d_in, d_out, rank, self.shapes.count((d_out, d_in))) for d_out, d_in in kinds
        )
        self.alpha = nn.Parameter(torch.full((len(self.shapes),), alpha))

    def watch(self, found: Sequence[Factors]) -> None:
        """Take the factors into the statistics."""
        for (kind, _), pair in zip(self.places, found, strict=True):
            network = self.by_shape[kind]
            assert isinstance(network, Network)
            network.inputs.update(pair.inputs)
            network.gradients.update(pair.gradients)

    def forward(self, found: Sequence[Factors]) -> list[Factors]:
        """For each matrix the left [tokens, d_out] and right half of its change.

        They stand in `gradients`, with -alpha in it, and in `inputs`: the change is
        gradients^T inputs.
        """
        kinds: list[list[Factors]] = [[] for _ in self.by_shape]
        for (kind, _), pair in zip(self.places, found, strict=True):
            kinds[kind].append(pair)
        edits = [net(own, self.normalise) for net, own in zip(self.by_shape, kinds, strict=True)]
        made = [edits[kind][matrix] for kind, matrix in self.places]
        return [
            Factors(edit.inputs, -alpha * edit.gradients)
            for edit, alpha in zip(made, self.alpha, strict=True)
        ]

    def rates(self) -> Iterable[nn.Parameter]:
        """The alphas, which have a rate of their own."""
        return [self.alpha]

    def weights(self) -> Iterable[nn.Parameter]:
        """All other parameters."""
        return self.by_shape.parameters()


@contextlib.contextmanager
def edited(sites: Sequence[Site], changes: Sequence[Factors]) -> Iterator[None]:
    """A block in which the maps have these changes, through which gradients flow."""

    def changed(change: Factors, hidden: Tensor, output: Tensor) -> Tensor:
        more = (hidden.to(change.inputs) @ change.inputs.T) @ change.gradients
        return output + more.to(output.dtype)

    with contextlib.ExitStack() as hooks:
        for site, change in zip(sites, changes, strict=True):
            hooks.enter_context(replacing(site.module, partial(changed, change)))
        yield


def shape_of(site: Site) -> tuple[int, int]:
    """(d_out, d_in)."""
    d_out, d_in = site.weight.shape
    return d_out, d_in


def placed(networks: Networks, device: torch.device) -> Networks:
    """The networks on a device; in float32 throughout where it has no more (MPS)."""
    return networks.float().to(device) if device.type == "mps" else networks.to(device)


def write(
    folder: str | os.PathLike[str], networks: Networks, card: Mapping[str, Any], *, replace: bool
) -> None:
    """A folder of trained networks and a card that says what they are, whole or absent."""
    tensors: dict[str, Tensor] = networks.state_dict()
    with building(folder, replace=replace) as temporary:
        contiguous = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        save_file(contiguous, temporary / TENSORS)
        card = {"format": FORMAT, **card, "sha256": sha256(temporary / TENSORS)}
        (temporary / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def read_card(folder: Path) -> dict[str, Any]:
    """The card of trained networks. Raises `BadInput` if it cannot be read."""
    with _readable(folder):
        card = dict(json.loads((folder / CARD).read_text(encoding="utf-8")))
        if card["format"] != FORMAT:
            raise ValueError(f"format {card['format']!r}, and memkit reads {FORMAT}")
        return {name: card[name] for name in ("editor", "base", "sha256")}


def read_tensors(folder: Path, digest: str) -> dict[str, Tensor]:
    """The tensors of trained networks. Raises `BadInput` if they cannot be read, or are others."""
    with _readable(folder):
        found = sha256(folder / TENSORS)
        if found != digest:
            raise ValueError(f"{TENSORS} has SHA-256 {found}, and {CARD} says {digest}")
        return load_file(folder / TENSORS)


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise BadInput(
            f"{str(folder)!r} cannot be read as MEND's networks ({type(error).__name__}: {error}); "
            "allowed: a folder that train() wrote. Check the path, or train again."
        ) from error
