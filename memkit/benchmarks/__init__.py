"""Loaders: each upstream format becomes facts, questions, passages and definitions.

Streams of errors for lifelong editing are loaded by `memkit.benchmarks.streams.load`.
"""

from __future__ import annotations

import os

from memkit.benchmarks import (
    akew,
    atoke,
    canonical_examples,
    controlled_rippleedit,
    counterfact,
    dune,
    ecbd,
    elken,
    entity_inferences,
    entity_questions,
    ike_time,
    knowedit,
    known_1000,
    lama,
    leme,
    me_ppl,
    miniworld,
    mquake,
    peak,
    pitfalls,
    popqa,
    qaedit,
    retrieval_qa,
    rippleedits,
    safeedit,
    streams,
    truthfulqa,
    unke,
    wikidyk,
    zsre,
)
from memkit.benchmarks.base import Benchmark, References, Stream
from memkit.errors import BadInput

__all__ = ["BENCHMARKS", "Benchmark", "References", "Stream", "load", "streams"]

BENCHMARKS = {
    "akew": akew.load,
    "atoke": atoke.load,
    "canonical_examples": canonical_examples.load,
    "controlled_rippleedit": controlled_rippleedit.load,
    "counterfact": counterfact.load,
    "dune": dune.load,
    "ecbd": ecbd.load,
    "elken": elken.load,
    "entity_inferences": entity_inferences.load,
    "entity_questions": entity_questions.load,
    "ike_time": ike_time.load,
    "knowedit": knowedit.load,
    "known_1000": known_1000.load,
    "lama": lama.load,
    "leme": leme.load,
    "me_ppl": me_ppl.load,
    "miniworld": miniworld.load,
    "mquake": mquake.load,
    "pararel": lama.load_pararel,
    "peak": peak.load,
    "pitfalls": pitfalls.load,
    "popqa": popqa.load,
    "qaedit": qaedit.load,
    "retrieval_qa": retrieval_qa.load,
    "rippleedits": rippleedits.load,
    "safeedit": safeedit.load,
    "truthfulqa": truthfulqa.load,
    "unke": unke.load,
    "wikidyk": wikidyk.load,
    "zsre": zsre.load,
    "zsre-counterfactual": zsre.load_counterfactual,
}


def load(
    name: str,
    path: str | os.PathLike[str] | None = None,
    split: str | None = None,
    limit: int | None = None,
) -> Benchmark:
    """Load a benchmark by its name in `BENCHMARKS`.

    `path` is where it lies; None is the copy that memkit ships, or the Hugging Face Hub. `split`
    None is what the benchmark is usually asked. `limit` takes the first questions only, with their
    facts; of a benchmark without questions, the first rows.

    A row whose prompt lacks its subject gives no fact; a warning says how many there are.

    Raises `BadInput` for an unknown name or split, a limit below 1, and for a path that is absent
    or holds something else; the message names file and row.
    """
    if name not in BENCHMARKS:
        names = ", ".join(map(repr, BENCHMARKS))
        raise BadInput(f"no benchmark is named {name!r}; allowed: {names}. Choose one of these.")
    if limit is not None and limit < 1:
        raise BadInput(
            f"limit is {limit!r}; allowed: at least 1, or None for all. Ask for a question or more."
        )
    return BENCHMARKS[name](path, split, limit)
