"""memkit compares and combines a language model's two memories: its weights and its prompt.

Names are loaded at first use, so that `import memkit` is quick and free of torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memkit import benchmarks, compare, metrics, protocols, report, world
    from memkit.benchmarks.base import Benchmark
    from memkit.editors import EDITORS
    from memkit.editors.adapter import Adapter
    from memkit.editors.alphaedit import AlphaEdit
    from memkit.editors.arithmetic import ExtSub, Merge, TaskNegation
    from memkit.editors.artefact import load_edit
    from memkit.editors.ascent import GradientAscent
    from memkit.editors.ascent_bounded import KLBoundedAscent
    from memkit.editors.audit import audit
    from memkit.editors.defer import Defer
    from memkit.editors.dinm import DINM
    from memkit.editors.edit import Edit
    from memkit.editors.erasing import erasing
    from memkit.editors.finetune import FineTune
    from memkit.editors.finetune_constrained import FineTuneConstrained
    from memkit.editors.finetune_ewc import FineTuneEWC
    from memkit.editors.finetune_localized import FineTuneLocalized
    from memkit.editors.finetune_retrain import FineTuneRetrain
    from memkit.editors.grace import GRACE
    from memkit.editors.guards import Guards
    from memkit.editors.locating import Traced, locate
    from memkit.editors.lora import LoRA
    from memkit.editors.memit import MEMIT
    from memkit.editors.memory import Memory
    from memkit.editors.mend import MEND
    from memkit.editors.npo import NPO
    from memkit.editors.peft_folder import load_adapter
    from memkit.editors.rome import ROME
    from memkit.editors.statistics import Statistics
    from memkit.errors import (
        BadInput,
        EditRejected,
        FingerprintMismatch,
        IndexMismatch,
        MemkitError,
        MissingDependency,
        MissingSignal,
        NotTrained,
        Unreachable,
        UnsupportedModel,
    )
    from memkit.lm.generation import Completion
    from memkit.lm.harness import to_lm_eval
    from memkit.lm.model import LM
    from memkit.lm.scoring import TargetLogprob
    from memkit.prompts import Template
    from memkit.qa import QA
    from memkit.retrieval.bm25 import BM25
    from memkit.retrieval.cross_encoder import CrossEncoder
    from memkit.retrieval.definitions import Definitions
    from memkit.retrieval.dense import Dense
    from memkit.retrieval.from_file import FromFile
    from memkit.retrieval.genread import GenRead
    from memkit.retrieval.hybrid import Hybrid
    from memkit.retrieval.milvus import Milvus
    from memkit.retrieval.opensearch import OpenSearch
    from memkit.retrieval.remote_lucene import RemoteLucene
    from memkit.routing.base import Outcome
    from memkit.routing.baselines import Always, Oracle, Random
    from memkit.routing.cascade import Cascade
    from memkit.routing.combined import CombinedRouter
    from memkit.routing.conformal import Conformal
    from memkit.routing.edits import EditScope
    from memkit.routing.entropy import EntropyRouter
    from memkit.routing.margin import MarginRouter
    from memkit.routing.neighbour import NeighbourRouter
    from memkit.routing.popularity import PopularityRouter
    from memkit.routing.probe import ProbeRouter
    from memkit.routing.score import ScoreRouter
    from memkit.routing.table import PopularityTable
    from memkit.showcase import demo
    from memkit.types import (
        Answer,
        Decision,
        EditReport,
        Fact,
        FactReport,
        Hit,
        Passage,
        Prompt,
        Question,
    )
    from memkit.witness import SecondWitness

__version__ = "0.1.0"

_HOME = {
    "Adapter": "memkit.editors.adapter",
    "AlphaEdit": "memkit.editors.alphaedit",
    "Always": "memkit.routing.baselines",
    "Answer": "memkit.types",
    "BM25": "memkit.retrieval.bm25",
    "BadInput": "memkit.errors",
    "Benchmark": "memkit.benchmarks.base",
    "Cascade": "memkit.routing.cascade",
    "CombinedRouter": "memkit.routing.combined",
    "Completion": "memkit.lm.generation",
    "Conformal": "memkit.routing.conformal",
    "CrossEncoder": "memkit.retrieval.cross_encoder",
    "DINM": "memkit.editors.dinm",
    "Decision": "memkit.types",
    "Defer": "memkit.editors.defer",
    "Definitions": "memkit.retrieval.definitions",
    "Dense": "memkit.retrieval.dense",
    "EDITORS": "memkit.editors",
    "Edit": "memkit.editors.edit",
    "EditRejected": "memkit.errors",
    "EditReport": "memkit.types",
    "EditScope": "memkit.routing.edits",
    "EntropyRouter": "memkit.routing.entropy",
    "ExtSub": "memkit.editors.arithmetic",
    "Fact": "memkit.types",
    "FactReport": "memkit.types",
    "FineTune": "memkit.editors.finetune",
    "FineTuneConstrained": "memkit.editors.finetune_constrained",
    "FineTuneEWC": "memkit.editors.finetune_ewc",
    "FineTuneLocalized": "memkit.editors.finetune_localized",
    "FineTuneRetrain": "memkit.editors.finetune_retrain",
    "FingerprintMismatch": "memkit.errors",
    "FromFile": "memkit.retrieval.from_file",
    "GRACE": "memkit.editors.grace",
    "GenRead": "memkit.retrieval.genread",
    "GradientAscent": "memkit.editors.ascent",
    "Guards": "memkit.editors.guards",
    "Hit": "memkit.types",
    "Hybrid": "memkit.retrieval.hybrid",
    "IndexMismatch": "memkit.errors",
    "KLBoundedAscent": "memkit.editors.ascent_bounded",
    "LM": "memkit.lm.model",
    "LoRA": "memkit.editors.lora",
    "MEMIT": "memkit.editors.memit",
    "MEND": "memkit.editors.mend",
    "MarginRouter": "memkit.routing.margin",
    "MemkitError": "memkit.errors",
    "Memory": "memkit.editors.memory",
    "Merge": "memkit.editors.arithmetic",
    "Milvus": "memkit.retrieval.milvus",
    "MissingDependency": "memkit.errors",
    "MissingSignal": "memkit.errors",
    "NPO": "memkit.editors.npo",
    "NeighbourRouter": "memkit.routing.neighbour",
    "NotTrained": "memkit.errors",
    "OpenSearch": "memkit.retrieval.opensearch",
    "Oracle": "memkit.routing.baselines",
    "Outcome": "memkit.routing.base",
    "Passage": "memkit.types",
    "PopularityRouter": "memkit.routing.popularity",
    "PopularityTable": "memkit.routing.table",
    "ProbeRouter": "memkit.routing.probe",
    "Prompt": "memkit.types",
    "QA": "memkit.qa",
    "Question": "memkit.types",
    "ROME": "memkit.editors.rome",
    "Random": "memkit.routing.baselines",
    "RemoteLucene": "memkit.retrieval.remote_lucene",
    "ScoreRouter": "memkit.routing.score",
    "SecondWitness": "memkit.witness",
    "Statistics": "memkit.editors.statistics",
    "TargetLogprob": "memkit.lm.scoring",
    "TaskNegation": "memkit.editors.arithmetic",
    "Template": "memkit.prompts",
    "Traced": "memkit.editors.locating",
    "Unreachable": "memkit.errors",
    "UnsupportedModel": "memkit.errors",
    "audit": "memkit.editors.audit",
    "demo": "memkit.showcase",
    "erasing": "memkit.editors.erasing",
    "load_adapter": "memkit.editors.peft_folder",
    "load_edit": "memkit.editors.artefact",
    "locate": "memkit.editors.locating",
    "to_lm_eval": "memkit.lm.harness",
}
_ROOMS = ("benchmarks", "compare", "metrics", "protocols", "report", "world")

__all__ = [
    "Adapter",
    "AlphaEdit",
    "Always",
    "Answer",
    "BM25",
    "BadInput",
    "Benchmark",
    "Cascade",
    "CombinedRouter",
    "Completion",
    "Conformal",
    "CrossEncoder",
    "DINM",
    "Decision",
    "Defer",
    "Definitions",
    "Dense",
    "EDITORS",
    "Edit",
    "EditRejected",
    "EditReport",
    "EditScope",
    "EntropyRouter",
    "ExtSub",
    "Fact",
    "FactReport",
    "FineTune",
    "FineTuneConstrained",
    "FineTuneEWC",
    "FineTuneLocalized",
    "FineTuneRetrain",
    "FingerprintMismatch",
    "FromFile",
    "GRACE",
    "GenRead",
    "GradientAscent",
    "Guards",
    "Hit",
    "Hybrid",
    "IndexMismatch",
    "KLBoundedAscent",
    "LM",
    "LoRA",
    "MEMIT",
    "MEND",
    "MarginRouter",
    "MemkitError",
    "Memory",
    "Merge",
    "Milvus",
    "MissingDependency",
    "MissingSignal",
    "NPO",
    "NeighbourRouter",
    "NotTrained",
    "OpenSearch",
    "Oracle",
    "Outcome",
    "Passage",
    "PopularityRouter",
    "PopularityTable",
    "ProbeRouter",
    "Prompt",
    "QA",
    "Question",
    "ROME",
    "Random",
    "RemoteLucene",
    "ScoreRouter",
    "SecondWitness",
    "Statistics",
    "TargetLogprob",
    "TaskNegation",
    "Template",
    "Traced",
    "Unreachable",
    "UnsupportedModel",
    "audit",
    "benchmarks",
    "compare",
    "demo",
    "erasing",
    "load_adapter",
    "load_edit",
    "locate",
    "metrics",
    "protocols",
    "report",
    "to_lm_eval",
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
