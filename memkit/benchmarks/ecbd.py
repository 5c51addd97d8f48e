"""ECBD, entity cloze by date: spans of sentences about entities that are newer than a model.

Onoe, Zhang, Choi, Durrett (Findings of NAACL 2022, arXiv:2205.02832), and as it is used with
definitions by Onoe et al. (ACL 2023, arXiv:2305.01651). JSON lines named .json, in three forms:

2020-21     the rows of `memkit.benchmarks.clozes`; yasumasaonoe/entity_knowledge_propagation (no
            licence file): 500 noun-phrase spans, 500 random ones, an easy set of 114 and 38, and 40
            about popular entities
2022-23     ecbd_2023_augmented.json of shankarp8/knowledge_distillation (Padmanabhan et al.,
            NeurIPS 2023), the same with more fields, which are left out
the first   {ex_id, masked_sentence, answer_str "<extra_id_0> SPAN <extra_id_1>", span_type,
            definition [sentences with [ENT_START]...[ENT_END]], entity_span_str}, 2017-21, from the
            address in the README of yasumasaonoe/ecbd

EntityProbe     no candidates; kind is "np" or "random", from `span_type` or the file's name;
                category is "popular", "easy" or "2023" by the file's name, else None (that of the
                rows is "tv_show" throughout). In the first form the definition has no masked span

Left out: `additional_sentences`, `qid`, `conceptnet`, `year`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.clozes import entity_benchmark, folder_files, mask, probes_of, span_of
from memkit.benchmarks.probes import Cloze, EntityProbe
from memkit.benchmarks.records import Record, read
from memkit.errors import BadInput

__all__ = ["SPLITS", "load"]

URL = "https://github.com/yasumasaonoe/entity_knowledge_propagation"
SPLITS = {  # the files of each within a folder
    "samples": ("*samples.json", "*spans_dev.json", "*spans_test.json"),
    "easy": ("*_easy.json",),
    "2023": ("ecbd_2023*.json",),
    "popular": ("specificity_popular*.json", "all_popular.json"),
}
MARKS = re.compile(r"\[ENT_(?:START|END)\]")


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """ECBD from a folder or a file, in any of its forms.

    Of a folder `split` "samples" (which is None's) takes the files of 500, or the first form's;
    "easy", "2023" and "popular" take those. A file has no splits. `limit` takes the first rows.

    Raises `BadInput` as `memkit.benchmarks.load` says, and for a row whose sentinels are not where
    they belong. A definition that does not name its entity is kept, with a warning.
    """
    patterns = SPLITS.get(split or "samples")
    if patterns is None:
        raise BadInput(
            f"split is {split!r}; allowed: {', '.join(map(repr, SPLITS))}. Choose one of these."
        )
    folder = path is not None and Path(path).is_dir()
    pairs = []
    for file in folder_files("ecbd", path, patterns, URL):
        for record in read("ecbd", file, None if folder else split, url=URL, key="ex_id"):
            pairs += [(record, probe) for probe in _probes(record, str(file))]
    return entity_benchmark("ecbd", pairs[:limit])


def _probes(record: Record, file: str) -> Iterator[EntityProbe]:
    """The probes of a row of any form."""
    name = Path(file).name
    category = next((word for word in ("popular", "easy", "2023") if word in name), None)
    kind = next((word for word in ("np", "random") if re.search(rf"(?:^|_){word}_", name)), None)
    if category == "popular":
        kind = None  # twenty of each in one file, which does not say which
    if "masked_sentence" not in record.fields:
        return probes_of(record, kind, category)
    return iter([_first_form(record, kind, category)])


def _first_form(record: Record, kind: str | None, category: str | None) -> EntityProbe:
    """A row of Onoe et al. 2022."""
    span = span_of(record.text("answer_str"), f"{record.where}: answer_str")
    kinds = {"NP": "np", "random": "random"}
    own = next(iter(record.texts("span_type")), "").partition("-")[0]
    return EntityProbe(
        entity=record.text("entity_span_str"),
        definition=Cloze(MARKS.sub("", " ".join(record.texts("definition"))), ""),
        cloze=mask(record.text("masked_sentence"), span, f"{record.where}: masked_sentence"),
        category=category,
        kind=kinds.get(own, kind),
        id=record.id,
    )
