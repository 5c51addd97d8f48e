"""The papers' evaluations, one file each."""

from memkit.protocols import cost
from memkit.protocols.arms import outcomes
from memkit.protocols.canonical import canonical
from memkit.protocols.collapse import collapse
from memkit.protocols.conflicts import conflicts
from memkit.protocols.crowded import crowded
from memkit.protocols.editing import editing
from memkit.protocols.entities import entities
from memkit.protocols.entities_methods import Definition, RandomDefinition, Retrieved, Routed
from memkit.protocols.entities_overlap import overlap
from memkit.protocols.erasure import erasure
from memkit.protocols.events import events
from memkit.protocols.holding import InContext, Retrieval
from memkit.protocols.lifelong import lifelong
from memkit.protocols.longform import agreement, longform
from memkit.protocols.mallen import matched, published
from memkit.protocols.multihop import multihop
from memkit.protocols.pitfalls import pitfalls
from memkit.protocols.poisoning import poison, poisoning
from memkit.protocols.popularity import popularity
from memkit.protocols.probe import common_vocabulary, probe
from memkit.protocols.ripple import ripple
from memkit.protocols.safety import safety
from memkit.protocols.temporal import temporal
from memkit.protocols.unstructured import unstructured

__all__ = [
    "Definition",
    "InContext",
    "RandomDefinition",
    "Retrieval",
    "Retrieved",
    "Routed",
    "agreement",
    "canonical",
    "collapse",
    "common_vocabulary",
    "conflicts",
    "cost",
    "crowded",
    "editing",
    "entities",
    "erasure",
    "events",
    "lifelong",
    "longform",
    "matched",
    "multihop",
    "outcomes",
    "overlap",
    "pitfalls",
    "poison",
    "poisoning",
    "popularity",
    "probe",
    "published",
    "ripple",
    "safety",
    "temporal",
    "unstructured",
]
