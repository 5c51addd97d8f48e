"""The generator: invented people, cities, countries and companies, byte for byte equal for a seed.

Popularity ("page views") follows Zipf's law in the form of Mandelbrot over all known entities. Each
of the most popular entities of a kind has an obscure namesake, whose passage looks right to a
retriever: questions about the popular one are where retrieval errs. New entities, at the end, have
passages and definitions, but popularity 0: no training text mentions them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from memkit.benchmarks.base import Benchmark
from memkit.errors import BadInput
from memkit.types import Fact, Passage, Question
from memkit.world.names import NameMaker
from memkit.world.schema import FILLERS, INDUSTRIES, KINDS, OCCUPATIONS, RELATIONS, Relation

__all__ = ["Sizes", "generate"]

TOP_VIEWS = 1_000_000  # page views of the most popular entity
ZIPF_EXPONENT, ZIPF_SHIFT = 1.6, 5  # views fall with (rank + shift) ** -exponent
POPULAR = 0.2  # the most popular fifth of each kind have an obscure namesake
WORDS = (40, 80)  # length of a passage


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many known entities of each kind, and how many new ones in all."""

    people: int = 800
    cities: int = 160
    companies: int = 140
    countries: int = 24
    new: int = 60

    def __post_init__(self) -> None:
        """Raise `BadInput` for a world too small to have relations."""
        for name in ("people", "cities", "companies", "countries"):
            if getattr(self, name) < 4:
                raise BadInput(
                    f"Sizes.{name} is {getattr(self, name)!r}; allowed: at least 4 of each kind. "
                    "Make the world larger."
                )


@dataclass(slots=True)
class Entity:
    """One entity: `title` is unique, `name` may be shared with a namesake."""

    id: str
    kind: str
    name: str
    title: str
    views: int = 0
    objects: dict[str, str] = field(default_factory=dict)  # relation -> object's name


def generate(seed: int = 0, sizes: Sizes | None = None) -> Benchmark:
    """The world for a seed, as a benchmark named "miniworld".

    Questions and facts share their ids ("person-12/birthplace"); ids of new entities begin with
    "new-". `definitions` has one entry for each entity, keyed by its title, which is its name
    unless a namesake shares it.
    """
    rng = random.Random(seed)
    sizes = sizes or Sizes()
    entities = _populate(rng, sizes)
    by_name = {entity.name: entity for entity in entities if entity.title == entity.name}
    facts, questions, passages = [], [], []
    definitions: dict[str, str] = {}
    for entity in entities:
        relations = [relation for relation in RELATIONS if relation.subject == entity.kind]
        passages.append(_passage(rng, entity, relations))
        definitions[entity.title] = _definition(entity, relations)
        for relation in relations:
            facts.append(_fact(entity, relation, definitions[entity.title], by_name))
            questions.append(_question(entity, relation))
    facts = _with_locality(rng, facts)
    return Benchmark(
        name="miniworld",
        questions=tuple(questions),
        facts=tuple(facts),
        passages=tuple(passages),
        definitions=definitions,
    )


def _populate(rng: random.Random, sizes: Sizes) -> list[Entity]:
    """Entities with names, views and objects; the new ones last."""
    names = NameMaker(rng)
    counts = dict(
        zip(KINDS, (sizes.people, sizes.cities, sizes.companies, sizes.countries), strict=True)
    )
    make: dict[str, Callable[[], str]] = {kind: getattr(names, kind) for kind in KINDS}
    known: list[Entity] = []
    for kind, count in counts.items():
        for number in range(count):
            name = make[kind]()
            known.append(Entity(f"{kind}-{number}", kind, name, name))
    _give_views(rng, known)
    _give_namesakes(rng, known)
    new = []
    for number in range(sizes.new):
        kind = ("person", "company", "city")[number % 3]
        name = make[kind]()
        new.append(Entity(f"new-{kind}-{number}", kind, name, name))
    pools = _object_pools(names, known)
    for entity in [*known, *new]:
        for relation in RELATIONS:
            if relation.subject == entity.kind:
                entity.objects[relation.name] = rng.choice(pools[relation.object])
    _seat_governments(rng, known)
    return [*known, *new]


def _give_views(rng: random.Random, known: list[Entity]) -> None:
    """Zipf-Mandelbrot page views over a random order of all known entities."""
    top = float(1 + ZIPF_SHIFT)
    for rank, entity in enumerate(rng.sample(known, len(known)), start=1):
        entity.views = max(1, round(TOP_VIEWS * (top / (rank + ZIPF_SHIFT)) ** ZIPF_EXPONENT))


