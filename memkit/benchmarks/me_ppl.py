"""ME-PPL: sentences whose perplexity tells that an edited model has collapsed.

Yang et al., ACL Findings 2024 (arXiv:2402.09656). MIT,
github.com/WanliYoung/Collapse-in-Model-Editing, data/ME-PPL: ME-PPL_50.json and ME-PPL_1k.json.

    [{"Corpus": "Wikipedia" | "C4" | "OpenWebText" | ..., "Text": "..."}]

Passage     the text, with its corpus, if it is named, as the title; for `memkit.protocols.collapse`
"""

from __future__ import annotations

import os

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.records import Record, read
from memkit.types import Passage

__all__ = ["URL", "load"]

URL = "https://github.com/WanliYoung/Collapse-in-Model-Editing/tree/main/data/ME-PPL"


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """ME-PPL from a file. `limit`: first rows.

    Raises `BadInput` as `memkit.benchmarks.load` says.
    """
    records = read("me_ppl", path, split, url=URL)[:limit]
    passages = (
        Passage(f"me-ppl-{record.id}", _whole(record), next(iter(record.texts("Corpus")), None))
        for record in records
    )
    return Benchmark(name="me_ppl", passages=tuple(passages))


def _whole(record: Record) -> str:
    """The text with its white space, which has a say in its perplexity."""
    stripped, raw = record.text("Text"), record.fields["Text"]
    return raw if isinstance(raw, str) else stripped
