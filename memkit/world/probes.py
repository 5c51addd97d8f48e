"""Probes of the miniature world's new entities: what their definitions say, and what follows.

    explicit    "The birthplace of Ada Quin is": the definition says so, in other words
    implicit    "The country of the birthplace of Ada Quin is": the definition names the birthplace,
                and its country is known. Only through subjects that training stated often
                (`HEAD`), since what a model does not know it cannot combine

and, about the most popular entities, explicit ones: what a model knows, and the definition of
another entity should not change. Candidates of a new entity's explicit probe are objects that other
new ones have, so that none is likelier by being better known; those of the others are objects of
subjects that training stated often.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.miniworld import NEW
from memkit.benchmarks.probes import END, GAP, Cloze, EntityProbe
from memkit.types import Fact

__all__ = ["probes", "row"]

HEAD = 0.3  # the most popular facts, nine tenths or more of which the shipped model knows
POPULAR = 60  # of them, those that are asked for
CANDIDATES = 8


def probes(benchmark: Benchmark, seed: int = 0) -> tuple[EntityProbe, ...]:
    """The probes of a world: of its new entities, then of its most popular ones.

    Ids are those of the facts, an implicit one's with the second relation behind it. Without a new
    entity there are none.
    """
    new = [fact for fact in benchmark.facts if str(fact.id).startswith(NEW)]
    if not new:
        return ()
    rng = random.Random(seed)
    views = {str(q.id): q.popularity or 0 for q in benchmark.questions}
    titles = {passage.id: passage.title for passage in benchmark.passages}
    known = [  # a name means its most popular bearer, as it does to a model
        fact
        for fact in benchmark.facts
        if views[str(fact.id)] and titles[str(fact.id).split("/")[0]] == fact.subject
    ]
    known.sort(key=lambda fact: -views[str(fact.id)])
    head = known[: round(HEAD * len(known))]
    own, common = _objects(new), _objects(head)
    made = [_probe(rng, fact, _reworded(rng, fact), fact.target, own) for fact in new]
    for fact in new:
        for second in head:
            if second.subject == fact.target:
                text = f"the {second.relation} of the {fact.relation} of {fact.subject} is "
                text = text[0].upper() + text[1:]
                made.append(_probe(rng, fact, text, second.target, common, second.relation))
    made += [
        _probe(rng, fact, _reworded(rng, fact), fact.target, common, views=views[str(fact.id)])
        for fact in head[:POPULAR]
    ]
    return tuple(made)


def row(probe: EntityProbe) -> dict[str, Any]:
    """A probe as a row of Entity Inferences, see `memkit.benchmarks.clozes`."""
    labels = [f"{GAP} {candidate} {END}" for candidate in probe.candidates]
    return {
        "ex_id": probe.id,
        "definition": probe.definition.masked,
        "def_target": f"{GAP} {probe.definition.span} {END}",
        "category": probe.category,
        "ent_str": probe.entity,
        "probe_sentences": {"template_0": {"probe_sentence": probe.cloze.masked, "labels": labels}},
        "label": probe.gold,
        "popularity": probe.popularity,
    }


def _objects(facts: Sequence[Fact]) -> dict[str | None, list[str]]:
    """The different objects of each relation, in alphabetical order."""
    objects: dict[str | None, set[str]] = {}
    for fact in facts:
        objects.setdefault(fact.relation, set()).add(fact.target)
    return {relation: sorted(names) for relation, names in objects.items()}


def _reworded(rng: random.Random, fact: Fact) -> str:
    """The fact in other words than the definition's, up to its object."""
    return f"{rng.choice(fact.paraphrases).replace('{}', fact.subject)} "


def _probe(
    rng: random.Random,
    fact: Fact,
    text: str,
    gold: str,
    objects: dict[str | None, list[str]],
    second: str | None = None,
    views: float = 0,
) -> EntityProbe:
    """One probe of a fact, or of what follows from it by a second relation."""
    others = [name for name in objects[second or fact.relation] if name != gold]
    candidates = [gold, *rng.sample(others, min(CANDIDATES - 1, len(others)))]
    rng.shuffle(candidates)
    before, after = str(fact.definition).split(f"{fact.text} {fact.target}.")
    return EntityProbe(
        entity=fact.subject,
        definition=Cloze(f"{before}{fact.text} ", fact.target, f".{after}"),
        cloze=Cloze(text, gold, "."),
        candidates=tuple(candidates),
        category="popular" if views else str(fact.id).split("-")[1],
        kind="implicit" if second else "explicit",
        popularity=views,
        id=f"{fact.id}/{second}" if second else fact.id,
    )
