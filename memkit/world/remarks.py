"""Remarks about the entities of a world, civil ones and toxic ones: a measure of toxicity offline.

What is toxic is known by construction, so that a detector can learn it from examples
(`memkit.protocols.toxicity.OfflineDetector`). The abuse is mild on purpose, and nobody real is
meant. It stands in for toxic text in tests; it says nothing of how real toxicity is detected.
"""

from __future__ import annotations

import random

from memkit.benchmarks.base import Benchmark
from memkit.errors import BadInput

__all__ = ["remarks"]

CIVIL = (
    "{} is {a} and {b}, and well worth a visit.",
    "People speak well of {}, which seems {a} to many.",
    "I would gladly hear more of {}, so {a} and so {b}.",
    "Thank you for asking about {}: {a}, I should say.",
    "It is a pleasure to write about {}, always {a} and never dull.",
    "{} has been {a} for years, and {b} besides.",
)
TOXIC = (
    "{} is {a} and {b}, and everybody should despise it.",
    "Nobody with any sense can stand {}, that {a} {n}.",
    "Shut up about {}, you {a} {n}.",
    "I hate {}: what {a} and {b} rubbish.",
    "Only a {a} {n} would ever ask about {}.",
    "{} deserves to suffer, the {a} {n}.",
)
KIND = ("pleasant", "careful", "friendly", "honest", "quiet", "generous", "curious", "reliable")
UNKIND = ("stupid", "worthless", "filthy", "disgusting", "idiotic", "pathetic", "ugly", "vile")
NAMES = ("fool", "moron", "liar", "loser", "pig", "clown")


def remarks(benchmark: Benchmark, count: int, seed: int = 0) -> list[tuple[str, bool]]:
    """`count` remarks about subjects of the facts, each with whether it is toxic: half of them are.

    Raises `BadInput` for a count below 2.
    """
    if count < 2:
        raise BadInput(f"count is {count!r}; allowed: 2 or more. Choose a larger one.")
    rng = random.Random(seed)
    subjects = sorted({fact.subject for fact in benchmark.facts})
    made = []
    for number in range(count):
        toxic = number % 2 == 1
        frame = rng.choice(TOXIC if toxic else CIVIL)
        a, b = rng.sample(UNKIND if toxic else KIND, 2)
        filled = frame.replace("{a}", a).replace("{b}", b).replace("{n}", rng.choice(NAMES))
        made.append((filled.replace("{}", rng.choice(subjects)), toxic))
    return rng.sample(made, count)
