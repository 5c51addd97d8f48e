"""Entity Inferences: what follows from the definition of a new entity (Onoe, Zhang, Padmanabhan,
Durrett, Choi, ACL 2023, arXiv:2305.01651).

170 probes in six files of yasumasaonoe/entity_knowledge_propagation (no licence file, so load it
and do not copy it): disasters 27 + 27, invented persons 12 + 12, TV shows 46 + 46. The files are
JSON lines, although they are named .json; their rows are those of `memkit.benchmarks.clozes`.

EntityProbe     candidates are those of the row, 6 to 12; kind is "explicit" or "implicit", as the
                file is named; elsewhere explicit where the gold span is the one that the definition
                has masked, which is the same on all rows seen; category is "disaster",
                "fake_person" or "tv_show"; id is `ex_id`, a slash and the kind, since both files of
                a category have the same

entity_inferences_augmented.json (Padmanabhan et al., NeurIPS 2023) holds the same rows with more
fields, which are left out; so are `generic_sentences` and `specific_sentences`. A folder is read
without it, since its rows would count twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.clozes import entity_benchmark, folder_files, probes_of, span_of
from memkit.benchmarks.probes import EntityProbe
from memkit.benchmarks.records import Record, read
from memkit.errors import BadInput

__all__ = ["KINDS", "load", "probes"]

URL = "https://github.com/yasumasaonoe/entity_knowledge_propagation"
KINDS = ("explicit", "implicit")


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """Entity Inferences from the folder of the six files, or from one file.

    `split` is "explicit" or "implicit"; None takes both. `limit` takes the first rows.

    Raises `BadInput` as `memkit.benchmarks.load` says, and for a row whose sentinels are not where
    they belong or whose gold span is no candidate. A definition that does not name its entity is
    kept, with a warning: in every third of upstream's it has another name.
    """
    if split not in (None, *KINDS):
        raise BadInput(
            f"split is {split!r}; allowed: {', '.join(map(repr, KINDS))}, or None for both. Choose "
            "one of these."
        )
    files = folder_files("entity_inferences", path, ("*plicit*.json",), URL)
    found = []
    for file in files:
        named = next((kind for kind in KINDS if kind in Path(file or "").name), None)
        for record, probe in probes(read("entity_inferences", file, None, url=URL, key="ex_id")):
            kind = named or probe.kind
            if split in (None, kind):
                found.append((record, replace(probe, kind=kind, id=f"{probe.id}/{kind}")))
    return entity_benchmark("entity_inferences", found[:limit])


def probes(records: Iterable[Record]) -> Iterator[tuple[Record, EntityProbe]]:
    """Each row with its probes."""
    for record in records:
        target = span_of(record.text("def_target"), f"{record.where}: def_target")
        kind = KINDS[record.text("label") != target]
        for probe in probes_of(record, kind, record.text("category")):
            yield record, probe
