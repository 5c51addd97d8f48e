"""What may stand before a probe, and how a definition becomes a fact that an editor can write."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from memkit.benchmarks.probes import END, GAP, Cloze, EntityProbe
from memkit.errors import BadInput
from memkit.routing.base import Router
from memkit.types import Fact, Question

if TYPE_CHECKING:
    from memkit.lm.layouts import Kind
    from memkit.retrieval.base import Retriever

__all__ = [
    "Definition",
    "Prompting",
    "RandomDefinition",
    "Retrieved",
    "Routed",
    "fact_of",
    "query",
]

PARENTHESES = re.compile(r"\s*\([^()]*\)$")


@runtime_checkable
class Prompting(Protocol):
    """Puts a text before each probe, or none: what stands beside editors in the table."""

    def before(self, probes: Sequence[EntityProbe]) -> list[str]:
        """The text before each probe, "" for none."""
        ...


@dataclass(frozen=True, slots=True)
class Definition:
    """The entity's own definition before the probe: what knowing it is worth."""

    def before(self, probes: Sequence[EntityProbe]) -> list[str]:
        """Each probe's own."""
        return [probe.definition.text for probe in probes]


@dataclass(frozen=True, slots=True)
class RandomDefinition:
    """The definition of another entity: what any definition at all is worth.

    definitions: what is drawn from, with `seed`; a probe never gets its own.

    Raises `BadInput` if there are not two.
    """

    definitions: Sequence[str]
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that there is always another one."""
        if len(set(self.definitions)) < 2:
            raise BadInput(
                f"RandomDefinition has {len(set(self.definitions))} different definitions; "
                "allowed: at least 2, so that another one can be drawn. Give it more."
            )

    def before(self, probes: Sequence[EntityProbe]) -> list[str]:
        """One that is not the probe's own."""
        rng = random.Random(self.seed)
        pool = list(dict.fromkeys(self.definitions))
        drawn = []
        for probe in probes:
            while (text := rng.choice(pool)) == probe.definition.text:
                pass
            drawn.append(text)
        return drawn


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What a retriever finds for the probe, its span left out: `k` passages, or none."""

    retriever: Retriever
    k: int = 1

    def before(self, probes: Sequence[EntityProbe]) -> list[str]:
        """The texts of the passages, joined by spaces."""
        found = self.retriever.search([query(probe) for probe in probes], self.k)
        return [" ".join(hit.passage.text for hit in hits) for hits in found]


@dataclass(frozen=True, slots=True)
class Routed:
    """`Retrieved` where a router says so; anything else leaves the probe bare.

    The router is asked the probe without its span, with its entity and its popularity.
    """

    router: Router
    retriever: Retriever
    k: int = 1

    def before(self, probes: Sequence[EntityProbe]) -> list[str]:
        """What is retrieved for the probes that are sent there."""
        asked = (
            Question(query(probe), subject=probe.entity, popularity=probe.popularity)
            for probe in probes
        )
        sent = [self.router.decide(question).source == "retrieval" for question in asked]
        wanted = [probe for probe, there in zip(probes, sent, strict=True) if there]
        texts = iter(Retrieved(self.retriever, self.k).before(wanted))
        return [next(texts) if there else "" for there in sent]


def query(probe: EntityProbe) -> str:
    """The probe without its span, as a retriever is asked."""
    return " ".join(f"{probe.cloze.left} {probe.cloze.right}".split())


def fact_of(kind: Kind, entity: str, definition: Cloze) -> Fact:
    """A definition as the fact that an editor writes.

    decoder           the span after what stands left of it
    encoder-decoder   "<extra_id_0> span <extra_id_1>" after the masked definition

    Where no span is masked, or a decoder's has nothing before it, the last word is the span. The
    subject is the entity's name as the prompt spells it: in full, without a final "(2020)", or the
    longest run of its words that has a long capitalised one; where the prompt has none of these,
    all of it is the subject, so that an editor that looks at the subject's last token looks at the
    prompt's. `definition` is the whole text.

    Raises `BadInput` for a definition of one word.
    """
    whole = definition.text
    if not definition.span or (kind == "decoder" and not definition.left.strip()):
        before, _, last = definition.text.rstrip().rpartition(" ")
        definition = Cloze(f"{before} ", last)
    if kind == "decoder":
        prompt, target = definition.left.rstrip(), definition.span
    else:
        prompt, target = definition.masked, f"{GAP} {definition.span} {END}"
    if not prompt:
        raise BadInput(
            f"the definition of {entity!r} is {whole!r}; allowed: two words or more. "
            "Give it a sentence."
        )
    return Fact(
        subject=_subject(entity, prompt),
        prompt=prompt,
        target=target.strip(),
        definition=definition.text,
    )


def _subject(entity: str, prompt: str) -> str:
    """The entity's name as it stands in the prompt, or the prompt."""
    words = PARENTHESES.sub("", entity).split()
    lengths = range(len(words), 0, -1)
    runs = (words[i : i + n] for n in lengths for i in range(len(words) - n + 1))
    telling = (" ".join(run) for run in runs if any(w[0].isupper() and len(w) > 3 for w in run))
    for name in (entity, PARENTHESES.sub("", entity), *telling):
        match = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", prompt, re.IGNORECASE)
        if match:
            return match[0]
    return prompt
