"""GRACE's codebook: keys with a radius each, and the value that stands in for a layer's output.

It knows nothing of models: queries, keys and values are vectors. An edit goes by Algorithm 1 of the
paper (Hartvigsen et al., NeurIPS 2023, arXiv:2211.11031):

    distance to the nearest key       label      what happens
    above its radius + eps, or none   any        add: a key at the query, of radius eps
    else                              the same   expand: the nearest key's radius grows
    else                              another    split: the radius shrinks to half the distance, and
                                                 the query gets a key of that radius

On look-up the nearest key alone decides: its value if the query is within its radius, else none.
Balls that overlap are thus parted half-way between their keys.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

__all__ = ["ACTIONS", "SLACK", "Action", "Codebook", "Decision", "Distance", "Expansion"]

Action = Literal["add", "expand", "split", "rewrite"]
Distance = Literal["euclidean", "cosine"]
Expansion = Literal["coverage", "paper"]
ACTIONS: tuple[Action, ...] = get_args(Action)

SLACK = 1e-3  # of eps: queries closer than this are one, as floating point blurs them in a batch
GAP = 1e-5  # that the official code leaves between the two balls of a split
NEAR = 8  # keys whose distance is computed exactly; the matrix product is blurred


class Decision(NamedTuple):
    """What becomes of an edit: the action, the nearest key before it (-1: none), its distance."""

    action: Action
    nearest: int
    distance: float


class Codebook:
    """Keys [n, d_in], values [n, d_out], radii [n] and labels, in the order of their making.

    eps: radius of a new key, in units of the distance.
    expansion: "coverage": a radius grows until it just covers the query, as in the official code.
        "paper": it grows by eps, whether or not it covers the query.
    distance: "euclidean", or "cosine": one minus the cosine.
    literal: the published rules to the letter. Otherwise a split never enlarges a radius, a query
        within `SLACK` of a ball's surface is in it, and an edit within `SLACK` of a key of another
        label takes that key over ("rewrite"; a split would leave two empty balls at one place),
        with a radius of eps at most.

    The tensors grow by doubling, and follow the queries to their device.
    """

    def __init__(
        self,
        eps: float,
        *,
        expansion: Expansion = "coverage",
        distance: Distance = "euclidean",
        literal: bool = False,
    ) -> None:
        self.eps = eps
        self.expansion = expansion
        self.distance = distance
        self.literal = literal
        self.labels: list[str] = []
        self._keys = self._values = self._radii = self._squares = torch.empty(0)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def keys(self) -> Tensor:
        """The keys, [n, d_in]; of length 1 each where the distance is the cosine's."""
        return self._keys[: len(self)]

    @property
    def values(self) -> Tensor:
        """The values, [n, d_out]."""
        return self._values[: len(self)]

    @property
    def radii(self) -> Tensor:
        """The radii, [n]."""
        return self._radii[: len(self)]

    def clear(self) -> None:
        """Drop all keys."""
        self.labels = []

    def decide(self, query: Tensor, label: str) -> Decision:
        """What Algorithm 1 does with an edit, [d_in]; nothing is done yet."""
        if not self.labels:
            return Decision("add", -1, math.inf)
        distances, indices = self.nearest(query[None])
        distance, nearest = float(distances[0]), int(indices[0])
        if distance > float(self.radii[nearest]) + self.eps:
            return Decision("add", nearest, distance)
        if self.labels[nearest] == label:
            return Decision("expand", nearest, distance)
        same = distance <= SLACK * self.eps and not self.literal
        return Decision("rewrite" if same else "split", nearest, distance)

    def carry_out(self, decision: Decision, query: Tensor, value: Tensor, label: str) -> int:
        """Do what was decided for an edit, [d_in], with its value [d_out]; gives the key it has.

        The value of a key that is expanded stays; see `put`.
        """
        action, nearest, distance = decision
        if action == "add":
            return self._append(query, value, self.eps, label)
        radius = float(self._radii[nearest])
        if action == "split":
            half = distance / 2
            shrunk = max(0.0, half - GAP) if self.expansion == "coverage" else half
            self._radii[nearest] = shrunk if self.literal else min(radius, shrunk)
            return self._append(query, value, half, label)
        if action == "rewrite":
            self._radii[nearest] = min(radius, self.eps)
            self.labels[nearest] = label
            self.put(nearest, value)
        elif self.expansion == "paper":
            self._radii[nearest] = radius + self.eps
        else:
            self._radii[nearest] = max(radius, distance)
        return nearest

    def put(self, key: int, value: Tensor) -> None:
        """Give a key another value."""
        self._values[key] = value

    def nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Distance of each query [rows, d_in] to its nearest key, and that key; [rows] each.

        The codebook must not be empty.
        """
        self._move(queries.device)
        queries = self._scaled(queries)
        blurred = torch.addmm(self._squares[: len(self)], queries, self.keys.T, alpha=-2)
        some = blurred.topk(min(NEAR, len(self)), largest=False).indices.sort(dim=1).values
        exact = (queries[:, None] - self.keys[some]).norm(dim=2)
        best = exact.argmin(dim=1, keepdim=True)
        distance = exact.gather(1, best)[:, 0]
        if self.distance == "cosine":
            distance = distance.square() / 2
        return distance, some.gather(1, best)[:, 0]

    def look_up(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Whether each query [rows, d_in] is in its nearest key's ball, and that key; [rows] each.

        The codebook must not be empty.
        """
        distance, nearest = self.nearest(queries)
        slack = 0.0 if self.literal else SLACK * self.eps
        return distance <= self._radii[nearest] + slack, nearest

    def _scaled(self, vectors: Tensor) -> Tensor:
        """Vectors as keys are kept."""
        vectors = vectors.detach().to(torch.promote_types(vectors.dtype, torch.float32))
        if self.distance == "cosine":
            return torch.nn.functional.normalize(vectors, dim=-1)
        return vectors

    def _append(self, query: Tensor, value: Tensor, radius: float, label: str) -> int:
        """A new key."""
        key, place = self._scaled(query), len(self)
        if place == len(self._keys):
            self._keys = _grown(self._keys[:place], key)
            self._values = _grown(self._values[:place], value.detach())
            self._radii = _grown(self._radii[:place], key[0])
            self._squares = _grown(self._squares[:place], key[0])
        self._keys[place], self._values[place], self._radii[place] = key, value.detach(), radius
        self._squares[place] = key.square().sum()
        self.labels.append(label)
        return place

    def _move(self, device: torch.device) -> None:
        """Bring the tensors to a device."""
        if self._keys.device != device:
            with torch.inference_mode(False):
                self._keys, self._values = self._keys.to(device), self._values.to(device)
                self._radii, self._squares = self._radii.to(device), self._squares.to(device)


def _grown(tensor: Tensor, row: Tensor) -> Tensor:
    """The tensor with room for twice as many rows, of the kind of this one."""
    larger = row.new_zeros(max(8, 2 * len(tensor)), *row.shape)
    if len(tensor):
        larger[: len(tensor)] = tensor
    return larger
