"""memkit compares and combines a language model's two memories: its weights and its prompt.

Names are loaded at first use, so that `import memkit` is quick and free of torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memkit.errors import (
        BadInput,
        IndexMismatch,
        MemkitError,
        MissingDependency,
        NotTrained,
        UnsupportedModel,
    )
    from memkit.types import Answer, Decision, Fact, Hit, Passage, Prompt, Question

__version__ = "0.1.0"

_HOME = {
    "Answer": "memkit.types",
    "BadInput": "memkit.errors",
    "Decision": "memkit.types",
    "Fact": "memkit.types",
    "Hit": "memkit.types",
    "IndexMismatch": "memkit.errors",
    "MemkitError": "memkit.errors",
    "MissingDependency": "memkit.errors",
    "NotTrained": "memkit.errors",
    "Passage": "memkit.types",
    "Prompt": "memkit.types",
    "Question": "memkit.types",
    "UnsupportedModel": "memkit.errors",
}

__all__ = [
    "Answer",
    "BadInput",
    "Decision",
    "Fact",
    "Hit",
    "IndexMismatch",
    "MemkitError",
    "MissingDependency",
    "NotTrained",
    "Passage",
    "Prompt",
    "Question",
    "UnsupportedModel",
]


def __getattr__(name: str) -> object:
    """Import a public name from its home when it is first asked for."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'memkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    """All public names, loaded or not."""
    return sorted([*globals(), *__all__])
