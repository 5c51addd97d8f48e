"""Lifelong editing: one error after the other, and what is left of the model and of the edits.

Source: Hartvigsen, Sankaranarayanan, Palangi, Kim and Ghassemi, NeurIPS 2023 (arXiv:2211.11031),
section 3. The facts of a stream come in order. Where the model is wrong it is edited, on one
handle; where it is right already, nothing happens, so that the number of edits differs between
editors. Every `every` edits and at the end of the stream:

    TRR      test retention: the upstream test data
    ERR      edit retention: all facts that were edited so far, each by its own prompt (a prompt
             that came twice by its newest target; an edit that a guard refused counts too)
    ES       edit success: the mean over the edits so far of the score right after each
    ARR      accuracy retention: what the model was right about before
    holdout  the facts that came so far, edited or not, in other words

Scores are the stream's metric: token F1 of free, greedy generation up to a stop string (a full stop
or a line break by default), a classifier's accuracy, or the perplexity of the expected text. A
table's first row is the unedited model on the cases of the last one. Intervals (95 %) are by
resampling cases.

Departures from the GRACE code, which `rules="official"` takes back:
- A question is edited where the model's answer is no exact match. There generated ids are compared
  with the label's padded ids, and are always found different.
- F1 is of words, normalised. There it is of distinct token ids, the end token among them, so that a
  wrong answer of two tokens scores 0.33 and more (`memkit.metrics.grace_f1`).
- A mean of perplexities is the geometric one. There it is the arithmetic one.
Not taken back: there GRACE's key may be the answer's first token (see `memkit.GRACE`), and streams
are shuffled without a seed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memkit.errors import BadInput, EditRejected
from memkit.files import building
from memkit.lm.checks import check_count, check_stops
from memkit.progress import track
from memkit.protocols.editing_modes import check_writes
from memkit.protocols.lifelong_judges import JUDGES, Case, Judge, Rules
from memkit.protocols.lifelong_result import (
    Checkpoint,
    LifelongRecord,
    LifelongResult,
    checkpoint,
    summary,
)
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.benchmarks.base import Stream
    from memkit.editors.base import Edit, Editor
    from memkit.lm.model import LM

__all__ = ["lifelong"]

STATE, EDIT, RESULT = "state.json", "edit", "result.json"
PREFIX = "checkpoint-"


def lifelong(
    lm: LM,
    editor: Editor,
    stream: Stream,
    *,
    edits: int = 1000,
    every: int = 50,
    rules: Rules = "memkit",
    max_new_tokens: int = 16,
    stop: str | Sequence[str] = ("\n", "."),
    fit_on: int = 8,
    out: str | os.PathLike[str] | None = None,
    samples: int = 1000,
    seed: int = 0,
    batch_size: int = 32,
) -> LifelongResult:
    """Edit a model along a stream, as the module says; the model is afterwards as it was.

    At most `edits` edits are tried. What is None in the editor is chosen once, on the first
    `fit_on` facts. `samples` resamples, drawn from `seed`, make the intervals. In the folder `out`
    the result is written as result.json, and before that at every checkpoint what is needed to go
    on from there: a call with the same arguments then gives the same figures, and one after the end
    reads them.

    Raises `BadInput` for an empty stream, labels that the model does not have, a parameter that is
    not allowed, or an `out` that belongs to another run; `UnsupportedModel` for a model that cannot
    be edited or scored so. After any error the model is as it was.
    """
    counts = {"edits": edits, "every": every, "max_new_tokens": max_new_tokens, "fit_on": fit_on}
    for name, count in {**counts, "samples": samples, "batch_size": batch_size}.items():
        check_count(name, count)
    if rules not in ("memkit", "official"):
        raise BadInput(f"rules is {rules!r}; allowed: 'memkit' or 'official'. Choose one.")
    if not stream.edits or not stream.upstream:
        raise BadInput(
            f"the stream {stream.name!r} has {len(stream.edits)} edits and {len(stream.upstream)} "
            "test cases; allowed: at least one of each. Load it whole."
        )
    check_writes(editor)
    settings = {**counts, "rules": rules, "stop": list(check_stops(stop)), "seed": seed}
    judge = JUDGES[stream.metric](lm, rules, max_new_tokens, check_stops(stop), batch_size)
    run = Run.of(judge, editor, stream, settings, None if out is None else Path(out), samples)
    return run.result()


@dataclass
class Run:
    """A run along a stream: what is asked, and how far it is."""

    judge: Judge
    editor: Editor
    stream: Stream
    settings: Mapping[str, Any]
    out: Path | None
    samples: int
    facts: Sequence[Fact]
    asked: Mapping[str, Sequence[Case]]
    holdout: Sequence[tuple[str | None, Case]]
    chosen: Mapping[str, str] = field(default_factory=dict)
    records: list[LifelongRecord] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        judge: Judge,
        editor: Editor,
        stream: Stream,
        settings: Mapping[str, Any],
        out: Path | None,
        samples: int,
    ) -> Run:
        """Check all that will be asked, before anything is changed."""
        from memkit.editors.tokens import check_facts  # loads torch

        facts = [judge.fact(fact) for fact in stream.edits]
        for fact in facts:
            check_facts(judge.lm, [fact])
            judge.case(fact)
        asked = {
            "TRR": [judge.case(question) for question in stream.upstream],
            "ARR": [judge.case(question) for question in stream.accurate],
        }
        holdout = [(question.id, judge.case(question)) for question in stream.holdout]
        return cls(judge, editor, stream, settings, out, samples, facts, asked, holdout)

    def result(self) -> LifelongResult:
        """Run, or go on, or read what was found."""
        identity = self._identity()
        if self.out is not None and (self.out / RESULT).is_file():
            found = LifelongResult.load(self.out / RESULT)
            self._check({**found.settings, **found.identity}, identity)
            return found
        edit = self._resumed(identity) or self._begun()
        try:
            self._follow(edit, identity)
            with edit.paused() if edit.steps else contextlib.nullcontext():
                unedited = self._measured(0, None, es=False)
        finally:
            edit.rollback()
        found = LifelongResult(
            stream=self.stream.name,
            metric=self.stream.metric,
            model=repr(self.judge.lm),
            editor=repr(edit.editor),
            settings=self.settings,
            identity=identity,
            chosen=self.chosen,
            checkpoints=(unedited, *self.checkpoints),
            records=tuple(self.records),
        )
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            _write(self.out / RESULT, found.to_dict())
            for folder in self.out.glob(f"{PREFIX}*"):
                shutil.rmtree(folder)
        return found

    def _begun(self) -> Edit:
        """A handle that nothing is written through yet."""
        from memkit.editors.base import Edit

        lm, first = self.judge.lm, self.facts[: self.settings["fit_on"]]
        Edit(self.editor, lm)  # says so if the editor does not serve the model
        editor, self.chosen = self.editor.fitted(lm, first)
        return Edit(editor, lm)

    def _follow(self, edit: Edit, identity: Mapping[str, str]) -> None:
        """The rest of the stream."""
        limit, every = self.settings["edits"], self.settings["every"]
        done = sum(record.wrong for record in self.records)
        rest = range(len(self.records), len(self.facts))
        for place in track(rest, f"{type(self.editor).__name__} on {self.stream.name}"):
            if done == limit:
                break
            record = self._met(edit, place)
            self.records.append(record)
            done += record.wrong
            if record.wrong and done % every == 0:
                self.checkpoints.append(self._measured(done, record.keys))
                self._save(edit, identity)
        if not self.checkpoints or self.checkpoints[-1].edits < done or done == 0:
            keys = [record.keys for record in self.records if record.keys is not None]
            self.checkpoints.append(self._measured(done, keys[-1] if keys else None))

    def _met(self, edit: Edit, place: int) -> LifelongRecord:
        """One fact that comes: it is edited if the model is wrong."""
        fact = self.facts[place]
        case = self.judge.case(fact)
        record = LifelongRecord(place, fact.id, fact.text, fact.target, self.judge.wrong(case))
        if not record.wrong:
            return record
        rejected = seconds = keys = None
        try:
            report = edit.add([fact]).steps[-1].report
            seconds = report.seconds
            number = report.facts[0].details.get("keys")
            keys = None if number is None else int(number)
        except EditRejected as error:
            rejected = str(error)
        (score,) = self.judge.scores([case])
        return dataclasses.replace(
            record, rejected=rejected, score=score, seconds=seconds, keys=keys
        )

    def _measured(self, edits: int, keys: int | None, *, es: bool = True) -> Checkpoint:
        """The model as it is, on all that came so far."""
        came = {record.id for record in self.records}
        edited = {
            record.prompt: Case(record.prompt, (record.target,))
            for record in self.records
            if record.wrong
        }
        asked = {
            "TRR": self.asked["TRR"],
            "ERR": list(edited.values()),
            "ARR": self.asked["ARR"],
            "holdout": [case for id, case in self.holdout if id is None or id in came],
        }
        scores = {name: tuple(self.judge.scores(cases)) for name, cases in asked.items() if cases}
        own = [record.score for record in self.records if record.score is not None]
        if own and es:
            scores["ES"] = tuple(own)
        seconds = [record.seconds for record in self.records if record.seconds is not None]
        metric, rules, seed = self.stream.metric, self.judge.rules, self.settings["seed"]
        return Checkpoint(
            edits=edits,
            seen=len(self.records),
            rejected=sum(record.rejected is not None for record in self.records),
            keys=keys,
            seconds=sum(seconds) / len(seconds) if seconds and es else None,
            cells={
                name: summary(row, metric, rules, self.samples, seed)
                for name, row in scores.items()
            },
            scores=scores,
        )

    def _save(self, edit: Edit, identity: Mapping[str, str]) -> None:
        """Write what is needed to go on from here; the checkpoint before it then goes."""
        if self.out is None:
            return
        older = list(self.out.glob(f"{PREFIX}*"))
        with building(self.out / f"{PREFIX}{len(self.records):06}") as folder:
            if edit.steps:
                edit.save(folder / EDIT)
            state = {
                "settings": {**self.settings, **identity},
                "editor": repr(edit.editor),
                "chosen": self.chosen,
                "records": [dataclasses.asdict(record) for record in self.records],
                "checkpoints": [dataclasses.asdict(row) for row in self.checkpoints],
            }
            _write(folder / STATE, state)
        for folder in older:
            shutil.rmtree(folder)

    def _resumed(self, identity: Mapping[str, str]) -> Edit | None:
        """The handle of the newest checkpoint, live, if there is one."""
        from memkit.editors.artefact import load_edit
        from memkit.editors.base import Edit
        from memkit.editors.rebuilding import rebuilt

        found = sorted(self.out.glob(f"{PREFIX}*")) if self.out is not None else []
        if not found:
            return None
        folder = found[-1]
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        self._check(state["settings"], identity)
        self.records = [LifelongRecord(**row) for row in state["records"]]
        self.checkpoints = [checkpoint(row) for row in state["checkpoints"]]
        self.chosen = state["chosen"]
        if (folder / EDIT).is_dir():
            return load_edit(folder / EDIT).apply(self.judge.lm)
        return Edit(rebuilt(state["editor"]), self.judge.lm)

    def _identity(self) -> dict[str, str]:
        """What a run is of: two that differ in it must not be mixed."""
        rows = json.dumps(dataclasses.asdict(self.stream), sort_keys=True)
        return {
            "weights": self.judge.lm.fingerprint(),
            "stream": hashlib.sha256(rows.encode()).hexdigest(),
            "given": repr(self.editor),
        }

    def _check(self, found: Mapping[str, Any], identity: Mapping[str, str]) -> None:
        """Raise `BadInput` if what lies in `out` is of another run."""
        wanted = json.loads(json.dumps({**self.settings, **identity}))
        for name, value in wanted.items():
            if found.get(name) != value:
                raise BadInput(
                    f"{str(self.out)!r} holds a run whose {name} is {found.get(name)!r}, and this "
                    f"one's is {value!r}; allowed: the same arguments. Name another folder."
                )


def _write(path: Path, values: Mapping[str, Any]) -> None:
    """JSON, whole or not at all."""
    aside = path.with_name(f".{path.name}")
    aside.write_text(json.dumps(values, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(aside, path)
