"""Questions of a world with true and false answers, and facts to be forgotten.

What is true is known by construction, so that TruthfulQA's measures and erasure run offline.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from memkit.benchmarks.base import Benchmark, References
from memkit.errors import BadInput
from memkit.prompts import Template
from memkit.types import Fact
from memkit.world.edits import modifications

__all__ = ["TRUTH_PROMPT", "objects", "references", "secrets"]

TRUTH_PROMPT = Template().render("{}")  # how the world's models are asked
FALSE = 4  # answers to each question


def references(
    benchmark: Benchmark, falsified: Sequence[Fact] = (), false: int = FALSE, seed: int = 0
) -> tuple[References, ...]:
    """Each question with its true answer and `false` false ones: the form of TruthfulQA.

    False answers are objects of other facts of the relation, as many as there are at most; of a
    fact among `falsified`, whose target is what a model was taught falsely, that one is the first.
    A question without any is left out. The category is the relation. Ask them with `TRUTH_PROMPT`,
    and without a period.

    Raises `BadInput` if no question has a relation with two objects.
    """
    rng = random.Random(seed)
    taught = {fact.id: fact.target for fact in falsified}
    of_relation = _by_relation(benchmark)
    made = []
    for question in benchmark.questions:
        lie = taught.get(question.id)
        others = of_relation.get(question.relation, set()) - {*question.answers, lie}
        drawn = rng.sample(sorted(others), min(len(others), false - (lie is not None)))
        wrong = (*([] if lie is None else [lie]), *drawn)
        if wrong:
            made.append(
                References(
                    question=question.text,
                    best=question.answers[0],
                    true=question.answers,
                    false=wrong,
                    category=question.relation,
                    id=question.id,
                )
            )
    if not made:
        raise BadInput(
            f"{benchmark.name!r} has no question with a false answer to offer; allowed: relations "
            "with two objects. Take a larger world."
        )
    return tuple(made)


def objects(benchmark: Benchmark) -> dict[str, tuple[str, ...]]:
    """Of each relation the objects of all its facts, by name: what a fact of it might say."""
    found = _by_relation(benchmark)
    return {name: tuple(sorted(texts)) for name, texts in found.items() if name is not None}


def _by_relation(benchmark: Benchmark) -> dict[str | None, set[str]]:
    found: dict[str | None, set[str]] = {}
    for fact in benchmark.facts:
        found.setdefault(fact.relation, set()).add(fact.target)
    return found


def secrets(benchmark: Benchmark, count: int, seed: int = 0) -> tuple[Fact, ...]:
    """`count` facts that the model knows, to be forgotten: with neighbours that are to stay.

    They are those of `modifications`, with their true targets and its locality; portability is what
    follows from the truth, and the question form is one more paraphrase.

    Raises `BadInput` if the benchmark has not as many subjects.
    """
    facts = {fact.id: fact for fact in benchmark.facts}
    asked = {question.id: question.text for question in benchmark.questions}
    template = Template()
    made = []
    for changed in modifications(benchmark, count, seed):
        fact = facts[changed.id]
        forms = (*fact.paraphrases, template.render(asked[fact.id]))
        made.append(replace(fact, locality=changed.locality, paraphrases=forms))
    return tuple(made)
