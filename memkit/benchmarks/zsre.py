"""zsRE: questions of zero-shot relation extraction as edits (Levy et al., CoNLL 2017).

As MEND (Mitchell et al., ICLR 2022, arXiv:2110.11309) made edits of them. Two forms:

MEND        {subject, src, pred, rephrase, alt, answers, loc "nq question: ...", loc_ans, cond} and,
            where EasyEdit added it, portability {"Recalled Relation", "New Question", "New Answer"}
KnowEdit    {subject, prompt, target_new, ground_truth, rephrase_prompt, cond, locality,
            portability}, see `memkit.benchmarks.knowedit`

**Toolkits edit towards different targets**, and so there are two names:

zsre                    the true answer, `answers[0]` (KnowEdit: `ground_truth`): as ROME and MEMIT
zsre-counterfactual     the false one, `alt` (KnowEdit: `target_new`), which replaces the true one:
                        as EasyEdit. The same as the true one in some rows

Fact        portability belongs to the false answer, and only "zsre-counterfactual" has it.
            Locality keeps the "nq question: " before the question, as both toolkits do; ROME also
            puts a "?" behind it
Question    `src` with the answers that the edit should give: of "zsre" all true ones

MEND's `pred`, what the model to be edited says there, is left out. Ids are the numbers of the rows.
"""

from __future__ import annotations

import os

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.edits import edit, gather, pairs
from memkit.benchmarks.knowedit import probes
from memkit.benchmarks.records import Record, read
from memkit.types import Fact, Question

__all__ = ["URL", "load", "load_counterfactual"]

URL = "https://rome.baulab.info/data/dsets/zsre_mend_eval.json"


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """zsRE with true targets, from a file in either form; `URL` has one. `limit`: the first rows.

    Raises `BadInput` as `memkit.benchmarks.load` says, and without a path.
    """
    return gather("zsre", read("zsre", path, split, url=URL)[:limit], _true)


def load_counterfactual(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """The same file with false targets. A row without one gives nothing, as in EasyEdit.

    Raises `BadInput` as `load`.
    """
    name = "zsre-counterfactual"
    return gather(name, read(name, path, split, url=URL)[:limit], _counterfactual)


def _true(record: Record) -> tuple[Fact | str, Question]:
    field = "answers" if _is_mends(record) else "ground_truth"
    record.text(field)  # there is one
    return _convert(record, tuple(dict.fromkeys(record.texts(field))))


def _counterfactual(record: Record) -> tuple[Fact | str, Question | None]:
    mends = _is_mends(record)
    field = "alt" if mends else "target_new"
    if field in record.fields and not record.texts(field):
        return f"{field} is empty", None
    if mends:
        portability = pairs([record.inner("portability")], "New Question", "New Answer")
    else:
        portability = probes(record, "portability")
    return _convert(
        record,
        (record.text(field),),
        previous=record.text("answers" if mends else "ground_truth"),
        portability=portability,
    )


def _is_mends(record: Record) -> bool:
    return "src" in record.fields


def _convert(
    record: Record,
    answers: tuple[str, ...],
    previous: str | None = None,
    portability: tuple[tuple[str, str], ...] = (),
) -> tuple[Fact | str, Question]:
    """What both targets share."""
    mends = _is_mends(record)
    subject, prompt = record.text("subject"), record.text("src" if mends else "prompt")
    fact = edit(
        record,
        subject,
        prompt,
        target=answers[0],
        previous=previous,
        paraphrases=record.texts("rephrase" if mends else "rephrase_prompt"),
        locality=pairs([record], "loc", "loc_ans") if mends else probes(record, "locality"),
        portability=portability,
    )
    return fact, Question(prompt, answers=answers, subject=subject, id=record.id)
