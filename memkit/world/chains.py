"""Ripples and chains of the miniature world: what follows from an edit over one hop and more.

A person is born in a city, which lies in a country; a company has its head office in one. So an
edit's consequences are known by construction, and so are the questions that go through it. All is
asked as the world's model is asked, in the template of `QA`: facts are worded as their questions.

Ripple criteria (`memkit.benchmarks.rippleedits`) that the world has: compositionality I and II,
relation specificity, and logical generalization, since a country's capital lies in that country. It
has neither aliases, for subject aliasing, nor relations with several objects, for preservation.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.cases import (
    Criterion,
    Hop,
    MultihopCase,
    RippleCase,
    RippleQuery,
    RippleTest,
    stated,
)
from memkit.errors import BadInput
from memkit.lm.checks import check_count
from memkit.prompts import Template
from memkit.types import Fact
from memkit.world.edits import HEAD, modifications, most_popular, unmistaken

__all__ = ["multihop_cases", "ripple_cases"]

KNOWN = 0.25  # so large a part of the facts, the most popular ones, the shipped model mostly knows
IMPLIED = {"capital": "country"}  # (s, capital, o) says (o, country, s)
BACKWARD = 3  # subjects, the most popular ones, through which an edited one is asked for
EDITED = ((0,), (1,), (0, 1))  # hops of a chain that are edited
LONGER = 1 / 2  # share of chains with a third hop

Key = tuple[str, str | None]


def ripple_cases(
    benchmark: Benchmark, count: int, seed: int = 0, logical: int = 0
) -> tuple[RippleCase, ...]:
    """Edits with tests of their ripples: `count` of `modifications`, and `logical` more.

    The latter give countries, the most popular first, the capital of another one. Popularity are
    the subject's page views.

        Logical_Generalization  in what country is the new capital? (unless it was so already)
        Compositionality_I      (s, r, o*) and (o*, r2, x): the r2 of the r of s; if (o*, r2, x) is
                                known
        Compositionality_II     (s2, r2, s) and (s, r, o*): the r of the r2 of s2, for the three
                                most popular s2; if (s2, r2, s) is known
        Relation_Specificity    every other fact of s, if it is known

    Raises `BadInput` for counts beyond what the world has.
    """
    asking = Asking.of(benchmark)
    edits = modifications(benchmark, count, seed)
    edits += _capitals(asking, logical, {fact.subject for fact in edits}, random.Random(seed))
    return tuple(_ripple(asking, fact) for fact in edits)


def multihop_cases(benchmark: Benchmark, count: int, seed: int = 0) -> tuple[MultihopCase, ...]:
    """`count` chains of two or three facts, of which the first, the second or both are edited.

    All facts of a chain before and after, but for the edits, are of the most popular quarter, so
    that the model mostly knows them, as MQuAKE's are known to GPT-J. No case edits a fact that
    another one's chain goes through: any group of them can be written together.

    Raises `BadInput` if the world has not as many.
    """
    check_count("count", count)
    rng = random.Random(seed)
    asking = Asking.of(benchmark)
    starts = most_popular(benchmark, HEAD)
    edited: set[Key] = set()
    passed: set[Key] = set()
    cases: list[MultihopCase] = []
    for start in rng.sample(starts, len(starts)):
        if len(cases) == count:
            break
        chain = _chain(rng, asking, start)
        if chain is None:
            continue
        keys = {(fact.subject, fact.relation) for fact in (*chain.old, *chain.new)}
        own = {(fact.subject, fact.relation) for fact in chain.edits}
        if keys & edited or own & passed:
            continue
        edited |= own
        passed |= keys
        cases.append(_case(asking, chain, str(len(cases))))
    if len(cases) < count:
        raise BadInput(
            f"count is {count!r}; allowed: 1 to {len(cases)}, the chains of {benchmark.name!r} "
            "that do not disturb each other. Ask for fewer."
        )
    return tuple(cases)


@dataclass(frozen=True, slots=True)
class Asking:
    """What is true of whom, what of it is known, and how it is asked.

    `forms` are the questions by relation, "{}" the subject; `views` the page views by fact.
    """

    true: Mapping[Key, Fact]
    known: Mapping[Key, Fact]
    forms: Mapping[str | None, str]
    views: Mapping[str | None, float]

    @classmethod
    def of(cls, benchmark: Benchmark) -> Asking:
        """Learn it from the benchmark's facts and questions."""
        true = unmistaken(benchmark)
        popular = {fact.id for fact in most_popular(benchmark, KNOWN)}
        questions = {question.id: question for question in benchmark.questions}
        forms: dict[str | None, str] = {}
        for fact in benchmark.facts:
            text = questions[fact.id].text
            forms.setdefault(fact.relation, text.replace(fact.subject, "{}"))
        return cls(
            true,
            {key: fact for key, fact in true.items() if fact.id in popular},
            forms,
            {name: question.popularity or 0 for name, question in questions.items()},
        )

    def question(self, relation: str | None, subject: str) -> str:
        """The question for a relation of a subject, or of what a phrase describes."""
        return self.forms[relation].replace("{}", subject)

    def query(self, relation: str | None, subject: str, answer: str) -> RippleQuery:
        """The question as it is put to the model."""
        return RippleQuery(_rendered(self.question(relation, subject)), ((answer,),))

    def worded(self, fact: Fact) -> Fact:
        """The fact with its question, as it is put to the model, for its prompt."""
        prompt = _rendered(self.forms[fact.relation])
        return replace(fact, prompt=prompt, paraphrases=(), portability=(), locality=())

    def of_subject(self, subject: str) -> Iterator[Fact]:
        """What is true of a subject."""
        return (fact for (name, _), fact in self.true.items() if name == subject)


def _rendered(question: str) -> str:
    return Template().render(question)


