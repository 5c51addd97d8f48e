"""The rows of `entities`: the unedited model, a text before each probe, an edit for each unit."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from memkit.benchmarks.probes import EntityProbe
from memkit.errors import EditRejected, FingerprintMismatch
from memkit.progress import track
from memkit.protocols.entities_methods import Prompting, fact_of
from memkit.protocols.entities_result import BASE, Aside, Row
from memkit.protocols.entities_spans import Asker, View

if TYPE_CHECKING:
    from memkit.editors.base import Editor
    from memkit.lm.model import LM
    from memkit.types import Fact

__all__ = ["Per", "Study", "taken_back", "weights"]

Per = Literal["definition", "entity"]
FIT_ON = 8  # definitions on which what is None in an editor is chosen


@dataclass(slots=True)
class Study:
    """The probes, how they are asked, and what the unedited model makes of them."""

    asker: Asker
    probes: tuple[EntityProbe, ...]
    popular: tuple[EntityProbe, ...]
    others: int | None
    seed: int
    before: list[View] = field(default_factory=list)
    known: list[View] = field(default_factory=list)

    def base(self) -> Row:
        """The unedited model; what it makes of the probes is kept for the other rows."""
        start = time.perf_counter()
        self.before = self.asker.views(self.probes)
        seconds = time.perf_counter() - start
        self.known = self.asker.views(self.popular)
        aside = []
        for own in self._units("entity", whole=True):
            aside += self._aside(own, self._rest(own), dict(enumerate(self.before)))
        return self._row(BASE, BASE, self.before, seconds, aside, self._popular(self.known))

    def prompted(self, name: str, method: Prompting) -> Row:
        """A text before each probe, and before the popular ones."""
        start = time.perf_counter()
        contexts = method.before(self.probes)
        after = self.asker.views(self.probes, contexts)
        seconds = time.perf_counter() - start
        known = self.asker.views(self.popular, method.before(self.popular))
        kind = type(method).__name__
        return self._row(name, kind, after, seconds, [], self._popular(known), contexts)

    def edited(self, name: str, editor: Editor, per: Per) -> Row:
        """An edit for each unit, taken back after what it changed was looked at."""
        lm, rng = self.asker.lm, random.Random(self.seed)
        units = self._units(per, whole=getattr(editor, "text", None) == "definition")
        facts = [self._fact(own) for own in units]
        editor, chosen = editor.fitted(lm, facts[:FIT_ON])
        clean, done = weights(lm), _Done(list(self.before), dict(chosen))
        for own, fact in track(list(zip(units, facts, strict=True)), name):
            rest = {i: self._drawn(rng, some) for i, some in self._rest(own).items()}
            some = self._drawn(rng, range(len(self.popular)))
            views, known = dict(enumerate(self.before)), [self.known[j] for j in some]
            try:
                with editor.apply(lm, [fact]) as edit:
                    start = time.perf_counter()
                    views |= self._seen(own)
                    done.asked += time.perf_counter() - start
                    views |= self._seen({j for other in rest.values() for j in other})
                    known = self.asker.views([self.popular[j] for j in some])
                    done.seconds.append(edit.report.seconds)
                    done.chosen = {**edit.report.chosen, **done.chosen}
            except EditRejected as error:
                done.rejected[fact.text] = str(error)
            taken_back(lm, clean, f"{editor!r} of {fact.text!r}")
            for i in own:
                done.after[i] = views[i]
            done.aside += self._aside(own, rest, views)
            done.known += self._edited_known(own, some, known)
        made = self._row(name, repr(editor), done.after, done.asked, done.aside, done.known)
        return replace(
            made,
            seconds=tuple(done.seconds),
            rejected=done.rejected,
            chosen=done.chosen,
        )

    def _row(
        self,
        name: str,
        method: str,
        after: Sequence[View],
        seconds: float,
        aside: Sequence[Aside],
        known: Sequence[Aside],
        contexts: Sequence[str] = (),
    ) -> Row:
        befores = contexts or [""] * len(self.probes)
        return Row(
            name=name,
            method=method,
            before=tuple(self.before),
            after=tuple(after),
            aside=tuple(aside),
            known=tuple(known),
            tokens=tuple(map(self.asker.tokens, self.probes, befores)),
            milliseconds=1000 * seconds / len(self.probes),
        )

    def _units(self, per: Per, *, whole: bool) -> list[list[int]]:
        """The probes of each edit; `whole`: where only the text of a definition counts."""
        units: dict[object, list[int]] = {}
        for i, probe in enumerate(self.probes):
            cloze = probe.definition.text if whole else probe.definition
            units.setdefault((probe.entity, cloze if per == "definition" else None), []).append(i)
        return list(units.values())

    def _fact(self, own: Sequence[int]) -> Fact:
        first = self.probes[own[0]]
        return fact_of(self.asker.lm.kind, first.entity, first.definition)

    def _rest(self, own: Sequence[int]) -> dict[int, list[int]]:
        """For one of a unit's probes in each group, those of other entities in that group."""
        firsts = {self.probes[i].group: i for i in reversed(own)}
        return {
            i: [
                j
                for j, probe in enumerate(self.probes)
                if probe.group == group and probe.entity != self.probes[i].entity
            ]
            for group, i in firsts.items()
        }

    def _drawn(self, rng: random.Random, some: Sequence[int]) -> list[int]:
        """All of them, or as many as are asked after an edit."""
        few = self.others is not None and self.others < len(some)
        return sorted(rng.sample(some, self.others or 0)) if few else list(some)

    def _seen(self, rows: Iterable[int]) -> dict[int, View]:
        """What the model as it is makes of some of the probes."""
        rows = list(rows)
        views = self.asker.views([self.probes[i] for i in rows])
        return dict(zip(rows, views, strict=True))

    def _aside(
        self, own: Sequence[int], rest: Mapping[int, Sequence[int]], now: Mapping[int, View]
    ) -> list[Aside]:
        """Means over the other entities' probes, for each group of the unit that has some."""
        return [
            Aside(
                self.probes[own[0]].entity,
                self.probes[i].kind,
                _mean([self.before[j].value for j in some]),
                _mean([now[j].value for j in some]),
            )
            for i, some in rest.items()
            if some
        ]

    def _edited_known(
        self, own: Sequence[int], some: Sequence[int], now: Sequence[View]
    ) -> list[Aside]:
        """The mean over the popular probes that were asked after an edit."""
        if not some:
            return []
        before, after = [self.known[j].value for j in some], [view.value for view in now]
        return [Aside(self.probes[own[0]].entity, None, _mean(before), _mean(after))]

    def _popular(self, now: Sequence[View]) -> list[Aside]:
        """Each popular probe, without an edit."""
        rows = zip(self.popular, self.known, now, strict=True)
        return [Aside(probe.entity, None, old.value, new.value) for probe, old, new in rows]


@dataclass(slots=True)
class _Done:
    """What the edits of a row gave so far; `asked` are the seconds in which probes were scored."""

    after: list[View]
    chosen: dict[str, str]
    asked: float = 0.0
    aside: list[Aside] = field(default_factory=list)
    known: list[Aside] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)


def weights(lm: LM) -> str:
    """SHA-256 of the bytes of all weights as they are, computed from these."""
    from memkit.lm.fingerprint import weights_hash  # loads torch

    return weights_hash(lm.model)


def taken_back(lm: LM, clean: str, edit: str) -> None:
    """Raise `FingerprintMismatch` unless the weights are as they were before an edit."""
    now = weights(lm)
    if now != clean:
        raise FingerprintMismatch(
            f"after the rollback of {edit:.200} the weights have the hash {now}; allowed: {clean}, "
            "theirs before it. Load the model again; the editor has a defect."
        )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
