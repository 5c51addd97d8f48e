"""How many definitions a prompt can hold: the limitation that Onoe et al. (ACL 2023) name.

One definition in the prompt is better than an edit; but a user's knowledge is not one definition.
Here n of them stand there at once, in an order drawn anew for each probe, the probe's own among
them. Beside that, a retriever that picks one of the same n, and editors that write the same n into
the weights in one step. n = 1 is the gold definition, or an edit of it alone.

The entities of the probes, in a drawn order, are divided into groups of n; the last one is filled
up with others. What does not fit into the window is left out from the end, so that the probe's own
definition may be missing: `shown` is the share of the probes for which it was there.

An answer is scored as by `memkit.protocols.entities`; weights are checked after each edit as there.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from memkit.benchmarks.probes import Cloze, EntityProbe
from memkit.errors import BadInput, EditRejected
from memkit.lm.checks import check_count
from memkit.progress import track
from memkit.protocols.cells import Cell
from memkit.protocols.crowded_result import CrowdedResult, CrowdedRow
from memkit.protocols.entities_methods import fact_of, query
from memkit.protocols.entities_result import cells_of, perplexity, share
from memkit.protocols.entities_spans import Asker, View, prompt_and_target
from memkit.protocols.entities_study import taken_back, weights

if TYPE_CHECKING:
    from memkit.editors.base import Editor
    from memkit.lm.model import LM
    from memkit.retrieval.base import Retriever
    from memkit.types import Fact

__all__ = ["crowded"]

COUNTS = (1, 2, 5, 10, 50)
PROMPT, RETRIEVED = "all in the prompt", "one retrieved"
FIT_ON = 8  # definitions on which what is None in an editor is chosen

Groups = list[tuple[list[str], list[int]]]  # entities, and the numbers of the probes asked of them


def crowded(
    lm: LM,
    probes: Sequence[EntityProbe],
    *,
    retriever: Retriever | None = None,
    editors: Mapping[str, Editor] | None = None,
    counts: Sequence[int] = COUNTS,
    fillers: Sequence[EntityProbe] = (),
    samples: int = 1000,
    seed: int = 0,
    batch_size: int = 32,
) -> CrowdedResult:
    """Ask the probes with 1, 2, 5, 10, 50 definitions at once, as the module says.

    `fillers` are probes of further entities, whose definitions fill groups up and which are not
    asked. `retriever` searches all the definitions (passages whose text they are); the best of the
    group counts. An editor writes `fact_of` each definition; what is None in it is chosen once.

    Raises `BadInput` for no probes, for probes of both sorts, and if there are fewer definitions
    than a count; else as `memkit.protocols.entities`.
    """
    known: dict[str, Cloze] = {}
    for probe in (*probes, *fillers):
        known.setdefault(probe.entity, probe.definition)
    _check(probes, counts, len(known))
    check_count("samples", samples)
    arena = _Arena(Asker(lm, batch_size), tuple(probes), known, samples, seed)
    fitted = {
        name: editor.fitted(lm, arena.facts(list(known)[:FIT_ON]))[0]
        for name, editor in (editors or {}).items()
    }
    rows = []
    for count in counts:
        groups = arena.groups(count)
        rows.append(arena.prompted(count, groups))
        if retriever is not None:
            rows.append(arena.retrieved(count, groups, retriever))
        rows += [arena.edited(count, groups, name, editor) for name, editor in fitted.items()]
    return CrowdedResult(
        model=repr(lm),
        metric="accuracy" if probes[0].candidates else "perplexity",
        settings={"counts": tuple(counts), "samples": samples, "seed": seed},
        probes=len(probes),
        rows=tuple(rows),
    )


@dataclass(frozen=True, slots=True)
class _Arena:
    """The probes, the definitions of all entities, and how a row is made."""

    asker: Asker
    probes: tuple[EntityProbe, ...]
    known: Mapping[str, Cloze]
    samples: int
    seed: int

    def groups(self, count: int) -> Groups:
        """Groups of so many entities, of which one at least is asked about."""
        rng = random.Random(self.seed)
        asked = dict.fromkeys(probe.entity for probe in self.probes)
        order = rng.sample(list(asked), len(asked))
        made: Groups = []
        for start in range(0, len(order), count):
            own = order[start : start + count]
            others = [entity for entity in self.known if entity not in own]
            rows = [i for i, probe in enumerate(self.probes) if probe.entity in own]
            made.append(([*own, *rng.sample(others, count - len(own))], rows))
        return made

    def facts(self, entities: Sequence[str]) -> list[Fact]:
        """The definitions as an editor writes them."""
        kind = self.asker.lm.kind
        return [fact_of(kind, entity, self.known[entity]) for entity in entities]

    def prompted(self, count: int, groups: Groups) -> CrowdedRow:
        """All definitions of the group before each probe."""
        rng = random.Random(self.seed)
        contexts = [""] * len(self.probes)
        start = time.perf_counter()
        for entities, rows in groups:
            for i in rows:
                shuffled = rng.sample(entities, len(entities))
                contexts[i] = self._fitting(self.probes[i], [self.known[e].text for e in shuffled])
        return self._told(count, PROMPT, contexts, start)

    def retrieved(self, count: int, groups: Groups, retriever: Retriever) -> CrowdedRow:
        """The one of the group that the retriever ranks highest; none where it finds none."""
        contexts = [""] * len(self.probes)
        start = time.perf_counter()
        found = retriever.search([query(probe) for probe in self.probes], len(self.known))
        for entities, rows in groups:
            texts = {self.known[entity].text for entity in entities}
            for i in rows:
                hits = (hit.passage.text for hit in found[i])
                contexts[i] = next((text for text in hits if text in texts), "")
        return self._told(count, RETRIEVED, contexts, start)

    def edited(self, count: int, groups: Groups, name: str, editor: Editor) -> CrowdedRow:
        """All definitions of the group written in one step."""
        lm, clean = self.asker.lm, weights(self.asker.lm)
        views: dict[int, View] = {}
        seconds, asked, rejected = list[float](), 0.0, 0
        for entities, rows in track(groups, f"{name}, {count} at once"):
            own = [self.probes[i] for i in rows]
            try:
                with editor.apply(lm, self.facts(entities)) as edit:
                    start = time.perf_counter()
                    views.update(zip(rows, self.asker.views(own), strict=True))
                    asked += time.perf_counter() - start
                    seconds.append(edit.report.seconds)
            except EditRejected:
                rejected += 1
                views.update(zip(rows, self.asker.views(own), strict=True))
            taken_back(lm, clean, f"{editor!r} of {count} definitions")
        return CrowdedRow(
            definitions=count,
            name=name,
            score=self._score([views[i] for i in range(len(self.probes))]),
            tokens=float(np.mean([self.asker.tokens(probe) for probe in self.probes])),
            milliseconds=1000 * asked / len(self.probes),
            seconds=float(np.mean(seconds)) if seconds else None,
            rejected=rejected,
        )

    def _told(self, count: int, name: str, contexts: Sequence[str], start: float) -> CrowdedRow:
        views = self.asker.views(self.probes, contexts)
        seconds = time.perf_counter() - start
        pairs = list(zip(self.probes, contexts, strict=True))
        return CrowdedRow(
            definitions=count,
            name=name,
            score=self._score(views),
            tokens=float(np.mean([self.asker.tokens(*pair) for pair in pairs])),
            milliseconds=1000 * seconds / len(pairs),
            shown=float(np.mean([self.known[p.entity].text in text for p, text in pairs])),
        )

    def _score(self, views: Sequence[View]) -> Cell:
        """The cell of accuracy or perplexity."""
        values = np.array([[view.value] * 2 for view in views])
        entities = [probe.entity for probe in self.probes]
        score = share if self.probes[0].candidates else perplexity
        return cells_of("score", values, entities, score, self.samples, self.seed)["score"]

    def _fitting(self, probe: EntityProbe, texts: Sequence[str]) -> str:
        """As many of the texts, from the first, as fit into the window before the probe."""
        most = len(texts)
        while most and not self._fits(probe, " ".join(texts[:most])):
            most -= 1
        return " ".join(texts[:most])

    def _fits(self, probe: EntityProbe, before: str) -> bool:
        lm = self.asker.lm
        spans = probe.candidates or (probe.gold,)
        pairs = [prompt_and_target(lm, before, probe.cloze, span) for span in spans]
        room = max(len(lm.codec.target(target)) for _, target in pairs)
        room = room if lm.kind == "decoder" else 0
        return lm.count_tokens(pairs[0][0]) + room <= lm.window


def _check(probes: Sequence[EntityProbe], counts: Sequence[int], known: int) -> None:
    """Raise `BadInput` for probes or counts that cannot be."""
    if not probes:
        raise BadInput("there are no probes; allowed: at least one. Load some.")
    if len({bool(probe.candidates) for probe in probes}) > 1:
        raise BadInput(
            "some probes have candidates and some have none; allowed: one sort in a call. Call it "
            "twice."
        )
    if not counts:
        raise BadInput("counts is empty; allowed: at least one number. Ask for 1 definition.")
    for count in counts:
        check_count("counts", count)
        if count > known:
            raise BadInput(
                f"counts has {count}, and there are {known} definitions; allowed: at most as many. "
                "Ask for fewer, or pass probes of further entities as `fillers`."
            )
