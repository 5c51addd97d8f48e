"""Collapse alarms: is the model still a model, after every edit of a stream?

A single edit can collapse a model, and its perplexity shows it (Yang et al., ACL Findings 2024,
arXiv:2402.09656, on the sentences of ME-PPL: `memkit.benchmarks.load("me_ppl", path)`). After every
edit these are looked at, each relative to the model without the edit:

    perplexity   on given texts: exp of the mean negative log-likelihood of all their tokens. The
                 published figure is the mean over texts of each one's own, which is larger and is
                 ruled by the few worst: mean(lm.perplexity([text]) for text in texts)
    norm         of each edited tensor, ||W'|| / ||W|| (Frobenius); sequential editing makes it grow
    condition    of each edited matrix, k(W') / k(W), k the largest over the smallest singular value
                 (Ma et al. 2024, arXiv:2405.16821, on why it grows with the number of edits)
    canaries     share right of questions that the model answered rightly before

Beyond a bound the alarm rings. Then the stream stops there, or the edit is taken back and the
stream goes on without it. An editor's guards (`memkit.Guards`) come before: an edit that they
refuse is taken back by the handle itself, and noted.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from memkit.errors import BadInput, EditRejected
from memkit.lm.checks import check_count, check_texts
from memkit.metrics import exact_match
from memkit.progress import track
from memkit.prompts import Template
from memkit.protocols.collapse_result import Alarm, CollapseResult, Looked, Vitals
from memkit.protocols.editing_probes import first_answer
from memkit.types import Fact, Passage, Question

if TYPE_CHECKING:
    from torch import Tensor

    from memkit.editors.base import Edit, Editor
    from memkit.lm.model import LM

__all__ = ["Watch", "collapse"]

OnAlarm = Literal["stop", "rollback"]


@dataclass(frozen=True, slots=True)
class Watch:
    """What is looked at of a model: texts, canary questions, and whether condition numbers.

    `look` is for streams of your own: call it after each edit.
    """

    lm: LM
    texts: tuple[str, ...]
    canaries: tuple[Question, ...] = ()
    template: Template = field(default_factory=Template)
    max_new_tokens: int = 16
    conditions: bool = True
    batch_size: int = 32

    def known(self) -> tuple[Question, ...]:
        """The canaries that the model answers rightly as it is."""
        asked = zip(self.canaries, self._answers(), strict=True)
        return tuple(question for question, right in asked if right)

    def look(self, edit: Edit | None = None) -> Vitals:
        """The model as it is; norms and condition numbers are those of a live edit's tensors."""
        norms, conditions = {}, {}
        for name, touched in edit.touched.items() if edit is not None else ():
            now, base = touched.parameter.detach(), touched.saved
            norms[name] = _norm(now) / max(_norm(base), 1e-30)
            if self.conditions and now.dim() == 2 and math.isfinite(own := _condition(base)):
                conditions[name] = _condition(now) / own
        right = self._answers()
        return Vitals(
            perplexity=self.lm.perplexity(self.texts, self.batch_size),
            norms=norms,
            conditions=conditions,
            canaries=sum(right) / len(right) if right else None,
        )

    def _answers(self) -> list[float]:
        """Which canaries are answered rightly."""
        if not self.canaries:
            return []
        prompts = [self.template.render(question.text) for question in self.canaries]
        said = self.lm.generate(prompts, self.max_new_tokens, batch_size=self.batch_size)
        return [
            exact_match(first_answer(text, ("\n", "."), question.answers), question.answers)
            for text, question in zip(said, self.canaries, strict=True)
        ]