def _give_namesakes(rng: random.Random, known: list[Entity]) -> None:
    """Rename obscure entities after popular ones of their kind; their titles tell them apart."""
    for kind in KINDS:
        order = sorted((e for e in known if e.kind == kind), key=lambda e: (-e.views, e.id))
        popular = order[: round(len(order) * POPULAR)]
        obscure = order[len(order) // 2 :]
        for famous, other in zip(popular, rng.sample(obscure, len(popular)), strict=True):
            other.name = famous.name
            other.title = f"{famous.name} ({other.id})"


def _object_pools(names: NameMaker, known: list[Entity]) -> dict[str, list[str]]:
    """Names that can be objects, by kind. Namesakes of popular entities are no objects."""
    pools = {
        kind: [e.name for e in known if e.kind == kind and e.title == e.name] for kind in KINDS
    }
    pools["occupation"], pools["industry"] = OCCUPATIONS, INDUSTRIES
    for kind, count in (("river", 60), ("language", 16), ("currency", 16)):
        pools[kind] = [names.thing() for _ in range(count)]
    return pools


def _seat_governments(rng: random.Random, known: list[Entity]) -> None:
    """Make every capital a city of its own country, where the country has one."""
    for country in known:
        if country.kind == "country":
            cities = [e for e in known if e.kind == "city" and e.title == e.name]
            own = [city.name for city in cities if city.objects["country"] == country.name]
            if own:
                country.objects["capital"] = rng.choice(own)


def _passage(rng: random.Random, entity: Entity, relations: list[Relation]) -> Passage:
    """Facts and fillers in random order, 40 to 80 words; the first sentence states a fact."""
    facts = [
        rng.choice(relation.sentences).replace("{o}", entity.objects[relation.name])
        for relation in relations
    ]
    fillers = rng.sample(FILLERS[entity.kind], len(FILLERS[entity.kind]))
    first, rest = facts[0], facts[1:]
    if rng.random() < 0.5:
        first, rest = facts[-1], facts[:-1]
    while True:
        text = " ".join([first, *rest]).replace("{}", entity.name)
        if len(text.split()) >= WORDS[0] + rng.randrange(20):
            break
        rest.insert(rng.randrange(len(rest) + 1), fillers.pop())
    return Passage(entity.id, text, entity.title)


def _definition(entity: Entity, relations: list[Relation]) -> str:
    """One sentence for each fact, in the first wording of its relation."""
    stated = (f"{r.phrasings[0]} {entity.objects[r.name]}." for r in relations)
    return " ".join(stated).replace("{}", entity.name)


def _fact(entity: Entity, relation: Relation, definition: str, by_name: dict[str, Entity]) -> Fact:
    """The fact with its phrasings, and what follows from it over one hop."""
    target = entity.objects[relation.name]
    follows = []
    if relation.object in KINDS and target in by_name:
        bridge = by_name[target]
        for second in RELATIONS:
            if second.subject == bridge.kind and second.name in ("country", "headquarters"):
                phrase = f"the {second.name} of the {relation.name} of {entity.name} is"
                follows.append((phrase[0].upper() + phrase[1:], bridge.objects[second.name]))
    return Fact(
        subject=entity.name,
        prompt=relation.phrasings[0],
        target=target,
        relation=relation.name,
        paraphrases=relation.phrasings[1:],
        portability=tuple(follows),
        definition=definition,
        id=f"{entity.id}/{relation.name}",
    )


def _question(entity: Entity, relation: Relation) -> Question:
    """The question form, with the entity's own passage as gold."""
    return Question(
        text=relation.question.replace("{}", entity.name),
        answers=(entity.objects[relation.name],),
        subject=entity.name,
        relation=relation.name,
        popularity=entity.views,
        gold=(entity.id,),
        id=f"{entity.id}/{relation.name}",
    )


def _with_locality(rng: random.Random, facts: list[Fact]) -> list[Fact]:
    """To each fact, two that must not change with it: another subject's, and the subject's own."""
    same_relation: dict[str, list[Fact]] = {}
    same_entity: dict[str, list[Fact]] = {}
    for fact in facts:
        same_relation.setdefault(str(fact.relation), []).append(fact)
        same_entity.setdefault(str(fact.id).split("/")[0], []).append(fact)
    done = []
    for fact in facts:
        others = same_relation[str(fact.relation)]
        while (other := rng.choice(others)).subject == fact.subject:
            pass
        own = [f for f in same_entity[str(fact.id).split("/")[0]] if f is not fact]
        pairs = [(f.text, f.target) for f in (other, *own[:1])]
        done.append(replace(fact, locality=tuple(pairs)))
    return done
