"""GRACE in the plane: the picture of Figure 2 of its paper (Hartvigsen et al., NeurIPS 2023,
arXiv:2211.11031), made with the codebook that `memkit.GRACE` uses.

A network of two hidden layers learns two classes of points. Then the labels within two discs are
flipped, and the codebook over the second hidden layer is edited with points from these, one after
the other and only where the model is wrong. The weights stay as they are.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from memkit.editors.codebook import Codebook
from memkit.errors import BadInput

__all__ = ["Toy", "figure"]

POINTS = 600
EDITS = 60  # points of each disc that are offered; as many others of it are held out
DISCS, RADIUS = ((1.0, -0.2), (-1.1, 0.2)), 0.5  # one in each class
WIDTH = 32
EPS = 0.2
SPAN = 2.2  # of the picture, to each side


@dataclass(frozen=True, slots=True)
class Toy:
    """Shares of right answers before the edits and after them, and what these took.

    `flipped` are points of the discs that were not edited, `elsewhere` points outside of them.
    There were `edits` edits, and the codebook has `keys` keys.
    """

    flipped_before: float
    flipped_after: float
    elsewhere_before: float
    elsewhere_after: float
    edits: int
    keys: int


def figure(path: str | os.PathLike[str] | None = None, seed: int = 0) -> Toy:
    """Edit the toy, and draw it before and after, if there is a path, as PNG or SVG.

    `seed` is of all that is random; torch's own random state is left as it was. Raises `BadInput`
    for another ending of the path.
    """
    if path is not None and Path(path).suffix.lower() not in (".png", ".svg"):
        raise BadInput(f"path is {str(path)!r}; allowed: a name in .png or .svg. Choose one.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _trained()
        book = Codebook(EPS)
        offered, held = _points(EDITS), _points(EDITS)
        others = torch.rand(POINTS, 2) * 2 * SPAN - SPAN
        others = others[~_flipped(others)]
        edits = sum(_edit(model, book, point) for point in offered)
        empty = Codebook(EPS)
        toy = Toy(
            flipped_before=_right(model, empty, held),
            flipped_after=_right(model, book, held),
            elsewhere_before=_right(model, empty, others),
            elsewhere_after=_right(model, book, others),
            edits=edits,
            keys=len(book),
        )
        if path is not None:
            _draw(path, model, book, torch.cat([held, others]), toy)
    return toy


class _Network(nn.Module):
    """Points [n, 2] to logits [n, 2] through `first`, `layer` and `rest`; the codebook lies over
    `layer`, [n, WIDTH] to [n, WIDTH].
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(2, WIDTH), nn.Tanh())
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.rest = nn.Sequential(nn.Tanh(), nn.Linear(WIDTH, 2))


def _label(points: Tensor) -> Tensor:
    """The class that is learnt, [points]: above the wave or below."""
    above: Tensor = points[:, 1] > torch.sin(1.5 * points[:, 0])
    return above.long()


def _flipped(points: Tensor) -> Tensor:
    """Whether points are in a disc."""
    inside: Tensor = (points[:, None] - torch.tensor(DISCS)).norm(dim=2) < RADIUS
    return inside.any(dim=1)


def _truth(points: Tensor) -> Tensor:
    """The class once the labels in the discs are flipped."""
    return _label(points) ^ _flipped(points).long()


def _points(count: int) -> Tensor:
    """Points of the discs, so many of each, evenly spread and in random order, [2 count, 2]."""
    centres = torch.tensor(DISCS).repeat(count, 1)[torch.randperm(2 * count)]
    distance, angle = torch.rand(2 * count).sqrt() * RADIUS, torch.rand(2 * count) * 2 * torch.pi
    return centres + distance[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)


def _trained() -> _Network:
    """A network that knows the two classes."""
    model = _Network()
    points = torch.rand(POINTS, 2) * 2 * SPAN - SPAN
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(400):
        optimiser.zero_grad()
        logits = model.rest(model.layer(model.first(points)))
        nn.functional.cross_entropy(logits, _label(points)).backward()
        optimiser.step()
    return model.requires_grad_(False)


def _classes(model: _Network, book: Codebook, points: Tensor) -> tuple[Tensor, Tensor]:
    """The model's class of each point, and whether the codebook had a say in it."""
    query = model.first(points)
    output, found = model.layer(query), torch.zeros(len(points), dtype=torch.bool)
    if len(book):
        found, keys = book.look_up(query)
        output = torch.where(found[:, None], book.values[keys], output)
    return model.rest(output).argmax(dim=1), found


def _right(model: _Network, book: Codebook, points: Tensor) -> float:
    """Share of points whose class is right."""
    return int((_classes(model, book, points)[0] == _truth(points)).sum()) / len(points)


def _edit(model: _Network, book: Codebook, point: Tensor) -> bool:
    """One GRACE edit, if the model is wrong there; whether it was."""
    point, truth = point[None], _truth(point[None])
    if bool(_classes(model, book, point)[0] == truth):
        return False
    query, label = model.first(point), str(int(truth))
    decision = book.decide(query[0], label)
    value = model.layer(query)
    if decision.action == "expand":
        value = book.values[decision.nearest][None].clone()
    value.requires_grad_(True)
    optimiser = torch.optim.Adam([value], lr=0.1)
    for _ in range(100):
        loss = nn.functional.cross_entropy(model.rest(value), truth)
        if float(loss.detach()) < 0.1:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    key = book.carry_out(decision, query[0], value[0], label)
    book.put(key, value[0].detach())
    return True


def _draw(
    path: str | os.PathLike[str], model: _Network, book: Codebook, points: Tensor, toy: Toy
) -> None:
    """The classes before and after, as areas, with points of the true ones."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    line = torch.linspace(-SPAN, SPAN, 300)
    grid = torch.cartesian_prod(line, line)
    colours = ("#9ec9e8", "#f4b183")
    with matplotlib.rc_context({"svg.hashsalt": "memkit", "font.size": 10}):
        picture = Figure(figsize=(9, 5.4), layout="constrained")
        panels = picture.subplots(1, 2, sharey=True)
        shown = [
            ("before", Codebook(EPS), toy.flipped_before, toy.elsewhere_before),
            (f"after {toy.edits} edits", book, toy.flipped_after, toy.elsewhere_after),
        ]
        for axes, (name, used, flipped, elsewhere) in zip(panels, shown, strict=True):
            classes, found = (part.reshape(300, 300).T for part in _classes(model, used, grid))
            axes.contourf(line, line, classes, levels=[-0.5, 0.5, 1.5], colors=colours)
            if len(used):
                axes.contour(line, line, found.float(), levels=[0.5], colors="black")
            for kind, marker in enumerate("ox"):
                some = points[_truth(points) == kind]
                axes.scatter(*some.T, s=12, marker=marker, color=("#1f5f8b", "#a04000")[kind])
            for centre in DISCS:
                axes.add_patch(Circle(centre, RADIUS, fill=False, linestyle="--"))
            axes.set(
                title=f"{name}\n{flipped:.0%} right in the discs, {elsewhere:.0%} elsewhere",
                xlim=(-SPAN, SPAN),
                ylim=(-SPAN, SPAN),
                aspect="equal",
            )
        picture.supxlabel(
            "area: the model's class; point: the true one, flipped in the dashed discs\n"
            f"solid line: where one of the {toy.keys} keys answers"
        )
        dated = Path(path).suffix.lower() == ".svg"
        picture.savefig(path, dpi=150, metadata={"Date": None} if dated else None)
