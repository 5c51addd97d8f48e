"""What `QA.ask` costs beyond search and generation, and what `import memkit` costs.

    OMP_NUM_THREADS=1 python -m pytest docs/benchmarks/test_qa_speed.py --benchmark-only

`test_overhead` prints the time of `ask` that was spent neither in the search nor in the model, in
per cent of these two (the median of its rounds), on the miniature world.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from memkit.benchmarks import load
from memkit.qa import QA
from memkit.showcase import opened, sample

QUESTIONS = 64
TURNS = 7


@pytest.fixture(scope="module")
def qa() -> QA:
    return opened()[1]


@pytest.fixture(scope="module")
def questions():
    return sample(load("miniworld").questions, QUESTIONS, seed=0)


def test_ask(benchmark, qa, questions):
    benchmark.pedantic(qa.ask, args=(questions,), rounds=5, warmup_rounds=1)


class Timed:
    """Passes everything on to another object, and adds up the time spent in one of its methods."""

    def __init__(self, inner: object, method: str) -> None:
        self._inner, self._method, self.seconds = inner, method, 0.0

    def __getattr__(self, name: str) -> object:
        value = getattr(self._inner, name)
        if name != self._method:
            return value

        def timed(*args: object, **kwargs: object) -> object:
            start = time.perf_counter()
            try:
                return value(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start

        return timed


def test_overhead(benchmark, qa, questions):
    lm, index = Timed(qa.lm, "complete"), Timed(qa.retriever, "search")
    shares = []

    def turn():
        lm.seconds = index.seconds = 0.0
        start = time.perf_counter()
        QA(lm, index).ask(questions)
        parts = lm.seconds + index.seconds
        shares.append((time.perf_counter() - start - parts) / parts)

    benchmark.pedantic(turn, rounds=TURNS, warmup_rounds=1)
    median = statistics.median(shares[1:])
    print(f"\noverhead of ask: {100 * median:.2f} % of search and generation")


def test_prompt(benchmark, qa, questions):
    answer = replace(qa, router=None).ask(questions[0])
    passages = [hit.passage for hit in answer.hits]
    budget = qa.lm.window - qa.max_new_tokens
    benchmark(
        qa.template.fit,
        questions[0].text,
        passages,
        count=qa.lm.count_tokens,
        budget=budget,
        special=qa.lm.tokenizer.all_special_tokens,
    )


def test_import(benchmark):
    command = [sys.executable, "-c", "import memkit; memkit.Fact, memkit.Question"]
    benchmark.pedantic(subprocess.run, args=(command,), kwargs={"check": True}, rounds=10)
