"""The miniature world: small models whose knowledge is known by construction."""

from memkit.world.edits import modifications
from memkit.world.folder import make, measure, write
from memkit.world.generate import Sizes, generate
from memkit.world.table import Wording, from_table, read_wordings
from memkit.world.train import Recipe, train

__all__ = [
    "Recipe",
    "Sizes",
    "Wording",
    "from_table",
    "generate",
    "make",
    "measure",
    "modifications",
    "read_wordings",
    "train",
    "write",
]
