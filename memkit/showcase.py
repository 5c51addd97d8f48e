"""The miniature world, ready to ask, and what happens when its questions go down every road.

Invented entities and a model trained on them by construction show, in a minute and offline, what
Mallen et al. (ACL 2023) saw in large models: weights are right for popular subjects, text is right
for rare ones. A router by popularity takes each where it is right; whether that gains anything over
the better road is measured, and printed with its interval.
"""

from __future__ import annotations

import itertools
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memkit.benchmarks import miniworld
from memkit.benchmarks.base import Benchmark
from memkit.errors import BadInput, MissingDependency
from memkit.metrics import exact_match
from memkit.protocols.arms import outcomes
from memkit.protocols.popularity import PopularityReport, popularity
from memkit.qa import QA
from memkit.routing.popularity import PopularityRouter
from memkit.routing.table import PopularityTable
from memkit.types import Answer, Passage, Question

if TYPE_CHECKING:
    import os

    from memkit.retrieval.base import Retriever

__all__ = ["Demonstration", "demo", "fit_router", "measure", "opened", "sample"]

FITTING = 200  # questions that the router of `demo` is fitted on
CLOSED, BM25_ARM, DENSE, GOLD, RANDOM = (
    "closed book",
    "BM25",
    "dense",
    "gold passage",
    "random passage",
)

Announce = Callable[[str], None]


def demo(folder: str | os.PathLike[str] | None = None) -> QA:
    """QA on the miniature world (or on another world's folder), offline, in seconds.

    The model that the world ships, BM25 over its passages, and a popularity router that was fitted
    on some of its questions, asked on both roads, and knows the page views of all their subjects.

    Raises `BadInput` for a folder that is no world or has no model.
    """
    world, qa = opened(folder)
    known = sample(world.questions, FITTING, seed=0)
    return replace(qa, router=fit_router(qa, known, _views(world)))


def opened(folder: str | os.PathLike[str] | None = None) -> tuple[Benchmark, QA]:
    """The known part of a world, and a QA of its model and BM25 over its passages, no router.

    Raises `BadInput` for a folder that is no world or has no model.
    """
    from memkit.lm.model import LM
    from memkit.retrieval.bm25 import BM25

    place = miniworld.shipped() if folder is None else Path(folder)
    world = miniworld.load(folder)
    lm = LM.load(place / "model")
    return world, QA(lm, BM25.build(world.passages))


