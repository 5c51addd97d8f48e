"""Edits of the miniature world: facts that training stated, with another object in their place."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from memkit.benchmarks.base import Benchmark
from memkit.errors import BadInput
from memkit.types import Fact

__all__ = ["modifications", "most_popular", "practice", "unmistaken"]

HEAD = 0.1  # the most popular tenth of the facts, which the shipped model knows
OTHERS = 5  # of them, about other subjects, that must not change with a fact


def modifications(benchmark: Benchmark, count: int, seed: int = 0) -> tuple[Fact, ...]:
    """`count` facts about different subjects, of the most popular tenth, each with a new target.

    The new target is the object of the same relation of another of these facts, so that the model
    has often said it; `previous` is the old one. Portability is what follows from the new target.
    Locality are five of these facts about other subjects (two at least of the same relation, where
    there are as many), and all else that is known of the subject itself: what the model knows, so
    that a change is not one between two guesses.
    Where a subject shares its name with an obscure one, the popular one is meant, as by the model.

    Raises `BadInput` if the benchmark has not as many subjects.
    """
    rng = random.Random(seed)
    true = {key: fact.target for key, fact in unmistaken(benchmark).items()}
    head = most_popular(benchmark, HEAD)
    objects = _objects(head)
    single: dict[str, list[Fact]] = {}
    for fact in head:
        if len(set(objects[fact.relation])) > 1:
            single.setdefault(fact.subject, []).append(fact)
    if not 1 <= count <= len(single):
        raise BadInput(
            f"count is {count!r}; allowed: 1 to {len(single)}, the subjects of {benchmark.name!r} "
            "that training stated often. Ask for fewer."
        )
    chosen = [rng.choice(single[name]) for name in rng.sample(sorted(single), count)]
    changed = (_changed(rng, fact, objects[fact.relation], true) for fact in chosen)
    return tuple(_with_locality(rng, fact, head) for fact in changed)


def practice(benchmark: Benchmark, without: Sequence[Fact] = (), seed: int = 0) -> tuple[Fact, ...]:
    """The facts of a world, each with a new target, for editors that are trained (MEND).

    Targets and locality are drawn as in `modifications`; subjects are all there are, also those
    that training stated rarely, since an editor that is to serve others has to see many. The
    subjects of `without`, on which it will be measured, are left out. There is no portability.
    """
    rng = random.Random(seed)
    head = most_popular(benchmark, HEAD)
    objects = _objects(head)
    subjects = {fact.subject for fact in without}
    made = []
    for fact in benchmark.facts:
        others = [name for name in objects.get(fact.relation, ()) if name != fact.target]
        if fact.subject not in subjects and others:
            told = replace(fact, target=rng.choice(others), previous=fact.target, portability=())
            made.append(_with_locality(rng, told, head))
    return tuple(made)


def unmistaken(benchmark: Benchmark) -> dict[tuple[str, str | None], Fact]:
    """Facts by subject and relation; of subjects that share a name, the popular one's."""
    titles = {passage.id: passage.title for passage in benchmark.passages}
    return {
        (fact.subject, fact.relation): fact
        for fact in benchmark.facts
        if titles[_owner(fact)] == fact.subject
    }


def most_popular(benchmark: Benchmark, share: float) -> list[Fact]:
    """So large a part of the facts that training stated, the most popular first."""
    views = {question.id: question.popularity or 0 for question in benchmark.questions}
    known = sorted((fact for fact in benchmark.facts if views[fact.id]), key=lambda f: -views[f.id])
    return known[: round(share * len(known))]


def _objects(facts: Sequence[Fact]) -> dict[str | None, list[str]]:
    """The targets of each relation, as often as they come."""
    objects: dict[str | None, list[str]] = {}
    for fact in facts:
        objects.setdefault(fact.relation, []).append(fact.target)
    return objects


def _changed(
    rng: random.Random,
    fact: Fact,
    objects: Sequence[str],
    true: dict[tuple[str, str | None], str],
) -> Fact:
    """The fact with another object, and with what follows from that one."""
    target = rng.choice([name for name in objects if name != fact.target])
    follows = []
    for prompt, old in fact.portability:
        second = next(r for (name, r), o in true.items() if name == fact.target and o == old)
        follows.append((prompt, true[target, second]))
    return replace(fact, target=target, previous=fact.target, portability=tuple(follows))


def _with_locality(rng: random.Random, fact: Fact, head: Sequence[Fact]) -> Fact:
    """The fact with probes of what must not change."""
    others = [other for other in head if other.subject != fact.subject]
    same = [other for other in others if other.relation == fact.relation]
    near = rng.sample(same, min(2, len(same)))
    far = rng.sample([other for other in others if other not in near], OTHERS - len(near))
    own = [f for f in head if _owner(f) == _owner(fact) and f.relation != fact.relation]
    return replace(fact, locality=tuple((f.text, f.target) for f in (*near, *far, *own)))


def _owner(fact: Fact) -> str:
    """The id of the entity that the fact is about, which is that of its passage."""
    return str(fact.id).split("/")[0]
