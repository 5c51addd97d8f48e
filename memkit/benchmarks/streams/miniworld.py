"""The GRACE paper's three streams on the miniature world, whose small models memkit ships.

miniworld-zsre           for the T5: facts about the less popular half of the subjects, which it
                         hardly knows, each asked by its question and its four cloze phrasings. One
                         half of all, in the order of `seed`, are the edits, the other the holdout.
                         Upstream are the questions about the most popular subjects
miniworld-scotus         for the BERT: opinions of the new years, in the order of time; upstream are
                         opinions of the old years that it was not trained on
miniworld-hallucination  for the GPT-2: passages about less popular subjects, sentence by sentence,
                         each after the subject's name and the true sentences before. Upstream are
                         passages about subjects of middling popularity, accurate those about the
                         most popular ones

`path` is the world's folder, None the shipped one; `upstream` has to be None: the world has both.
"""

from __future__ import annotations

import os
import random

from memkit.benchmarks import miniworld, opinions
from memkit.benchmarks.base import Benchmark, Stream
from memkit.benchmarks.streams.hallucination import sentences
from memkit.benchmarks.streams.sources import made, shuffled
from memkit.errors import BadInput
from memkit.types import Fact, Passage, Question

__all__ = ["hallucination", "scotus", "zsre"]

FACTS = 700  # that are edited, in five forms each
ACCURATE = 100  # sentences

Source = str | os.PathLike[str] | None


def zsre(
    path: Source, upstream: Source, limit: int | None, upstream_limit: int, seed: int
) -> Stream:
    """Questions and phrasings of facts that the model hardly knows."""
    world = _world(path, upstream)
    ranked = sorted(world.questions, key=lambda q: -(q.popularity or 0))
    facts = {fact.id: fact for fact in world.facts}
    rare = [q for q in ranked[len(ranked) // 2 :] if q.id in facts]
    chosen = random.Random(seed).sample(rare, min(FACTS, len(rare)))
    pairs = shuffled([f for q in chosen for f in _forms(q, facts[q.id])], seed)
    middle = (len(pairs) + 1) // 2
    return made(
        "miniworld-zsre",
        "f1",
        pairs[:middle][:limit],
        ranked[:upstream_limit],
        [Question(f.text, answers=(f.target,), id=f.id) for f in pairs[middle:]],
    )


def scotus(
    path: Source, upstream: Source, limit: int | None, upstream_limit: int, seed: int
) -> Stream:
    """Opinions in the order of time."""
    _refuse(upstream)
    found = opinions.load(path)
    rows = {split: [o for o in found if o.split == split] for split in opinions.SPLITS}
    edits = [Fact(o.case, o.text, o.label) for o in rows["shifted"]]
    return made(
        "miniworld-scotus",
        "accuracy",
        edits[:limit],
        [_judged(opinion) for opinion in rows["test"]][:upstream_limit],
        [_judged(opinion) for opinion in rows["shifted_holdout"]],
    )


def hallucination(
    path: Source, upstream: Source, limit: int | None, upstream_limit: int, seed: int
) -> Stream:
    """Passages sentence by sentence."""
    world = _world(path, upstream)
    views = {id: q.popularity or 0 for q in world.questions for id in q.gold}
    known = sorted(
        (p for p in world.passages if p.id in views and p.title), key=lambda p: -views[p.id]
    )
    third = len(known) // 3
    popular, middling, rare = known[:third], known[third : 2 * third], known[2 * third :]
    edits = [fact for passage in shuffled(rare, seed) for fact in _sentences(passage)]
    return made(
        "miniworld-hallucination",
        "perplexity",
        edits[:limit],
        [_asked(f) for p in shuffled(middling, seed) for f in _sentences(p)][:upstream_limit],
        accurate=[_asked(f) for p in popular for f in _sentences(p)][:ACCURATE],
    )


def _world(path: Source, upstream: Source) -> Benchmark:
    _refuse(upstream)
    return miniworld.load(path)


def _refuse(upstream: Source) -> None:
    """Raise `BadInput` for test data of its own."""
    if upstream is not None:
        raise BadInput(
            f"upstream is {str(upstream)!r} for a world, which has its own; allowed: None. Drop it."
        )


def _forms(question: Question, fact: Fact) -> list[Fact]:
    """A fact asked by its question and by each of its phrasings."""
    texts = [question.text, fact.prompt, *fact.paraphrases]
    return [
        Fact(subject=fact.subject, prompt=text, target=fact.target, id=fact.id) for text in texts
    ]


def _sentences(passage: Passage) -> list[Fact]:
    """Each sentence of a passage as what follows its title and the sentences before."""
    title, told = passage.title or "", sentences(passage.text)
    return [
        Fact(
            subject=title,
            prompt="\n".join(["{}", *([" ".join(told[:number])] if number else [""])]),
            target=sentence,
            id=f"{passage.id}/{number}",
        )
        for number, sentence in enumerate(told)
    ]


def _judged(opinion: opinions.Opinion) -> Question:
    return Question(opinion.text, answers=(opinion.label,))


def _asked(fact: Fact) -> Question:
    return Question(fact.text, answers=(fact.target,), id=fact.id)
