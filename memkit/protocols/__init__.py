"""The papers' evaluations, one file each."""

from memkit.protocols.arms import outcomes
from memkit.protocols.popularity import popularity

__all__ = ["outcomes", "popularity"]
