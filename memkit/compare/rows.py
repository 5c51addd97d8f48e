"""The rows of a comparison: what is asked of every memory, and the facts that are written."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from memkit import benchmarks
from memkit.benchmarks.base import Benchmark
from memkit.compare.spec import EditsSpec, Spec, near
from memkit.errors import BadInput
from memkit.showcase import sample
from memkit.types import Fact, Question
from memkit.world import modifications

__all__ = ["Block", "Row", "Rows", "digest", "rows"]


@dataclass(frozen=True, slots=True)
class Row:
    """One question, under an id that is its own within the benchmark and the seed.

    `role` is what it is there for, see `memkit.compare.spec`; `fact` the number of the fact that it
    is about, None for a question about none.
    """

    id: str
    role: str
    question: Question
    fact: int | None = None

    @property
    def cloze(self) -> bool:
        """Whether it is a prompt to go on from, and no question."""
        return self.role not in ("question", "asked")


@dataclass(frozen=True, slots=True)
class Block:
    """Facts that are in the model together, by number, and the rows that are asked then."""

    number: int
    facts: tuple[int, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Rows:
    """All rows of a benchmark under a seed, with what they rest on.

    `fit` are questions on other subjects, which routers are fitted on.
    """

    benchmark: Benchmark
    seed: int
    facts: tuple[Fact, ...]
    rows: tuple[Row, ...]
    fit: tuple[Question, ...]

    @cached_property
    def sha256(self) -> str:
        """Of all that an answer can depend on."""
        return digest([self.asked_sha256, self.fit_sha256, self.corpus_sha256])

    @cached_property
    def asked_sha256(self) -> str:
        """Of rows and facts."""
        return digest([[asdict(row) for row in self.rows], [asdict(fact) for fact in self.facts]])

    @cached_property
    def fit_sha256(self) -> str:
        """Of what routers are fitted on."""
        return digest([asdict(question) for question in self.fit])

    @cached_property
    def corpus_sha256(self) -> str:
        """Of passages and definitions."""
        corpus = [(p.id, p.title, p.text) for p in self.benchmark.passages]
        return digest([corpus, dict(self.benchmark.definitions)])

    def blocks(self, count: int) -> Iterator[Block]:
        """The facts, `count` at a time, each block with the rows about them.

        Questions about no fact are dealt among the blocks, so that each is asked once. A count of 0
        gives one block of no facts with all rows.
        """
        if count == 0:
            yield Block(0, (), self.rows)
            return
        numbers = range(len(self.facts))
        parts = [tuple(numbers[i : i + count]) for i in range(0, len(self.facts), count)]
        others = [row for row in self.rows if row.fact is None]
        for number, part in enumerate(parts):
            about = [row for row in self.rows if row.fact in part]
            yield Block(number, part, (*about, *others[number :: len(parts)]))


def rows(spec: Spec, name: str, seed: int) -> Rows:
    """The rows of the benchmark of that name in the specification.

    Raises `BadInput` for a benchmark that is not there, too few facts, or nothing to ask.
    """
    wanted = spec.benchmarks[name]
    path = None if wanted.path is None else spec.place(wanted.path)
    known = wanted.name or name
    if known not in benchmarks.BENCHMARKS:
        raise BadInput(f"no benchmark is named {known!r}; {near(known, benchmarks.BENCHMARKS)}")
    bench = benchmarks.load(known, path, wanted.split, wanted.limit)
    facts = _facts(bench, known, spec.edits, seed)
    subjects = {fact.subject for fact in facts}
    asked = list(_probes(bench, facts, spec.edits))
    free = [q for q in bench.questions if q.subject not in subjects and q.answers]
    chosen = _sampled(free, wanted.questions, seed)
    taken = subjects | {q.subject or q.text for q in chosen}
    rest = [q for q in free if (q.subject or q.text) not in taken]
    asked += [Row(f"question/{_id(q, i)}", "question", q) for i, q in enumerate(chosen)]
    if not asked:
        raise BadInput(
            f"there is nothing to ask: {len(bench.questions)} questions, "
            f"{len(facts)} facts to write; allowed: at least one row. Give it questions or [edits]."
        )
    return Rows(bench, seed, facts, tuple(asked), tuple(_sampled(rest, wanted.fit, seed)))


def digest(value: Any) -> str:
    """SHA-256 of a value's JSON with sorted keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _facts(bench: Benchmark, known: str, edits: EditsSpec | None, seed: int) -> tuple[Fact, ...]:
    """The facts that are written: of a world, what it knows, changed; else the benchmark's own."""
    if edits is None or not bench.facts:
        return ()
    if known == "miniworld":
        return modifications(bench, edits.facts, seed)
    one = list({fact.subject: fact for fact in bench.facts}.values())
    if len(one) < edits.facts:
        raise BadInput(
            f"edits.facts is {edits.facts}; allowed: 1 to {len(one)}, the facts about different "
            f"subjects that it has. Ask for fewer, or take more of the benchmark."
        )
    return tuple(random.Random(seed).sample(one, edits.facts))


def _probes(bench: Benchmark, facts: Sequence[Fact], edits: EditsSpec | None) -> Iterator[Row]:
    """The rows about each fact; what another fact writes is not asked as what must stay."""
    if edits is None:
        return
    asked = {q.id: q for q in bench.questions if q.id is not None}
    about = {fact.text: asked[fact.id] for fact in bench.facts if fact.id in asked}
    written = {text for fact in facts for text in _wordings(fact)}
    for number, fact in enumerate(facts):
        base = asked.get(fact.id) if fact.id is not None else None
        stays = [pair for pair in fact.locality if pair[0] not in written]
        pairs = {
            "asked": [] if base is None else [(base.text, fact.target)],
            "reliability": [(fact.text, fact.target)],
            "generalisation": [(text, fact.target) for text in _wordings(fact)[1:]],
            "portability": fact.portability,
            "locality": stays,
        }
        for role in edits.probes:
            for i, (text, answer) in enumerate(pairs.get(role, ())):
                known = about.get(text) if role == "locality" else base
                question = _question(fact, known, role, text, answer)
                yield Row(f"fact/{number}/{role}/{i}", role, question, number)


def _question(fact: Fact, known: Question | None, role: str, text: str, answer: str) -> Question:
    """A probe as a question, with what the benchmark's own question of the same says of it."""
    gold = known.gold if known is not None and role != "portability" else ()
    views = None if known is None else known.popularity
    if role != "locality":
        return Question(text, (answer,), fact.subject, fact.relation, views, gold, fact.id)
    subject, relation = (None, None) if known is None else (known.subject, known.relation)
    return Question(text, (answer,), subject, relation, views, gold, fact.id)


def _wordings(fact: Fact) -> list[str]:
    return [fact.text, *(text.replace("{}", fact.subject) for text in fact.paraphrases)]


def _sampled(questions: Sequence[Question], size: int | None, seed: int) -> list[Question]:
    """A sample spread evenly over popularity, where it is known; all of them for None."""
    if size is None or size >= len(questions):
        return list(questions)
    known = [question for question in questions if question.popularity is not None]
    if len(known) >= size:
        return sample(known, size, seed) if size else []
    return random.Random(seed).sample(list(questions), size)


def _id(question: Question, place: int) -> str:
    return f"{place}/{question.id}" if question.id is not None else str(place)
