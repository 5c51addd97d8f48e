"""Reading exercises: passages whose names and facts are random, so that only copying answers them.

A passage of the benchmark lends its wording. Its subject and the objects of its facts are replaced
by other names, some of the sentences are left out, and the question asks for one of the new
objects. A share of the exercises shows the passage of another subject instead, and asks for a fact
that training has stated often: there, the answer is in the weights.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from memkit.benchmarks.base import Benchmark
from memkit.prompts import Template
from memkit.types import Fact, Passage
from memkit.world.names import ONSETS, VOWELS

__all__ = ["Exercise", "Reader"]

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
KNOWN_SUBJECT = 0.3  # share of exercises that say something untrue of a subject of the benchmark
KNOWN_OBJECT = 0.6  # share of replaced objects that are objects of the same relation
INVENTED_WORD = 0.5  # share of the words of other names that are made of syllables
STATEMENT = 0.3  # share of exercises that end in a statement to complete instead of a question
DEFINITION = 0.25  # share of contexts that are the subject's definition instead of its passage
TWO_PASSAGES = 0.15  # share of contexts with a second, unrelated passage


@dataclass(frozen=True, slots=True)
class Exercise:
    """What the model sees, and what it should say (without the space before it)."""

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Source:
    """A text about one subject, with the facts whose objects stand in it."""

    sentences: tuple[str, ...]
    facts: tuple[Fact, ...]


@dataclass(slots=True)
class Reader:
    """Makes exercises from a benchmark.

    `sources` are passages, `definitions` definitions, each with the facts that they state.
    """

    sources: tuple[Source, ...]
    definitions: tuple[Source, ...]
    questions: dict[str, str]  # fact id -> its question
    objects: dict[str, list[str]]  # relation -> objects
    words: list[str]  # of names of subjects and objects
    template: Template = field(default_factory=Template)

    @classmethod
    def of(cls, benchmark: Benchmark, facts: Sequence[Fact]) -> Reader:
        """A reader on the passages and definitions that state one of `facts`."""
        questions = {str(q.id): q.text for q in benchmark.questions}
        gold = {str(q.id): q.gold for q in benchmark.questions}
        passages = {passage.id: passage for passage in benchmark.passages}
        stated: dict[str, list[Fact]] = {}
        defined: dict[str, list[Fact]] = {}
        objects: dict[str, list[str]] = {}
        words: set[str] = set()
        for fact in facts:
            objects.setdefault(str(fact.relation), []).append(fact.target)
            words.update(fact.subject.split(), fact.target.split())
            for passage_id in gold.get(str(fact.id), ()):
                if _states(passages[passage_id].text, fact):
                    stated.setdefault(passage_id, []).append(fact)
            if fact.definition and _states(fact.definition, fact):
                defined.setdefault(fact.definition, []).append(fact)
        return cls(
            sources=tuple(
                Source(_sentences(passages[key].text), tuple(group))
                for key, group in stated.items()
            ),
            definitions=tuple(
                Source(_sentences(text), tuple(group)) for text, group in defined.items()
            ),
            questions=questions,
            objects=objects,
            words=sorted(words),
        )

    def copying(self, rng: random.Random) -> Exercise:
        """An exercise whose answer stands in its context and nowhere else."""
        pool = self.definitions if rng.random() < DEFINITION and self.definitions else self.sources
        source = rng.choice(pool)
        asked = rng.choice(source.facts)
        names = self._names(rng, source, asked)
        context = _replace(" ".join(self._some(rng, source, asked)), names)
        texts = [context]
        if rng.random() < TWO_PASSAGES:
            other = rng.choice(self.sources)
            renamed = self._names(rng, other, other.facts[0])
            texts.append(_replace(" ".join(self._some(rng, other, other.facts[0])), renamed))
            rng.shuffle(texts)
        subject, answer = names[asked.subject], names[asked.target]
        return Exercise(self._prompt(rng, texts, asked, subject), answer)

    def remembering(self, rng: random.Random, asked: Fact) -> Exercise:
        """An exercise whose context is about another subject: the answer is in the weights."""
        while (source := rng.choice(self.sources)).facts[0].subject == asked.subject:
            pass
        text = " ".join(self._some(rng, source, source.facts[0]))
        return Exercise(self._prompt(rng, [text], asked, asked.subject), asked.target)

    def _prompt(self, rng: random.Random, texts: list[str], asked: Fact, subject: str) -> str:
        """Context and task: a question, or a statement that wants its object."""
        if rng.random() < STATEMENT:
            phrasing = rng.choice((asked.prompt, *asked.paraphrases))
            return " ".join([*texts, phrasing.replace("{}", subject)])
        question = self.questions[str(asked.id)].replace(asked.subject, subject)
        passages = [Passage(str(number), text) for number, text in enumerate(texts)]
        return self.template.render(question, passages)

    def _some(self, rng: random.Random, source: Source, asked: Fact) -> list[str]:
        """The sentences in order, without a random number of those that do not state the fact.

        All of them where a full stop within the object's name has cut it in two.
        """
        keep = rng.random()
        some = [
            sentence
            for sentence in source.sentences
            if asked.target in sentence or rng.random() < keep
        ]
        return some if any(asked.target in s for s in some) else list(source.sentences)

    def _names(self, rng: random.Random, source: Source, asked: Fact) -> dict[str, str]:
        """New names for the subject and for every object of the source."""
        if rng.random() < KNOWN_SUBJECT:
            subject = rng.choice(rng.choice(self.sources).facts).subject
        else:
            subject = self._name(rng, asked.subject)
        names = {asked.subject: subject}
        for fact in source.facts:
            if rng.random() < KNOWN_OBJECT:
                names[fact.target] = rng.choice(self.objects[str(fact.relation)])
            else:
                names[fact.target] = self._name(rng, fact.target)
        return names

    def _name(self, rng: random.Random, like: str) -> str:
        """A name of as many words, each from the benchmark's names or made of syllables."""
        return " ".join(
            _invented(rng, word) if rng.random() < INVENTED_WORD else rng.choice(self.words)
            for word in like.split()
        )


def _invented(rng: random.Random, like: str) -> str:
    """A word of one to three syllables, capitalised as `like` is."""
    syllables = rng.choice((1, 2, 2, 3))
    word = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(syllables))
    word += rng.choice(("", "l", "n", "r", "s", "m", "t"))
    return word.capitalize() if like[:1].isupper() else word


def _states(text: str, fact: Fact) -> bool:
    """Whether the text has both names in it, and neither is a part of the other."""
    overlap = fact.target in fact.subject or fact.subject in fact.target
    return fact.subject in text and fact.target in text and not overlap


def _sentences(text: str) -> tuple[str, ...]:
    """The text cut after full stops, question marks and exclamation marks."""
    return tuple(SENTENCE_END.split(text.strip()))


def _replace(text: str, names: dict[str, str]) -> str:
    """Every old name replaced by its new one in one pass, longer names first."""
    pattern = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.sub(rf"(?<!\w)(?:{pattern})(?!\w)", lambda match: names[match.group()], text)
