"""What benchmarks ask beyond a fact itself: ripples of an edit, chains of facts, cloze probes.

These are the `Benchmark.cases` of their loaders, and what `memkit.protocols` ripple, multihop and
probe take.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from memkit.errors import BadInput
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.benchmarks.base import Benchmark

__all__ = [
    "CRITERIA",
    "ClozeFact",
    "Criterion",
    "Hop",
    "MultihopCase",
    "RippleCase",
    "RippleQuery",
    "RippleTest",
    "checked",
    "clozes",
    "stated",
]

Criterion = Literal[
    "Logical_Generalization",
    "Compositionality_I",
    "Compositionality_II",
    "Subject_Aliasing",
    "Preservation",
    "Relation_Specificity",
]
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)


T = TypeVar("T")


def checked(cases: Iterable[Any], *kinds: type[T], source: str, name: str = "cases") -> list[T]:
    """What a protocol was given as `name`; `source` says who has such ("... has them").

    Raises `BadInput` if there is none, or something else among them.
    """
    found = list(cases)
    allowed = f"{' and '.join(kind.__name__ for kind in kinds)}, as {source}"
    if not found:
        raise BadInput(f"there are no {name}; allowed: at least one {allowed}. Pass some.")
    for case in found:
        if not isinstance(case, kinds):
            raise BadInput(f"{name} holds {case!r:.80}; allowed: {allowed}. Pass these.")
    return found


def stated(fact: Fact) -> str:
    """A fact as a sentence: its prompt, its target, a full stop."""
    return f"{fact.text.rstrip()} {fact.target.strip().removesuffix('.')}."


@dataclass(frozen=True, slots=True)
class RippleQuery:
    """A prompt, and what a right answer names: of each target one of its names.

    `targets` has a tuple of names for each target, the label first.

    Raises `BadInput` without a prompt, a target, or a name of one.
    """

    prompt: str
    targets: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        """Check that something is asked and something is right."""
        if not self.prompt.strip() or not self.targets or not all(self.targets):
            raise BadInput(
                f"a query asks {self.prompt!r} for {self.targets!r}; allowed: a prompt, and at "
                "least one target with a name each. Correct it, or leave it out."
            )


@dataclass(frozen=True, slots=True)
class RippleTest:
    """One test of a criterion.

    It is passed where one of its `queries` ("OR"), or all of them ("AND"), are answered. It counts
    only if the unedited model answers all of `conditions`.

    Raises `BadInput` without a query, for an unknown criterion or another `combine`.
    """

    criterion: Criterion
    queries: tuple[RippleQuery, ...]
    combine: Literal["OR", "AND"] = "OR"
    conditions: tuple[RippleQuery, ...] = ()

    def __post_init__(self) -> None:
        """Check criterion, queries and how they combine."""
        if self.criterion not in CRITERIA:
            raise BadInput(
                f"a test's criterion is {self.criterion!r}; allowed: {', '.join(CRITERIA)}. Choose "
                "one."
            )
        if not self.queries or self.combine not in ("OR", "AND"):
            raise BadInput(
                f"a test of {self.criterion} has {len(self.queries)} queries, combined by "
                f"{self.combine!r}; allowed: at least one, and 'OR' or 'AND'. Correct it."
            )


@dataclass(frozen=True, slots=True)
class RippleCase:
    """An edit with the tests of its ripples.

    `names` are those of the edit's target, the target itself first; `subset` is where the edit
    comes from, `popularity` the page views of its subject (None: unknown). `told` is the edit as a
    sentence, where that is not the fact's prompt with its target.
    """

    fact: Fact
    tests: tuple[RippleTest, ...]
    names: tuple[str, ...]
    subset: str = ""
    popularity: float | None = None
    told: str | None = None

    @property
    def query(self) -> RippleQuery:
        """The query for the edited fact itself."""
        return RippleQuery(self.fact.text, (self.names,))

    @property
    def statement(self) -> str:
        """The edit as a sentence."""
        return self.told or stated(self.fact)


@dataclass(frozen=True, slots=True)
class Hop:
    """One fact of a chain: `subject` stands in `question` and `cloze`; accepted answers.

    `relation` is a Wikidata id, or the world's name for it.
    """

    subject: str
    question: str
    cloze: str
    answers: tuple[str, ...]
    relation: str | None = None

    def asked_of(self, subject: str) -> str | None:
        """The question about another subject; None if the own one does not stand in it."""
        found = re.search(re.escape(self.subject), self.question, re.IGNORECASE)
        if found is None:
            return None
        return self.question[: found.start()] + subject + self.question[found.end() :]


@dataclass(frozen=True, slots=True)
class MultihopCase:
    """A chain of facts some of which are edited, and questions for its end.

    facts: the edits.
    questions: wordings of one multi-hop question.
    answers, new_answers: what is right before and after the edits, the label first.
    hops, new_hops: the chain before and after.
    told: the edits as sentences, where these are not the facts' prompts with their targets.

    Raises `BadInput` for a case without edits, questions, answers or hops, and where there are not
    as many sentences as edits.
    """

    facts: tuple[Fact, ...]
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    new_answers: tuple[str, ...]
    hops: tuple[Hop, ...]
    new_hops: tuple[Hop, ...]
    id: str | None = None
    told: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that no part is missing."""
        if self.told and len(self.told) != len(self.facts):
            raise BadInput(
                f"the multi-hop case {self.id!r} has {len(self.facts)} edits and {len(self.told)} "
                "sentences; allowed: as many, or none. Give each edit its sentence."
            )
        for name in ("facts", "questions", "answers", "new_answers", "hops", "new_hops"):
            if not getattr(self, name):
                raise BadInput(
                    f"the multi-hop case {self.id!r} has no {name}; allowed: at least one. "
                    "Leave the case out."
                )

    @property
    def statements(self) -> tuple[str, ...]:
        """The edits as sentences."""
        return self.told or tuple(stated(fact) for fact in self.facts)


