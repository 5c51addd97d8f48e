"""memkit compares and combines a language model's two memories: its weights and its prompt.

Names are loaded at first use, so that `import memkit` is quick and free of torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memkit import benchmarks, metrics, protocols, world
    from memkit.benchmarks.base import Benchmark
    from memkit.errors import (
        BadInput,
        IndexMismatch,
        MemkitError,
        MissingDependency,
        NotTrained,
        UnsupportedModel,
    )
    from memkit.lm.generation import Completion
    from memkit.lm.model import LM
    from memkit.lm.scoring import TargetLogprob
    from memkit.prompts import Template
    from memkit.qa import QA
    from memkit.retrieval.bm25 import BM25
    from memkit.retrieval.definitions import Definitions
    from memkit.retrieval.dense import Dense
    from memkit.routing.base import Outcome
    from memkit.routing.baselines import Always, Oracle, Random
    from memkit.routing.popularity import PopularityRouter
    from memkit.routing.table import PopularityTable
    from memkit.showcase import demo
    from memkit.types import Answer, Decision, Fact, Hit, Passage, Prompt, Question

__version__ = "0.1.0"

_HOME = {
    "Always": "memkit.routing.baselines",
    "Answer": "memkit.types",
    "BM25": "memkit.retrieval.bm25",
    "BadInput": "memkit.errors",
    "Benchmark": "memkit.benchmarks.base",
    "Completion": "memkit.lm.generation",
    "Decision": "memkit.types",
    "Definitions": "memkit.retrieval.definitions",
    "Dense": "memkit.retrieval.dense",
    "Fact": "memkit.types",
    "Hit": "memkit.types",
    "IndexMismatch": "memkit.errors",
    "LM": "memkit.lm.model",
    "MemkitError": "memkit.errors",
    "MissingDependency": "memkit.errors",
    "NotTrained": "memkit.errors",
    "Oracle": "memkit.routing.baselines",
    "Outcome": "memkit.routing.base",
    "Passage": "memkit.types",
    "PopularityRouter": "memkit.routing.popularity",
    "PopularityTable": "memkit.routing.table",
    "Prompt": "memkit.types",
    "QA": "memkit.qa",
    "Question": "memkit.types",
    "Random": "memkit.routing.baselines",
    "TargetLogprob": "memkit.lm.scoring",
    "Template": "memkit.prompts",
    "UnsupportedModel": "memkit.errors",
    "demo": "memkit.showcase",
}
_ROOMS = ("benchmarks", "metrics", "protocols", "world")

__all__ = [
    "Always",
    "Answer",
    "BM25",
    "BadInput",
    "Benchmark",
    "Completion",
    "Decision",
    "Definitions",
    "Dense",
    "Fact",
    "Hit",
    "IndexMismatch",
    "LM",
    "MemkitError",
    "MissingDependency",
    "NotTrained",
    "Oracle",
    "Outcome",
    "Passage",
    "PopularityRouter",
    "PopularityTable",
    "Prompt",
    "QA",
    "Question",
    "Random",
    "TargetLogprob",
    "Template",
    "UnsupportedModel",
    "benchmarks",
    "demo",
    "metrics",
    "protocols",
    "world",
]


def __getattr__(name: str) -> object:
    """Import a public name from its home when it is first asked for."""
    if name in _ROOMS:
        return importlib.import_module(f"memkit.{name}")
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value  # a module of the same name must not hide it
        return value
    raise AttributeError(f"module 'memkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    """All public names, loaded or not."""
    return sorted({*globals(), *__all__})
