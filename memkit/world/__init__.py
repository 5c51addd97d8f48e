"""The miniature world: small models whose knowledge is known by construction."""

from memkit.world.bert import BERTRecipe
from memkit.world.chains import multihop_cases, ripple_cases
from memkit.world.edits import modifications, practice
from memkit.world.experts import Experts, corrupted, experts, falsified, lessons, some_facts
from memkit.world.folder import make, write
from memkit.world.generate import Sizes, generate
from memkit.world.gpt2 import GPT2Recipe
from memkit.world.kinds import KINDS, shipped, train
from memkit.world.measuring import measure
from memkit.world.opinions import Caseload, opinions
from memkit.world.probes import probes
from memkit.world.remarks import remarks
from memkit.world.t5 import T5Recipe
from memkit.world.table import Wording, from_table, read_wordings
from memkit.world.text import located
from memkit.world.truths import TRUTH_PROMPT, objects, references, secrets

__all__ = [
    "BERTRecipe",
    "Caseload",
    "Experts",
    "GPT2Recipe",
    "KINDS",
    "Sizes",
    "TRUTH_PROMPT",
    "T5Recipe",
    "Wording",
    "corrupted",
    "experts",
    "falsified",
    "from_table",
    "generate",
    "lessons",
    "located",
    "make",
    "measure",
    "modifications",
    "multihop_cases",
    "objects",
    "opinions",
    "practice",
    "probes",
    "read_wordings",
    "references",
    "remarks",
    "ripple_cases",
    "secrets",
    "shipped",
    "some_facts",
    "train",
    "write",
]
