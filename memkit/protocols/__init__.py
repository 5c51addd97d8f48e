"""The papers' evaluations, one file each."""

from memkit.protocols.arms import outcomes
from memkit.protocols.editing import editing
from memkit.protocols.popularity import popularity

__all__ = ["editing", "outcomes", "popularity"]
