"""PEAK: an answer more must not push out the right ones that are there (Ma et al., ICML 2024).

PEAK-CF 1,962 and PEAK-T 993 rows. No licence is stated, github.com/mjy1111/PEAK.

    {case_id, requested_rewrite {prompt, relation_id, target_new {str}, target_true {str}, subject},
     postive_list, negtive_list, para_add_prompts, neighborhood_prompts [[prompt, answer]],
     negtive_random_list}

Fact    target is `target_new`, the object that is added; paraphrases are `para_add_prompts`,
        locality the neighbours. There is no `previous`: the old objects stay right. "postive" is
        upstream's spelling: these other right objects are locality of the fact's own prompt

Left out, since a `Fact` has no place for them: the lists of wrong objects.
"""

from __future__ import annotations

import os

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.edits import edit, gather
from memkit.benchmarks.records import Record, read
from memkit.errors import BadInput
from memkit.types import Fact

__all__ = ["URL", "load"]

URL = "https://github.com/mjy1111/PEAK"


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """PEAK from one of its files. `limit` takes the first rows.

    Raises `BadInput` as `memkit.benchmarks.load` says, without a path, and for a neighbour that is
    no pair of prompt and answer.
    """
    records = read("peak", path, split, url=URL, key="case_id")[:limit]
    return gather("peak", records, lambda record: (_fact(record), None))


def _fact(record: Record) -> Fact | str:
    rewrite = record.inner("requested_rewrite")
    target = rewrite.inner("target_new").text("str")
    prompt, subject = rewrite.text("prompt"), rewrite.text("subject")
    own = prompt.replace("{}", subject)
    right = [text for text in record.texts("postive_list") if text != target]
    return edit(
        record,
        subject,
        prompt,
        target=target,
        relation=next(iter(rewrite.texts("relation_id")), None),
        paraphrases=record.texts("para_add_prompts"),
        locality=(*((own, text) for text in right), *_neighbours(record)),
    )


def _neighbours(record: Record) -> list[tuple[str, str]]:
    rows = record.fields.get("neighborhood_prompts") or []
    for row in rows:
        if not (isinstance(row, list) and len(row) == 2 and all(isinstance(x, str) for x in row)):
            raise BadInput(
                f"{record.where}: neighborhood_prompts has {str(row)[:80]!r}; allowed: pairs of "
                "prompt and answer. Correct the row."
            )
    return [(prompt, answer) for prompt, answer in rows]
