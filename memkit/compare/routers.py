"""Routers by name, as a specification asks for them: one literal, one line a kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memkit.compare.settings import made
from memkit.compare.spec import Spec, near
from memkit.errors import BadInput
from memkit.routing.base import Router
from memkit.routing.baselines import Always, Random
from memkit.routing.cascade import Cascade
from memkit.routing.combined import CombinedRouter
from memkit.routing.conformal import Conformal
from memkit.routing.edits import EditScope
from memkit.routing.entropy import EntropyRouter
from memkit.routing.margin import MarginRouter
from memkit.routing.neighbour import NeighbourRouter
from memkit.routing.popularity import PopularityRouter
from memkit.routing.probe import ProbeRouter
from memkit.routing.score import ScoreRouter

__all__ = ["ROUTERS", "Kind", "router", "signals"]


@dataclass(frozen=True, slots=True)
class CascadeSettings:
    """Names of routers of the specification, the last of which decides whatever reaches it."""

    stages: tuple[str, ...]
    defer: float = 0.3


@dataclass(frozen=True, slots=True)
class ConformalSettings:
    """The name of a router of the specification, and the promise."""

    router: str
    alpha: float = 0.1
    delta: float = 0.1
    learning: float = 0.5
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of router: its settings, the signals that it is fitted on, what it starts from.

    `settings` are often the router itself. `defaults` are set where the file says nothing.
    """

    settings: type[Any]
    signals: tuple[str, ...] = ()
    defaults: tuple[tuple[str, Any], ...] = ()


ROUTERS: Mapping[str, Kind] = {
    "always": Kind(Always),
    "cascade": Kind(CascadeSettings),
    "combined": Kind(CombinedRouter),
    "conformal": Kind(ConformalSettings),
    "edit-scope": Kind(EditScope),
    "entropy": Kind(EntropyRouter, ("entropy", "answer_entropy", "answer_entropy_max")),
    "margin": Kind(MarginRouter, ("margin",)),
    "neighbour": Kind(NeighbourRouter),
    "popularity": Kind(PopularityRouter, defaults=(("splits", 0),)),
    "probe": Kind(ProbeRouter),
    "random": Kind(Random),
    "score": Kind(ScoreRouter, ("score",)),
}
ASKED = ("popularity", "relation")  # of a combined router: what it takes from the question itself


def router(spec: Spec, name: str, place: str, above: Sequence[str] = ()) -> Router:
    """The router of that name in the specification, not fitted.

    Raises `BadInput` for an unknown name or setting, and for a router within itself.
    """
    kind, settings, place = _kind(spec, name, place)
    if name in above:
        raise BadInput(f"{place} is within itself ({' > '.join([*above, name])}); allowed: others.")
    values = made(kind.settings, {**dict(kind.defaults), **settings}, place)
    inside = (*above, name)
    if isinstance(values, CascadeSettings):
        stages = tuple(router(spec, one, f"{place}.stages", inside) for one in values.stages)
        return _checked(place, lambda: Cascade(stages, values.defer))
    if isinstance(values, ConformalSettings):
        inner = router(spec, values.router, f"{place}.router", inside)
        rest = (values.alpha, values.delta, values.learning, values.seed)
        return _checked(place, lambda: Conformal(inner, *rest))
    chosen: Router = values
    return chosen


def signals(spec: Spec, name: str) -> tuple[str, ...]:
    """The names of the signals that a router is fitted on; see `memkit.routing.base`."""
    kind, settings, place = _kind(spec, name, name)
    values = made(kind.settings, settings, place)
    if isinstance(values, CascadeSettings):
        found = [signal for stage in values.stages for signal in signals(spec, stage)]
    elif isinstance(values, ConformalSettings):
        found = list(signals(spec, values.router))
    elif isinstance(values, CombinedRouter):
        found = [signal for signal in values.signals if signal not in ASKED]
    elif isinstance(values, ProbeRouter):
        found = ["hidden" if values.layer is None else f"hidden@{values.layer}"]
    else:
        found = list(kind.signals)
    return tuple(dict.fromkeys(found))


def _kind(spec: Spec, name: str, place: str) -> tuple[Kind, Mapping[str, Any], str]:
    """Kind, settings and place of a router that is in the file, or known by its name."""
    part = spec.routers.get(name)
    known = name if part is None or part.type is None else part.type
    if part is not None:
        place = f"routers.{name}"
    if known not in ROUTERS:
        names = [*spec.routers, *ROUTERS] if part is None else ROUTERS
        raise BadInput(f"{place} is {known!r}, no router; {near(known, names)}")
    return ROUTERS[known], {} if part is None else part.settings, place


def _checked(place: str, make: Any) -> Router:
    try:
        made_router: Router = make()
    except BadInput as error:
        raise BadInput(f"{place}: {error}") from error
    return made_router