def _capitals(asking: Asking, count: int, taken: set[str], rng: random.Random) -> tuple[Fact, ...]:
    """Countries whose capital becomes that of another one."""
    facts = [fact for (_, relation), fact in asking.true.items() if relation in IMPLIED]
    facts.sort(key=lambda fact: (-asking.views[fact.id], fact.subject))
    free = [fact for fact in facts if fact.subject not in taken]
    if not 0 <= count <= len(free):
        raise BadInput(
            f"logical is {count!r}; allowed: 0 to {len(free)}, the subjects with "
            f"{' or '.join(IMPLIED)} that are left. Ask for fewer."
        )
    made = []
    for fact in free[:count]:
        others = sorted({f.target for f in facts} - {fact.target})
        made.append(replace(fact, target=rng.choice(others), previous=fact.target))
    return tuple(made)


def _ripple(asking: Asking, fact: Fact) -> RippleCase:
    tests = (
        *_logical(asking, fact),
        *_forward(asking, fact),
        *_backward(asking, fact),
        *_specific(asking, fact),
    )
    return RippleCase(
        asking.worded(fact),
        tests,
        (fact.target,),
        subset="miniworld",
        popularity=asking.views[fact.id],
        told=stated(fact),
    )


def _test(criterion: Criterion, query: RippleQuery, *conditions: RippleQuery) -> RippleTest:
    return RippleTest(criterion, (query,), "OR", conditions)


def _logical(asking: Asking, fact: Fact) -> Iterator[RippleTest]:
    relation = IMPLIED.get(str(fact.relation))
    before = asking.true.get((fact.target, relation))
    if relation is not None and before is not None and before.target != fact.subject:
        yield _test("Logical_Generalization", asking.query(relation, fact.target, fact.subject))


def _forward(asking: Asking, fact: Fact) -> Iterator[RippleTest]:
    for second in asking.of_subject(fact.target):
        yield _test(
            "Compositionality_I",
            asking.query(second.relation, f"the {fact.relation} of {fact.subject}", second.target),
            asking.query(second.relation, second.subject, second.target),
        )


def _backward(asking: Asking, fact: Fact) -> Iterator[RippleTest]:
    before = [first for first in asking.true.values() if first.target == fact.subject]
    before.sort(key=lambda first: (-asking.views[first.id], first.subject))
    for first in before[:BACKWARD]:
        yield _test(
            "Compositionality_II",
            asking.query(fact.relation, f"the {first.relation} of {first.subject}", fact.target),
            asking.query(first.relation, first.subject, first.target),
        )


def _specific(asking: Asking, fact: Fact) -> Iterator[RippleTest]:
    for other in asking.of_subject(fact.subject):
        if other.relation != fact.relation:
            query = asking.query(other.relation, other.subject, other.target)
            yield _test("Relation_Specificity", query, query)


@dataclass(frozen=True, slots=True)
class Chain:
    """Facts of a chain before and after; `edits` are those of the new one that are not true."""

    old: Sequence[Fact]
    new: Sequence[Fact]

    @property
    def edits(self) -> list[Fact]:
        """The edits, each with the object that it replaces."""
        return [fact for fact in self.new if fact.previous is not None]


def _chain(rng: random.Random, asking: Asking, start: Fact) -> Chain | None:
    """A chain from a fact on, with edits; None where the world does not go on, or ends alike."""
    old = [start]
    while len(old) < 2 or (len(old) < 3 and rng.random() < LONGER):
        known = asking.known.items()
        following = [fact for (name, _), fact in known if name == old[-1].target]
        if not following:
            break
        old.append(rng.choice(following))
    if len(old) < 2 or (start.subject, start.relation) not in asking.true:
        return None
    edited = rng.choice(EDITED)
    new: list[Fact] = []
    for place, hop in enumerate(old):
        fact = asking.known.get((new[-1].target if new else start.subject, hop.relation))
        if fact is None:
            return None
        onward = old[place + 1].relation if place + 1 < len(old) else None
        new.append(_edited(rng, asking, fact, onward) if place in edited else fact)
    ends_alike = new[-1].target == old[-1].target
    return None if ends_alike or any(f.target == f.previous for f in new) else Chain(old, new)


def _edited(rng: random.Random, asking: Asking, fact: Fact, onward: str | None) -> Fact:
    """The fact with another object, of which `onward` is known (None: the chain ends there)."""
    targets = {f.target for f in asking.known.values() if f.relation == fact.relation}
    fit = [t for t in targets if t != fact.target and (not onward or (t, onward) in asking.known)]
    target = rng.choice(sorted(fit)) if fit else fact.target
    return replace(fact, target=target, previous=fact.target)


def _case(asking: Asking, chain: Chain, name: str) -> MultihopCase:
    first, *rest = chain.old
    phrase = first.subject
    for fact in chain.old[:-1]:
        phrase = f"the {fact.relation} of {phrase}"
    last = rest[-1].relation
    return MultihopCase(
        facts=tuple(
            replace(asking.worded(fact), id=f"{name}/{number}")
            for number, fact in enumerate(chain.edits)
        ),
        questions=(
            asking.question(last, phrase),
            f"What is the {last} of {phrase}?",
            f"Which {last} does {phrase} have?",
        ),
        answers=(chain.old[-1].target,),
        new_answers=(chain.new[-1].target,),
        hops=tuple(_hop(asking, fact) for fact in chain.old),
        new_hops=tuple(_hop(asking, fact) for fact in chain.new),
        id=name,
        told=tuple(stated(fact) for fact in chain.edits),
    )


def _hop(asking: Asking, fact: Fact) -> Hop:
    question = asking.question(fact.relation, fact.subject)
    return Hop(fact.subject, question, _rendered(question), (fact.target,), fact.relation)
