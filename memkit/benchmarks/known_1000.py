"""known_1000: facts that GPT-2 XL knows, for causal tracing (Meng et al., NeurIPS 2022).

arXiv:2202.05262, section 2. 1,209 rows in spite of its name. MIT, github.com/kmeng01/rome.

    {known_id, subject, attribute, template, prediction, prompt, relation_id}

Fact    target is `attribute`; the prompt ends where GPT-2 XL went on with it, which is often some
        words behind `template`. There is no `previous`: the facts are true, and known
"""

from __future__ import annotations

import os

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.edits import edit, gather
from memkit.benchmarks.records import Record, read
from memkit.types import Fact

__all__ = ["URL", "load"]

URL = "https://rome.baulab.info/data/dsets/known_1000.json"


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """known_1000 from a file, which is at `URL`. `limit` takes the first rows.

    Raises `BadInput` as `memkit.benchmarks.load` says, and without a path.
    """
    records = read("known_1000", path, split, url=URL, key="known_id")
    return gather("known_1000", records[:limit], lambda record: (_fact(record), None))


def _fact(record: Record) -> Fact | str:
    return edit(
        record,
        record.text("subject"),
        record.text("prompt"),
        target=record.text("attribute"),
        relation=next(iter(record.texts("relation_id")), None),
    )
