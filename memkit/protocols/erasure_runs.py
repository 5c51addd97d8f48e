"""How the erasure protocol measures a model: all that is asked, and what is live while it is."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from memkit.errors import EditRejected
from memkit.metrics import exact_match, generation_entropy
from memkit.progress import track
from memkit.prompts import Template
from memkit.protocols.editing_probes import Interview, first_answer
from memkit.protocols.erasure_probes import Answers, ask, forgetting, verdict
from memkit.protocols.erasure_result import ErasureRow, row_cells
from memkit.protocols.toxicity import TOXIC, Detector, repetition
from memkit.protocols.truth import Exam
from memkit.types import Fact, Question

if TYPE_CHECKING:
    from memkit.editors.base import Edit, Editor
    from memkit.lm.model import LM

__all__ = ["UNEDITED", "Battery", "Run", "is_edit"]

UNEDITED = "unedited"
ESSAY = 100  # tokens
LONGEST = 700.0  # nats a token
OWN_ALONE: Mapping[str, Any] = {"paraphrases": (), "portability": (), "locality": ()}

Scores = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Battery:
    """All that is asked of a model."""

    exam: Exam
    facts: Sequence[Fact]
    objects: Mapping[str, Sequence[str]]
    relearn: tuple[Editor, Sequence[Fact]] | None
    questions: Sequence[Question]
    instructions: Sequence[Question]
    texts: Sequence[str]
    prompts: Sequence[str]
    detector: Detector | None
    judge: LM | None
    template: Template
    max_new_tokens: int
    stop: tuple[str, ...]
    batch_size: int

    def interview(self, lm: LM) -> Interview:
        """How a model is asked about facts."""
        return Interview(lm, self.max_new_tokens, self.stop, {}, self.batch_size)

    def ask(self, lm: LM, facts: Sequence[Fact]) -> list[Answers]:
        """What it answers; "relearnt" is what it answers to the own prompt after the lessons."""
        interview = self.interview(lm)
        found = ask(interview, facts, self.objects)
        if self.relearn is None or not facts:
            return found
        editor, lessons = self.relearn
        with editor.apply(lm, lessons):
            after = ask(interview, [replace(fact, **OWN_ALONE) for fact in facts], {})
        return [
            answers.and_also("relearnt", own.prompts[0], own.texts[0], own.right[0])
            for answers, own in zip(found, after, strict=True)
        ]

    def general(self, lm: LM) -> Scores:
        """All but the facts."""
        found: Scores = {}
        if self.exam.references:
            found |= self.exam.scores(lm, self.judge)
        if self.detector is not None and self.prompts:
            found |= self._toxicity(lm, self.detector)
        if self.questions:
            asked = [self.template.render(question.text) for question in self.questions]
            found["exact_match"] = self._right(lm, asked, self.questions)
        if self.instructions:
            asked = [question.text for question in self.instructions]
            found["instructions"] = self._right(lm, asked, self.instructions)
        return found | self.nats(lm)

    def nats(self, lm: LM) -> Scores:
        """Of each text the mean negative log-likelihood (nats) of a token."""
        if not self.texts:
            return {}
        return {"perplexity": [_nats(lm, text) for text in self.texts]}

    def fluency(self, lm: LM, facts: Sequence[Fact]) -> list[float]:
        """GE of what is written after each fact's prompt."""
        return [generation_entropy(text) for text in self.interview(lm).essays(facts, ESSAY)]

    def _right(self, lm: LM, asked: Sequence[str], questions: Sequence[Question]) -> list[float]:
        made = lm.generate(asked, self.max_new_tokens, self.stop, self.batch_size)
        return [
            exact_match(first_answer(text, self.stop, question.answers), question.answers)
            for text, question in zip(made, questions, strict=True)
        ]

    def _toxicity(self, lm: LM, detector: Detector) -> Scores:
        made = lm.generate(self.prompts, self.exam.max_new_tokens, ("\n",), self.batch_size)
        found = detector(made)
        return {
            "toxicity": found,
            "toxic": [float(score > TOXIC) for score in found],
            "repetition": [repetition(lm.tokenizer(text).input_ids) for text in made],
        }


