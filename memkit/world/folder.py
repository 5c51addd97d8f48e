"""A world on disk: questions, facts, passages and definitions, its model, and a card of both."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memkit.benchmarks.base import Benchmark
from memkit.files import building, sha256
from memkit.metrics import exact_match
from memkit.qa import QA
from memkit.types import Passage, Question
from memkit.world.text import trained_facts
from memkit.world.train import Recipe, train

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["make", "measure", "write"]

ROWS = ("questions", "facts", "passages")


def write(benchmark: Benchmark, folder: Path) -> None:
    """Write questions.jsonl, facts.jsonl, passages.jsonl and definitions.jsonl.

    Equal bytes for an equal benchmark. Fields that are empty are left out.
    """
    for name in ROWS:
        values: Iterable[Any] = getattr(benchmark, name)
        _write_rows(folder / f"{name}.jsonl", (dataclasses.asdict(value) for value in values))
    _write_rows(
        folder / "definitions.jsonl",
        (
            {"subject": subject, "definition": definition}
            for subject, definition in benchmark.definitions.items()
        ),
    )


def make(
    benchmark: Benchmark,
    out: str | os.PathLike[str],
    recipe: Recipe | None = None,
    *,
    origin: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> dict[str, Any]:
    """Train a model on a benchmark and write both to the folder `out`; returns the card.

    Weights are stored in half precision and measured as stored. `origin` goes into the card and
    says where the benchmark comes from (a seed, a file). The folder is whole or absent.

    Raises `BadInput` if `out` exists and `replace` is false, or nothing can be trained.
    """
    import torch
    import transformers

    from memkit.lm.model import LM

    recipe = recipe or Recipe()
    with building(out, replace=replace) as folder:
        start = time.perf_counter()
        model, tokenizer = train(benchmark, recipe)
        seconds = time.perf_counter() - start
        write(benchmark, folder)
        model.half().save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        card = {
            "name": benchmark.name,
            "origin": dict(origin or {}),
            "counts": {
                "questions": len(benchmark.questions),
                "facts stated in training": len(trained_facts(benchmark)),
                "passages": len(benchmark.passages),
                "definitions": len(benchmark.definitions),
                "parameters": sum(weight.numel() for weight in model.parameters()),
            },
            "recipe": dataclasses.asdict(recipe),
            "training seconds": round(seconds),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "measured": measure(LM.load(folder / "model", device="cpu"), benchmark),
            "sha256": {
                str(path.relative_to(folder)): sha256(path)
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            },
        }
        text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
        (folder / "card.json").write_text(text, encoding="utf-8")
    return card


def measure(lm: LM, benchmark: Benchmark, limit: int = 300, seed: int = 0) -> dict[str, float]:
    """What the model knows and what it can read: exact match of greedy, free generation.

    Keys: "closed book, head" (subjects in the most popular tenth), "closed book, tail" (the least
    popular half), "gold passage, tail", "wrong passage, head" (the passage of another subject). A
    group of more than `limit` questions is sampled. Groups without questions or passages are left
    out.
    """
    import random

    rng = random.Random(seed)
    head, tail = _head_and_tail(benchmark)
    passages = {passage.id: passage for passage in benchmark.passages}
    qa = QA(lm)

    def accuracy(questions: list[Question], given: list[list[Passage]]) -> float:
        answers = qa.ask(questions, given=given)
        right = (exact_match(answer.text, answer.question.answers) for answer in answers)
        return round(sum(right) / len(questions), 4)

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


def _wrong(rng: Any, passages: tuple[Passage, ...], question: Question) -> Passage:
    """A passage that is not the question's own and does not name its subject."""
    for _ in range(100):
        passage: Passage = rng.choice(passages)
        if passage.id not in question.gold and (question.subject or "") not in passage.contents:
            return passage
    return passage


def _write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines; values that are None or empty are left out (a popularity of 0 is not empty)."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            kept = {key: value for key, value in row.items() if value is not None and value != ()}
            file.write(json.dumps(kept, ensure_ascii=False) + "\n")
