"""AToKe: facts that follow each other in time (Yin et al., AAAI 2024, "History Matters").

arXiv:2312.05497; no licence stated, github.com/Arvid-pku/ATOKE, datasets/AToKe-{SE,ME,EE}.json:
single edits, several one after the other, and facts whose time alone is extended.

    {case_id, requested_rewrite [{prompt "{} ...", subject, relation_id, target_new {str},
     target_true {str}, time_new {since, until}, time_true {since, until}, evaluation}],
     history_evaluation [...], answer, answer_alias, new_answer, new_answer_alias}

    evaluation: {completion, questions, paraphrase_completion, time_completion, time_questions,
     paraphrase_time_completion}

TimedCase   the first rewrite's `target_true` and then every `target_new`; asked are the last
            rewrite's evaluation (current) and every `history_evaluation` (historical)
Fact        every rewrite, target is `target_new`
Passage     every fact of the history, with its years
"""

from __future__ import annotations

import os

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.edits import edit
from memkit.benchmarks.happenings import TimedCase, TimedFact, TimedQuestion, Valid
from memkit.benchmarks.records import Record, read
from memkit.errors import BadInput
from memkit.types import Fact

__all__ = ["FORMS", "URL", "load"]

URL = "https://github.com/Arvid-pku/ATOKE (datasets)"
# field, whether it names the time, whether it is a paraphrase
FORMS = {
    "completion": (
        ("completion", False, False),
        ("time_completion", True, False),
        ("paraphrase_completion", False, True),
        ("paraphrase_time_completion", True, True),
    ),
    "questions": (("questions", False, False), ("time_questions", True, False)),
}


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """AToKe from one of its files; `split` None or "completion" asks clozes, "questions" questions.

    Raises `BadInput` as `memkit.benchmarks.load` says, and for a row with a time that is no year.
    """
    form = split or "completion"
    if form not in FORMS:
        raise BadInput(
            f"split is {split!r} for atoke; allowed: {', '.join(map(repr, FORMS))}, or None. "
            "Choose one."
        )
    records = read("atoke", path, None, url=URL, key="case_id")[:limit]
    cases = tuple(_case(record, form) for record in records)
    return Benchmark(
        "atoke",
        facts=tuple(fact for case in cases for fact in case.edits),
        passages=tuple(passage for case in cases for passage in case.passages),
        cases=cases,
    )


def _case(record: Record, form: str) -> TimedCase:
    rewrites, past = record.items("requested_rewrite"), record.items("history_evaluation")
    if not rewrites or len(past) not in (0, len(rewrites)):
        raise BadInput(
            f"{record.where} has {len(rewrites)} requested_rewrite and {len(past)} "
            "history_evaluation; allowed: at least one, and as many or none. Correct the row."
        )
    history, questions, alone = [], [], len(rewrites) == 1
    for number, (rewrite, before) in enumerate(zip(rewrites, past, strict=False)):
        if number == 0:
            history.append(_timed(record, rewrite, "true", before, "old"))
        name = rewrite.inner("target_true").text("str")
        old = _names(record, "answer", number, name, alone=alone)
        questions += _questions(before, form, old, historical=True)
    for number, rewrite in enumerate(rewrites):
        own = rewrite.inner("evaluation")
        history.append(_timed(record, rewrite, "new", own, str(number)))
    last = len(rewrites) - 1
    name = rewrites[-1].inner("target_new").text("str")
    new = _names(record, "new_answer", last, name, alone=alone)
    questions += _questions(rewrites[-1].inner("evaluation"), form, new, historical=False)
    try:
        return TimedCase(tuple(history), tuple(questions), int(bool(past)), f"atoke-{record.id}")
    except BadInput as error:
        raise BadInput(f"{record.where}: {error}") from error


def _timed(record: Record, rewrite: Record, which: str, asked: Record, name: str) -> TimedFact:
    """The old or the new fact of a rewrite, with its time."""
    found = edit(
        Record(rewrite.where, f"{record.id}/{name}", rewrite.fields),
        rewrite.text("subject"),
        rewrite.text("prompt"),
        target=rewrite.inner(f"target_{which}").text("str"),
        relation=next(iter(rewrite.texts("relation_id")), None),
        previous=rewrite.inner("target_true").text("str") if which == "new" else None,
    )
    if not isinstance(found, Fact):
        raise BadInput(f"{rewrite.where}: {found}; allowed: a prompt with '{{}}'. Correct the row.")
    time = rewrite.inner(f"time_{which}")
    since, until = (_year(time, bound) for bound in ("since", "until"))
    try:
        valid = Valid(since, until)
    except BadInput as error:
        raise BadInput(f"{time.where}: {error}") from error
    return TimedFact(found, valid, asked.text("time_completion"))


def _year(time: Record, bound: str) -> int | None:
    value = time.fields.get(bound)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise BadInput(
            f"{time.where}: {bound} is {value!r}; allowed: a year, or null where it is open. "
            "Correct the row."
        )
    return value


def _questions(
    asked: Record, form: str, answers: tuple[str, ...], *, historical: bool
) -> list[TimedQuestion]:
    """The questions of an evaluation; a wording that is not there is left out."""
    found = ((asked.texts(name), explicit, other) for name, explicit, other in FORMS[form])
    when = "historical" if historical else "current"
    return [
        TimedQuestion(texts[0], answers, when, explicit, other)  # type: ignore[arg-type]
        for texts, explicit, other in found
        if texts
    ]


def _names(record: Record, field: str, number: int, name: str, *, alone: bool) -> tuple[str, ...]:
    """The names that answer a rewrite's question, its target first; `alone`: there is no other."""
    found = [name]
    for key in (field, f"{field}_alias"):
        rows = record.fields.get(key) or []
        if isinstance(rows, str) or not any(isinstance(row, list) for row in rows):
            # of a single edit these may be a name, or its names, and not a list of lists
            found += record.texts(key) if alone else ()
        elif number < len(rows):
            found += Record(f"{record.where}, {key}", "", {key: rows[number]}).texts(key)
    return tuple(dict.fromkeys(found))