def collapse(
    lm: LM,
    editor: Editor | Edit,
    facts: Sequence[Fact],
    texts: Sequence[str | Passage],
    *,
    canaries: Sequence[Question] = (),
    alarm: Alarm | None = None,
    on_alarm: OnAlarm = "stop",
    conditions: bool = True,
    template: Template | None = None,
    max_new_tokens: int = 16,
    fit_on: int = 8,
    batch_size: int = 32,
) -> CollapseResult:
    """Write facts one after the other on one handle, and look at the model after each.

    `alarm` are the bounds, None the defaults. `on_alarm` "stop": the stream ends with the edit that
    rang, which is the last of the handle's steps. "rollback": that edit is undone, so that the
    model has the bytes of the last healthy edit, and the stream goes on. Of the canaries only those
    count that the model answers rightly before, with the prompt of `template`. `conditions` False
    leaves singular values out, which take seconds for a large matrix.

    With an editor, the model is afterwards as it was. With a live `Edit` the stream goes on from
    it, and it stays live as the stream left it; what it is compared with is the model without it.

    Raises `BadInput` for no facts or texts, a canary without answers or none that the model knows,
    and a value that is not allowed; `UnsupportedModel` for a model that is no decoder. After an
    error the model is as before the call.
    """
    alarm = alarm or Alarm()
    for name, count in {"max_new_tokens": max_new_tokens, "fit_on": fit_on}.items():
        check_count(name, count)
    if on_alarm not in ("stop", "rollback"):
        raise BadInput(f"on_alarm is {on_alarm!r}; allowed: 'stop' or 'rollback'. Choose one.")
    facts = _checked(lm, facts, canaries)
    watch = Watch(
        lm,
        _texts(texts),
        tuple(canaries),
        template or Template(),
        max_new_tokens,
        conditions,
        batch_size,
    )
    with _handle(lm, editor, facts[:fit_on]) as edit:
        with edit.paused() if edit.steps else contextlib.nullcontext():
            watch = _knowing(watch)
            base = watch.look()
        trace = _followed(edit, facts, watch, base, alarm, on_alarm)
        return CollapseResult(
            model=repr(lm),
            editor=repr(edit.editor),
            alarm=alarm,
            on_alarm=on_alarm,
            canaries=len(watch.canaries),
            base=base,
            trace=tuple(trace),
            left=len(facts) - len(trace),
        )


def _followed(
    edit: Edit, facts: Sequence[Fact], watch: Watch, base: Vitals, alarm: Alarm, on_alarm: OnAlarm
) -> list[Looked]:
    """The stream, until it ends or stops."""
    trace: list[Looked] = []
    for place, fact in enumerate(track(facts, f"{type(edit.editor).__name__}, watched")):
        try:
            edit.add([fact])
        except EditRejected as error:
            trace.append(Looked(place, fact, None, rejected=str(error), kept=False))
            continue
        start = time.perf_counter()
        vitals = watch.look(edit)
        seconds = time.perf_counter() - start
        rings = alarm.rings(vitals, base)
        undone = bool(rings) and on_alarm == "rollback"
        if undone:
            edit.undo()
        trace.append(
            Looked(
                place,
                fact,
                vitals,
                alarms=rings,
                kept=not undone,
                edit_seconds=edit.steps[-1].report.seconds if not undone else None,
                seconds=seconds,
            )
        )
        if rings and on_alarm == "stop":
            break
    return trace


def _checked(lm: LM, facts: Sequence[Fact], canaries: Sequence[Question]) -> list[Fact]:
    """The facts, each of which can be written."""
    from memkit.editors.tokens import check_facts  # loads torch

    for question in canaries:
        if not question.answers:
            raise BadInput(
                f"the canary {question.text!r} has no answers; allowed: at least one. Give it the "
                "right ones."
            )
    if not facts or isinstance(facts, Fact):
        return check_facts(lm, facts)
    return [fact for one in facts for fact in check_facts(lm, [one])]


def _texts(texts: Sequence[str | Passage]) -> tuple[str, ...]:
    """What is watched; `BadInput` where it is no list of texts."""
    if isinstance(texts, str):
        check_texts("texts", texts)
    found = tuple(text.text if isinstance(text, Passage) else text for text in texts)
    check_texts("texts", found)
    return found


def _knowing(watch: Watch) -> Watch:
    """The watch with the canaries that the model knows."""
    known = watch.known()
    if watch.canaries and not known:
        raise BadInput(
            f"the model answers none of {len(watch.canaries)} canaries rightly; allowed: questions "
            "that it knows. Choose others, or a template that it understands."
        )
    return replace(watch, canaries=known)


@contextlib.contextmanager
def _handle(lm: LM, editor: Editor | Edit, first: Sequence[Fact]) -> Iterator[Edit]:
    """The caller's handle, or one of ours, which is closed at the end."""
    from memkit.editors.base import Edit

    if not isinstance(editor, Edit):
        Edit(editor, lm)  # says so if the editor does not serve the model
        edit = Edit(editor.fitted(lm, first)[0], lm)
        try:
            yield edit
        finally:
            edit.rollback()
        return
    if editor.lm is not lm:
        raise BadInput(
            f"{editor!r} is an edit of another model; allowed: one of this model. Pass edit.lm."
        )
    before = len(editor.steps)
    try:
        yield editor
    except BaseException:
        if (more := len(editor.steps) - before) > 0:
            editor.undo(more)
        raise


def _norm(tensor: Tensor) -> float:
    return float(tensor.float().norm())


def _condition(matrix: Tensor) -> float:
    """Largest over smallest singular value; infinity if the matrix is singular or not finite."""
    import torch

    if not bool(matrix.isfinite().all()):
        return float("inf")
    values = torch.linalg.svdvals(matrix.float())
    return float(values[0] / values[-1]) if values[-1] > 0 else float("inf")
