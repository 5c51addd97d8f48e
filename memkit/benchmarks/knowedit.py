"""KnowEdit: edits with locality and portability (Zhang et al. 2024, arXiv:2401.01286).

MIT, on the Hub as zjunlp/KnowEdit. Four of its parts; ConvSent and Sanitation are no facts.

wiki_recent,        {subject, prompt, target_new, ground_truth, rephrase, portability, locality}
wiki_counterfact    cloze prompts of Wikidata; `ground_truth` and `rephrase` are not everywhere
ZsRE                the same, with `rephrase_prompt`; the prompts are questions
WikiBio             {text, labels, concept, locality}: a biography's beginning and next sentence

Fact        target is `target_new`, previous `ground_truth`; the kinds of locality
            (Relation_Specificity, Forgetfulness) and of portability (Reasoning, Subject_Aliasing,
            Logical_Generalization) stand one after the other, and are no longer told apart
Question    of a prompt that ends in "?", with the target as its one answer

`ground_truth` is a string, a list, or a list of alias lists: its first text is taken. A probe
without one is left out, as EasyEdit does. Some Relation_Specificity probes of ZsRE ask for the
edited relation itself, with the old object as answer. They are kept: an editor that generalises
loses locality on them. Ids are the numbers of the rows.
"""

from __future__ import annotations

import os

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.edits import edit, gather, pairs
from memkit.benchmarks.records import Record, from_hub, is_hub_id, read, to_records
from memkit.errors import BadInput
from memkit.types import Fact, Question

__all__ = ["HUB", "PARTS", "load", "probes"]

HUB = "zjunlp/KnowEdit"
PARTS = {
    "wiki_recent": "benchmark/wiki_recent/recent_test.json",
    "wiki_recent-train": "benchmark/wiki_recent/recent_train.json",
    "wiki_counterfact": "benchmark/wiki_counterfact/test_cf.json",
    "wiki_counterfact-train": "benchmark/wiki_counterfact/train_cf.json",
    "ZsRE": "benchmark/ZsRE/ZsRE-test-all.json",
    "WikiBio": "benchmark/WikiBio/wikibio-test-all.json",
    "WikiBio-train": "benchmark/WikiBio/wikibio-train-all.json",
}


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """One part of KnowEdit, from its file or from the Hub (None: zjunlp/KnowEdit).

    There `split` is a part in `PARTS`, which has to be named: they measure different things, and
    upstream reports them apart. A file has none. `limit` takes the first rows.

    Raises `BadInput` as `memkit.benchmarks.load` says, and for the Hub without a part.
    """
    if path is None or is_hub_id(path):
        if split not in PARTS:
            raise BadInput(
                f"split is {split!r} for knowedit on the Hub; allowed: "
                f"{', '.join(map(repr, PARTS))}. Choose a part, or pass the path of its file."
            )
        source, file = str(path or HUB), PARTS[split]
        rows = from_hub("knowedit", source, "train", data_files=file)
        records = to_records(enumerate(rows, start=1), f"{source}, {file}")
    else:
        records = read("knowedit", path, split)
    return gather("knowedit", records[:limit], _convert)


def probes(record: Record, name: str) -> tuple[tuple[str, str], ...]:
    """Prompt and answer of the probes in "locality" or "portability", of all kinds."""
    kinds = record.inner(name)
    items = [item for kind in kinds.fields for item in kinds.items(kind)]
    return pairs(items, "prompt", "ground_truth")


def _convert(record: Record) -> tuple[Fact | str, Question | None]:
    biography = "concept" in record.fields
    subject = record.text("concept" if biography else "subject")
    prompt = record.text("text" if biography else "prompt")
    target = record.text("labels" if biography else "target_new")
    fact = edit(
        record,
        subject,
        prompt,
        target=target,
        previous=next(iter(record.texts("ground_truth")), None),
        paraphrases=record.texts("rephrase_prompt") or record.texts("rephrase"),
        locality=probes(record, "locality"),
        portability=probes(record, "portability"),
    )
    if not prompt.endswith("?"):
        return fact, None
    return fact, Question(prompt, answers=(target,), subject=subject, id=record.id)