def fit_router(
    qa: QA, questions: Sequence[Question], popularity: PopularityTable | None = None
) -> PopularityRouter:
    """A popularity router, fitted on how `qa` answers the questions with and without text.

    Raises `BadInput` if a question has no accepted answers, or no popularity is known.
    """
    known = outcomes(replace(qa, retriever=None, router=None).ask(questions), _fed(qa, questions))
    return PopularityRouter(popularity).fit(known)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What `measure` found.

    `report` has a row for each arm; `missing` says what to install for an arm that could not run;
    `worked` are answers of the router's own QA, each under a caption; `about` says what was run.
    """

    report: PopularityReport
    missing: Mapping[str, str]
    worked: tuple[tuple[str, Answer], ...]
    about: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        worked = [{"caption": caption, **answer.to_dict()} for caption, answer in self.worked]
        return {**asdict(self), "worked": worked}


def measure(
    folder: str | os.PathLike[str] | None = None,
    questions: int = 240,
    seed: int = 0,
    announce: Announce = lambda step: None,
) -> Demonstration:
    """Ask a sample of a world's questions on every road; `announce` is told each step.

    `questions` is the size of the sample, spread evenly over popularity; `seed` draws it, and the
    random passages.

    Raises `BadInput` for a folder that is no world or has no model, and for fewer than 20
    questions.
    """
    if questions < 20:
        raise BadInput(
            f"questions is {questions!r}; allowed: at least 20, two for each tenth. Ask for more."
        )
    start = time.perf_counter()
    announce("opening the world: model, passages, BM25")
    world, qa = opened(folder)
    asked = sample(world.questions, questions, seed)
    arms, missing = _arms(qa, world, asked, random.Random(seed), announce)
    announce("scoring, and fitting the router")
    report = popularity(arms, weights=CLOSED, retrieval=BM25_ARM, seed=seed)
    router = PopularityRouter(_views(world)).fit(outcomes(arms[CLOSED], arms[BM25_ARM]))
    routed = replace(qa, router=router)
    worked = _worked(routed, arms[CLOSED], arms[BM25_ARM], _new(folder))
    about = {
        "world": f"{world.name}: {len(world.questions):,} questions, {len(world.passages):,} "
        "passages",
        "asked": f"{len(asked):,} questions, spread evenly over popularity",
        "model": _describe(qa.lm),
        "BM25": f"engine {getattr(qa.retriever, 'engine', 'unknown')}",
        "seconds": f"{time.perf_counter() - start:.0f}",
    }
    return Demonstration(report, missing, tuple(worked), about)


def sample(questions: Sequence[Question], size: int, seed: int) -> list[Question]:
    """`size` questions spread evenly over popularity, rarest first: one from each stretch.

    All of them, in that order, if there are no more; those of unknown popularity are left out.
    """
    known = [question for question in questions if question.popularity is not None]
    ordered = sorted(known, key=lambda question: (question.popularity, question.id or ""))
    if size >= len(ordered):
        return ordered
    rng = random.Random(seed)
    edges = [len(ordered) * place // size for place in range(size + 1)]
    return [ordered[rng.randrange(low, high)] for low, high in itertools.pairwise(edges)]


def _views(world: Benchmark) -> PopularityTable:
    """The page views of all subjects; counts in the passages for names without any."""
    return PopularityTable.from_questions(world.questions).with_corpus(world.passages)


def _new(folder: str | os.PathLike[str] | None) -> tuple[Question, ...]:
    return miniworld.load(folder, split="new").questions


def _fed(qa: QA, questions: Sequence[Question]) -> list[Answer]:
    """Answers that always retrieve."""
    return replace(qa, router=None).ask(questions)


def _arms(
    qa: QA, world: Benchmark, asked: Sequence[Question], rng: random.Random, announce: Announce
) -> tuple[dict[str, list[Answer]], dict[str, str]]:
    """The answers of every arm that can run, and what the others lack."""
    passages = {passage.id: passage for passage in world.passages}
    alone = replace(qa, retriever=None, router=None)
    qa.ask(asked[0])  # what happens only once, such as starting threads, is not timed
    arms, missing = {}, {}
    announce("asking from the weights, and with BM25")
    arms[CLOSED] = alone.ask(asked)
    arms[BM25_ARM] = _fed(qa, asked)
    announce("encoding the passages for dense retrieval")
    with tempfile.TemporaryDirectory(prefix="memkit-demo-") as folder:
        try:
            index = _dense(world, Path(folder) / "dense")
            arms[DENSE] = _fed(replace(qa, retriever=index), asked)
        except MissingDependency as error:
            missing[DENSE] = str(error)
    announce("asking with the gold passage, and with a random one")
    gold = [[passages[id] for id in question.gold[:1]] for question in asked]
    wrong = [[_random_passage(rng, world.passages, question)] for question in asked]
    arms[GOLD] = alone.ask(asked, given=gold)
    arms[RANDOM] = alone.ask(asked, given=wrong)
    return arms, missing


def _dense(world: Benchmark, path: Path) -> Retriever:
    from memkit.retrieval.dense import Dense

    index = Dense.build(world.passages, path, batch_size=8)
    index.query_batch_size = 32
    return index


def _random_passage(rng: random.Random, passages: Sequence[Passage], question: Question) -> Passage:
    """A passage that is not one of the question's own."""
    others = rng.sample(passages, min(len(passages), 9))
    own = set(question.gold)
    return next((passage for passage in others if passage.id not in own), others[0])


def _worked(
    qa: QA, closed: Sequence[Answer], fed: Sequence[Answer], new: Sequence[Question]
) -> list[tuple[str, Answer]]:
    """A popular subject, best where text misleads; a rare one, best where it helps; a new one."""
    bare = {answer.question: answer for answer in closed}
    text = {answer.question: answer for answer in fed}
    views = {question: question.popularity or 0 for question in bare}
    popular = [q for q in bare if _right(bare[q]) and _goes(qa, q, "weights")]
    rare = [q for q in text if _right(text[q]) and _goes(qa, q, "retrieval")]
    chosen = []
    if popular:
        question = max(popular, key=lambda q: (not _right(text[q]), views[q]))
        caption = f"A popular subject. With text the answer is {text[question].text!r}."
        chosen.append((caption, qa.ask(question)))
    if rare:
        question = max(rare, key=lambda q: (not _right(bare[q]), -views[q]))
        caption = f"A rare subject. From the weights the answer is {bare[question].text!r}."
        chosen.append((caption, qa.ask(question)))
    if new:
        plain = Question(new[0].text, answers=new[0].answers)
        alone = replace(qa, retriever=None, router=None).ask(plain)
        caption = (
            "A subject that training never mentioned, asked in plain words. From the weights the "
            f"answer is {alone.text!r}."
        )
        chosen.append((caption, qa.ask(plain)))
    return chosen


def _right(answer: Answer) -> bool:
    return exact_match(answer.text, answer.question.answers) == 1


def _goes(qa: QA, question: Question, source: str) -> bool:
    return qa.router is not None and qa.router.decide(question).source == source


def _describe(lm: Any) -> str:
    millions = sum(weight.numel() for weight in lm.model.parameters()) / 1e6
    return f"{lm.model.config.model_type}, {millions:.1f} M parameters, window {lm.window}"
