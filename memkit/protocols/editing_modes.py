"""The editing protocol's three ways of writing facts: alone, all at once, one after the other."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal

from memkit.errors import BadInput, EditRejected
from memkit.metrics import exact_match, same_answer
from memkit.progress import track
from memkit.protocols.editing_probes import Interview, Probe, View
from memkit.qa import check_editor
from memkit.types import EditReport, Fact

if TYPE_CHECKING:
    from memkit.editors.base import Editor
    from memkit.editors.edit import Edit

__all__ = ["MODES", "Bench", "Look", "Mode", "Run", "Snapshot", "check_writes"]

Mode = Literal["single", "sequential", "batch"]
FIXED = 100  # locality probes that are watched along the curve
ESSAY = 100  # tokens


@dataclass(frozen=True, slots=True)
class Look:
    """What the model made of one fact: a view of each of its probes, and the long text."""

    views: tuple[View, ...]
    essay: str | None


@dataclass(frozen=True, slots=True)
class Bench:
    """The facts, the probes of each, and how the model is asked.

    `left_out` counts the locality probes that ask what another fact of the run writes.
    """

    interview: Interview
    facts: Sequence[Fact]
    probes: Sequence[Sequence[Probe]]
    left_out: int
    fluency: bool

    @classmethod
    def of(
        cls, interview: Interview, facts: Sequence[Fact], *, alone: bool, fluency: bool
    ) -> Bench:
        """Make the probes; of facts that are written `alone` none is left out."""
        probes = [interview.probes(fact) for fact in facts]
        asked = [{p.prompt for p in own if p.kind != "locality"} for own in probes]
        written = Counter(prompt for prompts in asked for prompt in prompts)

        def stays(probe: Probe, own: set[str]) -> bool:
            elsewhere = written[probe.prompt] - (probe.prompt in own)
            return alone or probe.kind != "locality" or not elsewhere

        kept = [[p for p in mine if stays(p, own)] for mine, own in zip(probes, asked, strict=True)]
        left_out = sum(map(len, probes)) - sum(map(len, kept))
        return cls(interview, facts, kept, left_out, fluency)

    def look(self, rows: Sequence[int]) -> list[Look]:
        """Look at facts, given by their numbers, with the model as it is."""
        views = iter(self.interview.views([probe for i in rows for probe in self.probes[i]]))
        essays: Sequence[str | None] = [None] * len(rows)
        if self.fluency:
            essays = self.interview.essays([self.facts[i] for i in rows], ESSAY)
        return [
            Look(tuple(islice(views, len(self.probes[i]))), essay)
            for i, essay in zip(rows, essays, strict=True)
        ]

    def look_at_all(self) -> list[Look]:
        """Look at all facts, as `look`."""
        return self.look(range(len(self.facts)))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The model after so many edits; one number a fact.

    `own` are the exact matches of the facts so far (after 0 edits: of all); `unchanged` and `right`
    the means over the fixed locality probes of those facts that have some.
    """

    edits: int
    own: tuple[float, ...]
    unchanged: tuple[float, ...]
    right: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """What a mode found: looks by stage; for each fact the edit's report, or why it was refused."""

    looks: Mapping[str, Sequence[Look]]
    outcomes: Sequence[EditReport | str]
    curve: Sequence[Snapshot] = ()


def check_writes(editor: Editor) -> None:
    """Raise `BadInput` for what is no editor, or one that takes facts out."""
    check_editor(editor)
    if getattr(editor, "erases", False):  # what only behaves like an editor may lack it
        raise BadInput(
            f"{type(editor).__name__} takes facts out, and here they are to be written; allowed: "
            "editors that write. Measure it with memkit.protocols.erasure."
        )


