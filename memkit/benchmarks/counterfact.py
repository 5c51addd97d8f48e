"""CounterFact: false facts to write into a model (Meng et al., NeurIPS 2022, arXiv:2202.05262).

Section 3; 21,919 rows. MIT, github.com/kmeng01/rome; on the Hub as
azhx/counterfact. Two forms:

nested  {case_id, requested_rewrite {prompt "{} ...", relation_id, target_new {str}, target_true
        {str}, subject}, paraphrase_prompts, neighborhood_prompts, attribute_prompts,
        generation_prompts}: upstream's
flat    {case_id, prompt, target_new, subject, ground_truth, rephrase_prompt, locality_prompt,
        locality_ground_truth}: EasyEdit's, with one paraphrase and one neighbour

Fact    target is `target_new`, previous `target_true`, relation a Wikidata id (flat: None);
        locality pairs the prompts about neighbours, subjects that share the true object, with it

Left out, since a `Fact` has no place for them: `generation_prompts` and `attribute_prompts`. The
prompts are no questions, so that there are none.
"""

from __future__ import annotations

import os

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.edits import edit, gather, pairs
from memkit.benchmarks.records import Record, read
from memkit.types import Fact

__all__ = ["HUB", "load"]

HUB = "azhx/counterfact"


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """CounterFact from a file in either form, or from the Hub (None: azhx/counterfact).

    There `split` is "train" (19,728 rows) or "test" (2,191), both in turn with None; a file has
    none. `limit` takes the first rows.

    Raises `BadInput` as `memkit.benchmarks.load` says.
    """
    records = read("counterfact", path, split, hub=HUB, key="case_id")
    return gather("counterfact", records[:limit], lambda record: (_fact(record), None))


def _fact(record: Record) -> Fact | str:
    if "requested_rewrite" not in record.fields:
        return edit(
            record,
            record.text("subject"),
            record.text("prompt"),
            target=record.text("target_new"),
            previous=record.text("ground_truth"),
            paraphrases=record.texts("rephrase_prompt"),
            locality=pairs([record], "locality_prompt", "locality_ground_truth"),
        )
    rewrite = record.inner("requested_rewrite")
    true = rewrite.inner("target_true").text("str")
    return edit(
        record,
        rewrite.text("subject"),
        rewrite.text("prompt"),
        target=rewrite.inner("target_new").text("str"),
        relation=next(iter(rewrite.texts("relation_id")), None),
        previous=true,
        paraphrases=record.texts("paraphrase_prompts"),
        locality=tuple((prompt, true) for prompt in record.texts("neighborhood_prompts")),
    )
