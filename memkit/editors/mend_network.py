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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from memkit.editors.training import Example, losses
from memkit.lm.hooks import replacing

if TYPE_CHECKING:
    from memkit.lm.layouts import Site
    from memkit.lm.model import LM

__all__ = ["Factors", "Networks", "Statistics", "edited", "factors", "shape_of"]

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
        self.scale = nn.Parameter(torch.ones(matrices, LAYERS, m))
        self.shift = nn.Parameter(torch.zeros(matrices, LAYERS, m))

    def forward(self, found: Factors, matrix: int, normalise: bool) -> Factors:
        """The edit's factors for one matrix."""
        pair = [found.inputs, found.gradients]
        if normalise:
            pair = [self.inputs(found.inputs), self.gradients(found.gradients)]
        z = torch.cat(pair, dim=-1).to(self.left)
        for layer in range(LAYERS):
            hidden = z @ self.right[layer].T @ self.left[layer].T + self.bias[layer]
            z = z + (self.scale[matrix, layer] * hidden + self.shift[matrix, layer]).clamp(min=0)
        inputs, gradients = z.split(self.widths, dim=-1)
        return Factors(inputs, gradients)


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
        made = []
        for place, ((kind, matrix), pair) in enumerate(zip(self.places, found, strict=True)):
            edit = self.by_shape[kind](pair, matrix, self.normalise)
            made.append(Factors(edit.inputs, -self.alpha[place] * edit.gradients))
        return made

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
