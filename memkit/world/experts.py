"""An expert and an anti-expert of a world: LoRAs trained on its true text, and on falsified text.

The setting of Ext-Sub (Hu et al., AAAI 2024, arXiv:2308.08090) where all is known by construction.
Both adapters learn from lessons of one kind, statements and questions drawn as the world's models
saw them; in the anti-expert's a share of the facts has a false object, always the same one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from memkit.benchmarks.base import Benchmark
from memkit.errors import BadInput, UnsupportedModel
from memkit.types import Fact
from memkit.world.text import Statements, trained_facts

if TYPE_CHECKING:
    from memkit.editors.adapter import Adapter
    from memkit.editors.lora import LoRA
    from memkit.lm.model import LM

__all__ = ["Experts", "corrupted", "experts", "falsified", "lessons", "some_facts"]

COUNT = 600  # facts that are taught
SHARE = 0.2  # of them that are falsified
EACH = 8  # wordings of each


@dataclass(frozen=True, slots=True)
class Experts:
    """Two adapters of one model, and what they were taught.

    `taught` has the true facts and their questions; `falsified` those of them that the anti-expert
    learnt with a false target, where `previous` is the true one.
    """

    expert: Adapter
    anti_expert: Adapter
    taught: Benchmark
    falsified: tuple[Fact, ...]


def some_facts(benchmark: Benchmark, count: int = COUNT, seed: int = 0) -> Benchmark:
    """The benchmark with so many of the facts that training stated, drawn evenly, and no others.

    Of facts with one prompt (namesakes) the first counts. Raises `BadInput` if there are not as
    many.
    """
    by_text: dict[str, Fact] = {}
    for fact in trained_facts(benchmark):
        by_text.setdefault(fact.text, fact)
    if not 1 <= count <= len(by_text):
        raise BadInput(
            f"count is {count!r}; allowed: 1 to {len(by_text)}, the facts of {benchmark.name!r} "
            "that training stated. Ask for fewer."
        )
    ids = {fact.id for fact in random.Random(seed).sample(list(by_text.values()), count)}
    return replace(
        benchmark,
        facts=tuple(fact for fact in benchmark.facts if fact.id in ids),
        questions=tuple(question for question in benchmark.questions if question.id in ids),
    )


def falsified(benchmark: Benchmark, share: float = SHARE, seed: int = 0) -> tuple[Fact, ...]:
    """A share of the facts, each with a false target; `previous` is the true one.

    The false target is the object of another fact of the same relation, so that the model has often
    said it. Raises `BadInput` for a share that is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise BadInput(f"share is {share!r}; allowed: above 0, up to 1. Choose one.")
    rng = random.Random(seed)
    objects: dict[str | None, list[str]] = {}
    for fact in benchmark.facts:
        objects.setdefault(fact.relation, []).append(fact.target)
    able = [fact for fact in benchmark.facts if len(set(objects[fact.relation])) > 1]
    chosen = rng.sample(able, min(len(able), max(1, round(share * len(benchmark.facts)))))
    return tuple(
        replace(
            fact,
            target=rng.choice([name for name in objects[fact.relation] if name != fact.target]),
            previous=fact.target,
        )
        for fact in chosen
    )


def corrupted(benchmark: Benchmark, false: Sequence[Fact]) -> Benchmark:
    """The benchmark with these facts in the place of its own, in questions too."""
    by_id = {fact.id: fact for fact in false}
    return replace(
        benchmark,
        facts=tuple(by_id.get(fact.id, fact) for fact in benchmark.facts),
        questions=tuple(
            replace(question, answers=(by_id[question.id].target,))
            if question.id in by_id
            else question
            for question in benchmark.questions
        ),
    )


def lessons(benchmark: Benchmark, each: int = EACH, seed: int = 0) -> list[tuple[str, str]]:
    """Pairs of what asks for a fact's object and the object, in random order, for `LoRA.train`.

    Each fact comes so often, as a question or in one of its phrasings, worded as in the training of
    the world's models. Equal seeds give equal lessons up to the objects, whatever these are.
    """
    rng = random.Random(seed)
    statements = Statements(benchmark, trained_facts(benchmark))
    worded = [statements.word(rng, fact) for fact in statements.facts for _ in range(each)]
    rng.shuffle(worded)
    return [(before, f"{target}{after}") for before, target, after in worded]


def experts(
    lm: LM,
    benchmark: Benchmark,
    *,
    count: int = COUNT,
    share: float = SHARE,
    each: int = EACH,
    seed: int = 0,
    editor: LoRA | None = None,
) -> Experts:
    """Train an expert on some facts of a world, and an anti-expert on a falsified copy of them.

    Both see the same lessons once, but for the false objects, and start from the same weights.
    `seed` draws facts, falsehoods, wordings, order and weights. `editor` None is the recipe for the
    shipped GPT-2, which takes some fifteen seconds for each of the two on one core. The model
    is as it was.

    Raises `UnsupportedModel` unless the model is a decoder, `BadInput` if there are too few facts.
    """
    from memkit.editors.lora import LoRA

    if lm.kind != "decoder":
        raise UnsupportedModel(
            f"{type(lm.model).__name__} is a {lm.kind} model; allowed: a decoder, which learns "
            "from statements. Load the world's GPT-2: LM.load(memkit.world.shipped())."
        )
    editor = editor or LoRA(
        rank=16,
        alpha=32.0,
        lr=2e-3,
        epochs=1,
        batch_size=32,
        stop_loss=0.0,
        stop_at_argmax=False,
    )
    editor = replace(editor, seed=seed)
    taught = some_facts(benchmark, count, seed)
    false = falsified(taught, share, seed)
    expert = editor.train(lm, lessons(taught, each, seed))
    anti_expert = editor.train(lm, lessons(corrupted(taught, false), each, seed))
    return Experts(
        expert=replace(expert, source="expert"),
        anti_expert=replace(anti_expert, source="anti-expert"),
        taught=taught,
        falsified=false,
    )