def single(bench: Bench, editor: Editor) -> Run:
    """Write, look and take back, one fact after the other."""
    before = bench.look_at_all()
    after, outcomes = list(before), list[EditReport | str]()
    for i, fact in track(list(enumerate(bench.facts)), "editing"):
        try:
            with editor.apply(bench.interview.lm, [fact]) as edit:
                (after[i],) = bench.look([i])
                outcomes.append(edit.report)
        except EditRejected as error:
            outcomes.append(str(error))
    return Run({"unedited": before, "edited": after}, outcomes)


def batch(bench: Bench, editor: Editor) -> Run:
    """Write all facts in one step, and look."""
    before = bench.look_at_all()
    try:
        with editor.apply(bench.interview.lm, bench.facts) as edit:
            after, outcome = bench.look_at_all(), edit.report
    except EditRejected as error:
        return Run({"unedited": before, "edited": before}, [str(error)] * len(before))
    return Run({"unedited": before, "edited": after}, [outcome] * len(before))


def sequential(bench: Bench, editor: Editor) -> Run:
    """Write one fact after the other on one handle; look at each right then, and at the end."""
    before = bench.look_at_all()
    fixed = list(islice(_locality(bench, before), FIXED))
    answers = [look.views[0].answer for look in before]
    curve = [_snapshot(bench, 0, answers, fixed, [old for _, _, old in fixed])]
    after, outcomes = list[Look](), list[EditReport | str]()
    edit: Edit | None = None
    with contextlib.ExitStack() as stack:
        for i, fact in track(list(enumerate(bench.facts)), "editing"):
            try:
                if edit is None:
                    edit = stack.enter_context(editor.apply(bench.interview.lm, [fact]))
                else:
                    edit.add([fact])
                outcomes.append(edit.steps[-1].report)
            except EditRejected as error:
                outcomes.append(str(error))
            after += bench.look([i])
            if _is_point(i + 1, len(bench.facts)):
                own = [bench.probes[j][0] for j in range(i + 1)]
                asked = bench.interview.answers([*own, *(probe for _, probe, _ in fixed)])
                now = [answer for _, answer in asked]
                curve.append(_snapshot(bench, i + 1, now[: i + 1], fixed, now[i + 1 :]))
        final = bench.look_at_all()
    return Run({"unedited": before, "edited": after, "after all": final}, outcomes, curve)


MODES: Mapping[Mode, Callable[[Bench, Editor], Run]] = {
    "single": single,
    "sequential": sequential,
    "batch": batch,
}


def _is_point(edits: int, most: int) -> bool:
    """Whether the curve has a point there: at powers of ten, and at the end."""
    return edits == most or edits == 10 ** (len(str(edits)) - 1)


def _locality(bench: Bench, before: Sequence[Look]) -> Iterator[tuple[int, Probe, str]]:
    """Locality probes of different prompts: the fact's number, the probe, the answer before."""
    seen: set[str] = set()
    for i, (probes, look) in enumerate(zip(bench.probes, before, strict=True)):
        for probe, view in zip(probes, look.views, strict=True):
            if probe.kind == "locality" and probe.prompt not in seen:
                seen.add(probe.prompt)
                yield i, probe, view.answer


def _snapshot(
    bench: Bench,
    edits: int,
    own: Sequence[str],
    fixed: Sequence[tuple[int, Probe, str]],
    now: Sequence[str],
) -> Snapshot:
    """Score the answers to the facts' own prompts and, `now`, to the fixed locality probes."""
    unchanged: dict[int, list[float]] = {}
    right: dict[int, list[float]] = {}
    for (i, probe, old), new in zip(fixed, now, strict=True):
        unchanged.setdefault(i, []).append(same_answer(old, new))
        right.setdefault(i, []).append(exact_match(new, probe.answers))
    rows = zip(bench.probes, own, strict=False)
    return Snapshot(
        edits,
        tuple(exact_match(answer, probes[0].answers) for probes, answer in rows),
        tuple(sum(values) / len(values) for values in unchanged.values()),
        tuple(sum(values) / len(values) for values in right.values()),
    )
