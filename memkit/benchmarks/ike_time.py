"""IKE's time editing: the same cloze for several years (Zheng et al., EMNLP 2023).

arXiv:2305.12740; derived from TempLAMA (Dhingra et al., TACL 2022) and Wikidata, no licence stated,
github.com/Zce1112zslx/IKE, time_editing.json: a list of groups, one subject and relation each.

    [[{query "Ada plays for _X_.", answer [{wikidata_id, name}], date "2010", id, relation}, ...]]

TimedCase   a group: every year's fact in order, all but the last known; asked are every year by
            name, and the last one without ("Ada plays for")
Fact        the last year's; its subject is what stands before the relation's wording, or all of the
            prompt where that is another
Passage     "In 2010, Ada plays for Lima."
"""

from __future__ import annotations

import json
import os
from itertools import islice

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.happenings import TimedCase, TimedFact, TimedQuestion, Valid
from memkit.benchmarks.records import Record, read_text, to_records
from memkit.errors import BadInput
from memkit.types import Fact

__all__ = ["URL", "load"]

URL = "https://github.com/Zce1112zslx/IKE (time_editing.json)"
GAP = "_X_"
WORDINGS = {"P54": " plays for", "P108": " works for", "P39": " holds the position of"}


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """The groups from the file. `limit`: first groups; one of a single year is left out.

    Raises `BadInput` as `memkit.benchmarks.load` says, and for a query that does not end in its
    gap.
    """
    if path is None or split is not None:
        raise BadInput(
            f"ike_time has path {path!r} and split {split!r}; allowed: a file, and no split. "
            f"Download {URL} and name that file: load('ike_time', path=...)."
        )
    try:
        groups = json.loads(read_text(path, "ike_time"))
    except json.JSONDecodeError as error:
        raise BadInput(
            f"{str(path)!r} is no JSON ({error}); allowed: a JSON list. Get the file again."
        ) from error
    if not isinstance(groups, list) or not all(isinstance(group, list) for group in groups):
        raise BadInput(
            f"{str(path)!r} is no list of lists; allowed: a list with a list for each group. Check "
            "that this file is the benchmark that was named."
        )
    cases = []
    for number, group in enumerate(islice(groups, limit), start=1):
        where = f"{str(path)!r}, group {number}"
        records = to_records(enumerate(group, start=1), where, "id")
        if len(records) > 1:
            cases.append(_case(sorted(records, key=_year), where))
    return Benchmark(
        "ike_time",
        facts=tuple(fact for case in cases for fact in case.edits),
        passages=tuple(passage for case in cases for passage in case.passages),
        cases=tuple(cases),
    )


def _case(records: list[Record], where: str) -> TimedCase:
    history, questions = [], []
    for record in records:
        timed, names = _timed(record), tuple(each.text("name") for each in record.items("answer"))
        last = record is records[-1]
        when = "current" if last else "historical"
        questions.append(TimedQuestion(timed.dated, names, when, explicit=True))  # type: ignore[arg-type]
        if last:
            questions.append(TimedQuestion(timed.fact.text, names, "current", explicit=False))
        history.append(timed)
    return TimedCase(tuple(history), tuple(questions), len(history) - 1, f"ike-{records[0].id}")


def _timed(record: Record) -> TimedFact:
    query, year = record.text("query"), _year(record)
    before, gap, after = query.partition(GAP)
    if not gap or after.strip(" .") or not before.strip():
        raise BadInput(
            f"{record.where}: query is {query!r}; allowed: text that ends in {GAP!r}. Correct the "
            "row, or take it out."
        )
    names = [each.text("name") for each in record.items("answer")]
    if not names:
        raise BadInput(f"{record.where} has no answer; allowed: at least one. Take it out.")
    prompt = before.strip()
    relation = next(iter(record.texts("relation")), None)
    subject = prompt.removesuffix(WORDINGS.get(relation or "", "")).strip() or prompt
    fact = Fact(subject, prompt, names[0], relation=relation, id=record.id)
    return TimedFact(fact, Valid(year, year), f"In {year}, {prompt}")


def _year(record: Record) -> int:
    text = record.text("date")
    if not text.isdigit():
        raise BadInput(f"{record.where}: date is {text!r}; allowed: a year. Correct the row.")
    return int(text)