@dataclass(frozen=True, slots=True)
class Run:
    """A run: what the unedited model says, and then every row."""

    lm: LM
    battery: Battery
    refusal: str | None
    samples: int
    seed: int
    single: bool

    def rows(self, rows: Mapping[str, Any]) -> Iterator[ErasureRow]:
        """The unedited model's row, and each of the others."""
        battery = self.battery
        with without(self.lm, [row for row in rows.values() if is_edit(row)]):
            general = battery.general(self.lm)
            if self.single:  # one value a fact, as of the editors
                general = {k: _mean(v) * len(battery.facts) for k, v in general.items()}
            before = battery.ask(self.lm, battery.facts)
            yield self._row(UNEDITED, repr(self.lm), general, before, before, self._fluency())
        for name, row in track(list(rows.items()), "measuring"):
            if self.single:
                yield self._one_by_one(name, row, before)
            else:
                yield self._whole(name, row, before)

    def _whole(self, name: str, row: Any, before: Sequence[Answers]) -> ErasureRow:
        """A row that is one model."""
        battery, rejected, warnings = self.battery, [], list[str]()
        with contextlib.ExitStack() as stack:
            try:
                lm, warnings = stack.enter_context(self._live(row, battery.facts))
            except EditRejected as error:
                lm, rejected = self.lm, [str(error)]
            general = battery.general(lm)
            now = battery.ask(lm, battery.facts)
            fluency = battery.fluency(lm, battery.facts) if battery.facts else []
        return self._row(name, repr(row), general, before, now, fluency, rejected, warnings)

    def _one_by_one(self, name: str, editor: Editor, before: Sequence[Answers]) -> ErasureRow:
        """An editor that erases every fact alone; perplexity is of each the mean over the texts."""
        battery = self.battery
        now, rejected, warnings = list[Answers](), list[str](), list[str]()
        fluency, nats = list[float](), list[float]()
        for fact in battery.facts:
            with contextlib.ExitStack() as stack:
                try:
                    lm, told = stack.enter_context(self._live(editor, [fact]))
                    warnings += told
                except EditRejected as error:
                    lm = self.lm
                    rejected.append(str(error))
                now += battery.ask(lm, [fact])
                fluency += battery.fluency(lm, [fact])
                nats += _mean(battery.nats(lm).get("perplexity", []))
        general: Scores = {"perplexity": nats} if nats else {}
        return self._row(name, repr(editor), general, before, now, fluency, rejected, warnings)

    @contextlib.contextmanager
    def _live(self, row: Any, facts: Sequence[Fact]) -> Iterator[tuple[LM, list[str]]]:
        """The model of a row, within the block, and the warnings that came with it."""
        from memkit.editors.base import Editor
        from memkit.lm.model import LM

        if isinstance(row, LM):
            yield row, []
        elif is_edit(row):
            newer = self.lm.edits[self.lm.edits.index(row) + 1 :]
            with without(self.lm, newer):
                yield self.lm, list(row.report.warnings)
        elif isinstance(row, Editor):
            written = facts if row.erases else [self._refused(fact) for fact in facts]
            with row.apply(self.lm, written) as edit:
                yield self.lm, list(edit.report.warnings)
        else:
            with row.apply(self.lm) as edit:
                yield self.lm, list(edit.report.warnings)

    def _refused(self, fact: Fact) -> Fact:
        from memkit.editors.erasing import erasing

        return erasing(fact) if self.refusal is None else erasing(fact, self.refusal)

    def _fluency(self) -> list[float]:
        return self.battery.fluency(self.lm, self.battery.facts) if self.battery.facts else []

    def _row(
        self,
        name: str,
        what: str,
        general: Scores,
        before: Sequence[Answers],
        now: Sequence[Answers],
        fluency: Sequence[float],
        rejected: Sequence[str] = (),
        warnings: Sequence[str] = (),
    ) -> ErasureRow:
        pairs = list(zip(before, now, strict=True))
        scores: Scores = dict(general)
        for old, new in pairs:
            for score, value in forgetting(old, new).items():
                scores.setdefault(score, []).append(value)
        if fluency:
            scores["fluency"] = list(fluency)
        return ErasureRow(
            name=name,
            what=what,
            scores={score: tuple(values) for score, values in scores.items()},
            cells=row_cells(scores, self.samples, self.seed),
            verdicts=tuple(verdict(old, new) for old, new in pairs),
            answers=tuple(now),
            rejected=tuple(rejected),
            warnings=tuple(dict.fromkeys(warnings)),
        )


def _nats(lm: LM, text: str) -> float:
    """Of a broken model it is `LONGEST`: beyond, exp has no floating-point number."""
    try:
        perplexity = lm.perplexity([text])
    except OverflowError:
        return LONGEST
    return LONGEST if math.isnan(perplexity) else min(LONGEST, math.log(perplexity))


def _mean(values: Sequence[float]) -> list[float]:
    """The mean as a list, which is empty where there is nothing."""
    return [sum(values) / len(values)] if values else []


def is_edit(row: object) -> bool:
    """Whether it is the handle of an edit."""
    from memkit.editors.base import Edit

    return isinstance(row, Edit)


@contextlib.contextmanager
def without(lm: LM, edits: Sequence[Edit]) -> Iterator[None]:
    """The model without these live edits, which are its newest, within the block."""
    with contextlib.ExitStack() as stack:
        for edit in [edit for edit in reversed(lm.edits) if edit in edits]:
            stack.enter_context(edit.paused())
        yield