@dataclass(frozen=True, slots=True)
class ClozeFact:
    """A fact as a sentence with a gap: "[X]" is the subject, "[Y]" the object.

    `kind` is the relation's type, "1-1", "N-1" or "N-M", None where it is not known.

    Raises `BadInput` for a template without "[Y]".
    """

    subject: str
    object: str
    template: str
    relation: str
    kind: str | None = None
    popularity: float | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        """Check the template's gap."""
        if self.template.count("[Y]") != 1:
            raise BadInput(
                f"the template {self.template!r} has '[Y]' {self.template.count('[Y]')} times; "
                "allowed: once, where the object goes. Correct it."
            )

    @classmethod
    def of(cls, fact: Fact, popularity: float | None = None) -> ClozeFact:
        """A fact whose prompt ends where its object begins."""
        prompt = fact.prompt if "{}" in fact.prompt else fact.prompt.replace(fact.subject, "{}", 1)
        return cls(
            fact.subject,
            fact.target,
            f"{prompt.replace('{}', '[X]')} [Y]",
            fact.relation or "",
            popularity=popularity,
            id=fact.id,
        )

    @property
    def around(self) -> tuple[str, str]:
        """What stands before and after the gap, with the subject in place."""
        before, after = self.template.split("[Y]")
        return before.replace("[X]", self.subject), after.replace("[X]", self.subject)


def clozes(benchmark: Benchmark) -> tuple[ClozeFact, ...]:
    """The cloze facts of a benchmark: its cases, or its facts with their questions' popularity.

    Raises `BadInput` if it has neither.
    """
    own = tuple(case for case in benchmark.cases if isinstance(case, ClozeFact))
    if own:
        return own
    views = {question.id: question.popularity for question in benchmark.questions}
    if not benchmark.facts:
        raise BadInput(
            f"{benchmark.name!r} has no facts; allowed: a benchmark with some, or of cloze facts. "
            "Choose another one."
        )
    return tuple(ClozeFact.of(fact, views.get(fact.id)) for fact in benchmark.facts)
