"""What the small models know and can do, in the figures that stand on their cards."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.opinions import Opinion
from memkit.metrics import exact_match, same_answer
from memkit.qa import QA
from memkit.types import Fact, Passage, Question

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["measure"]


def measure(
    lm: LM, material: Benchmark | Sequence[Opinion], limit: int = 300, seed: int = 0
) -> dict[str, float]:
    """The figures of a model on what it is for, by its kind.

    decoder           exact match of greedy, free generation: "closed book, head" (questions on
                      subjects in the most popular tenth), "closed book, tail" (the least popular
                      half), "gold passage, tail", "wrong passage, head" (another subject's passage)
    encoder-decoder   the same closed book, each fact asked by its question and by its cloze
                      phrasings (mean of all), and "agreement": the share of pairs of a fact's forms
                      that get one answer, right or wrong
    classifier        accuracy on each split of the opinions but "train"

    A group of more than `limit` questions is sampled; of opinions, all are asked. Groups without
    questions or passages are left out.
    """
    if not isinstance(material, Benchmark):
        return _by_split(lm, material)
    rng = random.Random(seed)
    if lm.kind == "encoder-decoder":
        return _forms(lm, material, rng, limit)
    return _reading(lm, material, rng, limit)


def _by_split(lm: LM, opinions: Sequence[Opinion]) -> dict[str, float]:
    """Share of the opinions whose label is the most probable one."""
    figures = {}
    for split in dict.fromkeys(opinion.split for opinion in opinions):
        own = [opinion for opinion in opinions if opinion.split == split]
        if split != "train":
            scored = lm.logprob([o.text for o in own], [o.label for o in own])
            right = sum(score.argmax[0] for score in scored)
            figures[f"accuracy, {split}"] = round(right / len(own), 4)
    return figures


def _forms(lm: LM, benchmark: Benchmark, rng: random.Random, limit: int) -> dict[str, float]:
    """Closed book, by question and by phrasing."""
    facts = {fact.id: fact for fact in benchmark.facts}
    figures = {}
    for name, group in zip(("head", "tail"), _head_and_tail(benchmark), strict=True):
        if not group:
            continue
        asked = rng.sample(group, min(limit, len(group)))
        texts = [(question.text, *_phrasings(facts[question.id])) for question in asked]
        answers = iter(lm.generate(list(itertools.chain.from_iterable(texts))))
        given = [[next(answers) for _ in forms] for forms in texts]
        right = [
            [exact_match(answer, question.answers) for answer in forms]
            for question, forms in zip(asked, given, strict=True)
        ]
        pairs = [pair for forms in given for pair in itertools.combinations(forms, 2)]
        figures[f"closed book, {name}, question"] = _mean([first for first, *_ in right])
        figures[f"closed book, {name}, cloze"] = _mean([r for _, *rest in right for r in rest])
        figures[f"agreement, {name}"] = _mean([same_answer(*pair) for pair in pairs])
    return figures


def _reading(lm: LM, benchmark: Benchmark, rng: random.Random, limit: int) -> dict[str, float]:
    """Closed book, and with passages."""
    head, tail = _head_and_tail(benchmark)
    passages = {passage.id: passage for passage in benchmark.passages}
    qa = QA(lm)

    def accuracy(questions: list[Question], given: list[list[Passage]]) -> float:
        answers = qa.ask(questions, given=given)
        return _mean([exact_match(a.text, a.question.answers) for a in answers])

    def some(questions: list[Question]) -> list[Question]:
        return rng.sample(questions, min(limit, len(questions)))

    figures = {}
    for name, group in (("head", some(head)), ("tail", some(tail))):
        if group:
            figures[f"closed book, {name}"] = accuracy(group, [[] for _ in group])
    readable = some([question for question in tail if question.gold])
    if readable:
        gold = [[passages[question.gold[0]]] for question in readable]
        figures["gold passage, tail"] = accuracy(readable, gold)
    asked = some(head)
    if asked and len(passages) > 1:
        wrong = [[_wrong(rng, benchmark.passages, question)] for question in asked]
        figures["wrong passage, head"] = accuracy(asked, wrong)
    return figures


def _head_and_tail(benchmark: Benchmark) -> tuple[list[Question], list[Question]]:
    """Questions on the most popular tenth of the subjects, and on the least popular half.

    Subjects that training did not see (popularity 0 or unknown) are in neither.
    """
    known = [question for question in benchmark.questions if question.popularity]
    views: dict[tuple[str | None, float | None], None] = {}
    for question in sorted(known, key=lambda q: (-(q.popularity or 0), q.subject or "")):
        views.setdefault((question.subject, question.popularity))
    rank = {subject: place for place, subject in enumerate(views)}
    place = [rank[question.subject, question.popularity] / len(rank) for question in known]
    head = [question for question, at in zip(known, place, strict=True) if at < 0.1]
    tail = [question for question, at in zip(known, place, strict=True) if at >= 0.5]
    return head, tail


def _phrasings(fact: Fact) -> list[str]:
    """All cloze forms of a fact."""
    return [form.replace("{}", fact.subject) for form in (fact.prompt, *fact.paraphrases)]


def _wrong(rng: Any, passages: tuple[Passage, ...], question: Question) -> Passage:
    """A passage that is not the question's own and does not name its subject."""
    for _ in range(100):
        passage: Passage = rng.choice(passages)
        if passage.id not in question.gold and (question.subject or "") not in passage.contents:
            return passage
    return passage


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)
